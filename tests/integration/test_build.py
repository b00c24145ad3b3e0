"""``build``: each instruction and form, against a real engine; by the wherry CLI, the docker CLI and docker-py."""

import base64
import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import WHERRY, Engine

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


class Builder:
    """Builds from texts: ``builder("FROM busybox…", {"name": "content"}, "--tag", "x")``, and looks into the result."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def __call__(
        self, text: str, files: Mapping[str, str] | None = None, *arguments: str, check: bool = True, **options: Any
    ) -> Finished:
        self.write(files or {})
        (self.context / "Dockerfile").write_text(text)
        return self.engine.wherry(
            "build", "--network", "none", "--tag", "built", "--progress", "plain", *arguments, str(self.context),
            check=check, **options,
        )  # fmt: skip

    def shows(self, *command: str) -> str:
        """What a command prints in the image ``built``."""
        return self.engine.wherry("run", "--rm", "--network", "none", "built", *command, check=True).stdout

    def image(self, name: str = "built") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.wherry("image", "inspect", name, check=True).stdout)[0]
        return found

    def files(self, name: str = "built") -> dict[str, tarfile.TarInfo]:
        """All that is in it, as ``--output`` gives it."""
        answer = self.engine.request("GET", f"/build/files?image={name}")
        assert answer.status == 200, answer
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            return {member.name: member for member in tar}


@pytest.fixture
def build(engine: Engine, busybox: str, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(engine, tmp_path)
    yield builder
    engine.wherry("rmi", "--force", "built")


def cached(finished: Finished) -> list[int]:
    """The numbers of the steps that were found in the cache."""
    lines = [line for line in finished.stderr.splitlines() if line.endswith(" CACHED")]
    return sorted(int(line[1:].split()[0]) for line in lines)


# --- RUN


def test_run_forms(build: Builder) -> None:
    build('FROM busybox\nRUN echo shell $0 > /a\nRUN ["/bin/sh", "-c", "echo exec $0 > /b"]\n')
    assert build.shows("cat", "/a", "/b") == "shell /bin/sh\nexec /bin/sh\n"


def test_heredocs(build: Builder) -> None:
    build(
        "FROM busybox\n"
        "ENV NAME=world\n"
        "RUN <<EOF\necho one > /one\necho two > /two\nEOF\n"
        "RUN <<'SCRIPT'\n#!/bin/cat\nnot a shell $NAME\nSCRIPT\n"
        "RUN cat <<EOF > /three\nhello $NAME\nEOF\n"
        "COPY <<EOF /etc/hello\nhello ${NAME}\nEOF\n"
        'COPY <<"RAW" <<-TABS /many/\nraw $NAME\nRAW\n\ttabs\n\tTABS\n'
    )
    assert build.shows("cat", "/one", "/two", "/three", "/etc/hello", "/many/RAW", "/many/TABS") == (
        "one\ntwo\nhello world\nhello world\nraw $NAME\ntabs\n"
    )
    assert not any(name.startswith("dev/pipes") for name in build.files())


def test_run_leaves_nothing_of_what_was_mounted(build: Builder) -> None:
    build("FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\n"
          "RUN --mount=type=tmpfs,target=/some/where --mount=type=cache,target=/root/.cache echo x > /x\n")  # fmt: skip
    assert sorted(build.files()) == ["bin", "bin/sh", "dev", "proc", "sys", "x"]  # the three as Docker leaves them


def test_a_step_that_changes_nothing_makes_no_layer(build: Builder) -> None:
    build("FROM busybox\nRUN true\nWORKDIR /tmp\n")
    assert len(build.image()["RootFS"]["Layers"]) == 1


def test_cache_mounts_persist_and_can_be_private(build: Builder) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=cache,id={id},target=/c{more} echo > /c/$(ls /c | wc -l); ls /c | wc -l > /n\n"
    )
    for number in ("1", "2"):
        build(text.format(id=f"persist-{os.getpid()}", more=""), None, "--no-cache")
        assert build.shows("cat", "/n") == f"{number}\n"
    build(text.format(id=f"persist-{os.getpid()}", more=",sharing=locked"), None, "--no-cache")
    assert build.shows("cat", "/n") == "3\n"


def test_bind_mounts(build: Builder) -> None:
    build(
        "FROM busybox AS tool\nRUN mkdir /t && echo tool > /t/f && ln -s /etc/passwd /t/link\n"
        "FROM busybox\n"
        "RUN --mount=target=/ctx ! touch /ctx/x && cat /ctx/a > /1\n"
        "RUN --mount=target=/ctx,rw touch /ctx/x && ls /ctx > /2\n"
        "RUN --mount=from=tool,source=/t/f,target=/f cat /f > /3\n"
        "RUN --mount=from=busybox,source=/etc,target=/e cat /e/passwd | head -n1 > /4\n",
        {"a": "context\n"},
    )
    assert build.shows("cat", "/1", "/3", "/4") == "context\ntool\nroot:x:0:0:root:/root:/bin/sh\n"
    assert "x\n" in build.shows("cat", "/2")
    assert not (build.context / "x").exists()


def test_secrets(build: Builder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden")
    build(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=one stat -c '%a %u' /run/secrets/one > /mode; md5sum < /run/secrets/one > /sum\n"
        "RUN --mount=type=secret,id=two,env=TOKEN echo -n $TOKEN | wc -c > /length\n"
        "RUN --mount=type=secret,id=none,target=/none test ! -e /none\n",
        None, "--secret", f"id=one,src={tmp_path / 'secret'}", "--secret", "id=two,env=GIVEN", env={"GIVEN": "12345"},
    )  # fmt: skip
    digest = hashlib.md5(b"hidden").hexdigest()
    assert build.shows("cat", "/mode", "/sum", "/length") == f"400 0\n{digest}  -\n5\n"
    assert "run/secrets" not in build.files()
    assert "hidden" not in json.dumps(build.image())


def test_a_required_secret_that_is_missing(build: Builder) -> None:
    finished = build("FROM busybox\nRUN --mount=type=secret,id=x,required=true true\n", check=False)
    assert finished.returncode == 1
    assert "secret x: not found" in finished.stderr and "Dockerfile:2" in finished.stderr


def test_ssh_agents(build: Builder, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        build(
            "FROM busybox\nUSER 1000\nRUN --mount=type=ssh,uid=1000 test -S $SSH_AUTH_SOCK && test -w $SSH_AUTH_SOCK\n",
            None, "--ssh", f"default={path}",
        )  # fmt: skip


def test_network_none_has_no_network(build: Builder) -> None:
    build("FROM busybox\nRUN --network=none ls /sys/class/net > /net\n")
    assert build.shows("cat", "/net") == "lo\n"


def test_insecure_runs_must_be_allowed(build: Builder) -> None:
    text = "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status > /caps\n"
    finished = build(text, check=False)
    assert finished.returncode == 1 and "--allow security.insecure" in finished.stderr
    build(text, None, "--allow", "security.insecure")


def test_extra_hosts_and_limits(build: Builder) -> None:
    build(
        "FROM busybox\nRUN grep extra /etc/hosts > /hosts; ulimit -n > /files\n", None,
        "--add-host", "extra:10.1.2.3", "--ulimit", "nofile=321:321", "--memory", "64m",
    )  # fmt: skip
    assert "10.1.2.3\textra" in build.shows("cat", "/hosts")
    assert build.shows("cat", "/files") == "321\n"


# --- COPY and ADD


def test_copy_flags_of_today(build: Builder) -> None:
    build(
        "FROM busybox\n"
        "COPY --exclude=*.md --exclude=sub/* src /excluded/\n"
        "COPY --parents src/sub/deep.txt ./src/./a.txt /parents/\n"
        "COPY --link src/a.txt /linked/\n"
        "COPY --chmod=u=rw,go=r src/run.sh /symbolic\n",
        {"src/a.txt": "a", "src/b.md": "b", "src/sub/deep.txt": "d", "src/run.sh": "r"},
    )
    names = set(build.files())
    assert {"excluded/a.txt", "excluded/run.sh"} <= names
    assert not {"excluded/b.md", "excluded/sub/deep.txt"} & names
    assert {"parents/src/sub/deep.txt", "parents/a.txt", "linked/a.txt"} <= names
    assert build.files()["symbolic"].mode == 0o644


def test_copy_of_what_is_not_there(build: Builder) -> None:
    finished = build("FROM busybox\nCOPY nowhere /\n", {"a": ""}, check=False)
    assert finished.returncode == 1
    assert '"/nowhere": not found' in finished.stderr and "2 | COPY nowhere /" in finished.stderr


def test_many_sources_need_a_directory(build: Builder) -> None:
    finished = build("FROM busybox\nCOPY a b /c\n", {"a": "", "b": ""}, check=False)
    assert finished.returncode == 1 and "must be a directory and end with a /" in finished.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()


def test_add_of_urls(build: Builder, server: str, tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "file.txt").write_text("from afar")
    with tarfile.open(served / "a.tar.gz", "w:gz") as tar:
        tar.add(served / "file.txt", "inside")
    digest = hashlib.sha256(b"from afar").hexdigest()
    build(
        f"FROM busybox\nADD {server}/file.txt /\nADD --checksum=sha256:{digest} {server}/file.txt /checked\n"
        f"ADD {server}/a.tar.gz /kept/\nADD --unpack=true {server}/a.tar.gz /unpacked/\n"
    )
    files = build.files()
    assert files["file.txt"].mode == 0o600 and {"checked", "kept/a.tar.gz", "unpacked/inside"} <= set(files)
    finished = build(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {server}/file.txt /\n", check=False)
    assert finished.returncode == 1 and "digest mismatch" in finished.stderr


def test_contexts_behind_urls(build: Builder, server: str, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "served" / "Dockerfile").write_text("FROM busybox\nRUN echo x > /x\n")
    with tarfile.open(tmp_path / "served" / "context.tar", "w") as tar:
        tar.add(tmp_path / "served" / "Dockerfile", "Dockerfile")
    for name in ("Dockerfile", "context.tar"):
        engine.wherry("build", "--network", "none", "--tag", "built", f"{server}/{name}", check=True)
        assert "x" in build.files()


# --- the context


def test_ways_to_give_the_context(build: Builder, engine: Engine, tmp_path: Path) -> None:
    build.write({"f": "content"})
    (tmp_path / "Elsewhere").write_text("FROM busybox\nCOPY f /from-elsewhere\n")
    text = "FROM busybox\nCOPY f /from-stdin\n"
    engine.wherry("build", "-t", "built", "-f", str(tmp_path / "Elsewhere"), str(build.context), check=True)
    assert "from-elsewhere" in build.files()
    engine.wherry("build", "-t", "built", "-f", "-", str(build.context), input=text, check=True)
    assert "from-stdin" in build.files()
    engine.wherry("build", "-t", "built", "-", input="FROM busybox\nRUN echo > /alone\n", check=True)
    assert "alone" in build.files()
    packed = tmp_path / "context.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "Elsewhere", "Dockerfile")
        tar.add(build.context / "f", "f")
    with packed.open("rb") as file:
        subprocess.run([WHERRY, "build", "-t", "built", "-"], stdin=file, check=True, capture_output=True,
                       env={**os.environ, "WHERRY_HOST": engine.host})  # fmt: skip
    assert "from-elsewhere" in build.files()


def test_ignored_files(build: Builder, docker: Build) -> None:
    files = {".dockerignore": "*.log\nbuild\n!build/keep\n", "a.log": "", "a.txt": "", "build/x": "", "build/keep": ""}
    build("FROM busybox\nCOPY . /all\n", files)
    ours = {name for name in build.files() if name.startswith("all/")}
    docker("build", "-t", "built", str(build.context), env={"DOCKER_BUILDKIT": "0"}, check=True)
    theirs = {name for name in build.files() if name.startswith("all/")}
    assert ours == theirs == {"all/Dockerfile", "all/.dockerignore", "all/a.txt", "all/build", "all/build/keep"}


def test_an_ignore_file_beside_a_named_dockerfile(build: Builder) -> None:
    build.write({".dockerignore": "a\n", "Other": "FROM busybox\nCOPY . /all\n", "Other.dockerignore": "b\n"})
    build.write({"a": "", "b": ""})
    build("FROM scratch", None, "--file", str(build.context / "Other"))
    names = set(build.files())
    assert "all/a" in names and "all/b" not in names


def test_links_do_not_lead_out_of_the_context(build: Builder) -> None:
    (build.context / "out").symlink_to("/etc/hostname")
    (build.context / "up").symlink_to("../../../../../../etc")
    finished = build("FROM busybox\nCOPY out /stolen\n", check=False)
    assert finished.returncode == 1 and "not found" in finished.stderr
    finished = build("FROM busybox\nCOPY up/hostname /stolen\n", check=False)
    assert finished.returncode == 1
    finished = build("FROM busybox\nRUN --mount=source=out,target=/o cat /o\n", check=False)
    assert finished.returncode == 1


def test_links_do_not_lead_out_of_the_image(build: Builder, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    build(f"FROM busybox\nRUN mkdir -p {victim.parent} && ln -s / /root-link && ln -s {victim} /link\nCOPY a /link/\n"
          f"COPY a /root-link{victim}/b\n", {"a": ""})  # fmt: skip
    assert list(victim.iterdir()) == []


def test_who_may_name_a_directory(engine: Engine) -> None:
    headers = {"X-Wherry-Context": base64.b64encode(b"/etc").decode(), "X-Wherry-Context-Identity": "0:0"}
    answer = engine.request("POST", "/build", headers=headers)
    assert answer.status == 400 and "not on the engine's machine" in answer.body["message"]


# --- stages and the cache


def test_only_what_the_target_needs(build: Builder) -> None:
    text = "FROM busybox AS no\nRUN exit 1\nFROM busybox AS yes\nRUN echo > /yes\nFROM no\nRUN exit 2\n"
    build(text, None, "--target", "yes")
    assert "yes" in build.files()


def test_stages_run_side_by_side(build: Builder) -> None:
    """Each waits for the other, so one after the other they would never end."""
    wait = (
        "RUN --mount=type=cache,id=meet-{id},target=/m touch /m/{own}; until test -e /m/{other}; do sleep 0.05; done\n"
    )
    unique = f"{os.getpid()}-{time.time_ns()}"
    build(
        "FROM busybox AS one\n" + wait.format(id=unique, own="one", other="two") + "FROM busybox AS two\n"
        + wait.format(id=unique, own="two", other="one")
        + "FROM busybox\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
    )  # fmt: skip


def test_cache_depends_on_contents_and_not_on_times(build: Builder) -> None:
    text = "FROM busybox\nARG UNUSED\nENV A=b\nCOPY f /f\nRUN cat /f > /g\nARG USED\nRUN echo $USED > /used\n"
    build(text, {"f": f"{time.time_ns()}"}, "--build-arg", "USED=1")
    first = build.image()["Id"]
    os.utime(build.context / "f", (1, 1))
    assert cached(build(text, None, "--build-arg", "USED=1")) == [2, 3, 4, 5, 6, 7]
    assert build.image()["Id"] == first
    assert cached(build(text, None, "--build-arg", "USED=2")) == [2, 3, 4, 5, 6]
    assert cached(build(text, None, "--build-arg", "USED=1", "--no-cache")) == []
    assert cached(build(text, {"f": "changed"}, "--build-arg", "USED=1")) == [2, 3]


def test_a_failed_build_can_be_taken_up(build: Builder) -> None:
    unique = time.time_ns()
    finished = build(f"FROM busybox\nRUN echo {unique} > /a\nRUN exit 3\n", check=False)
    assert finished.returncode == 3
    assert cached(build(f"FROM busybox\nRUN echo {unique} > /a\nRUN echo 3\n")) == [2]


def test_prune_and_usage(build: Builder, engine: Engine) -> None:
    build(f"FROM busybox\nRUN echo {time.time_ns()} > /only\n")
    usage = engine.request("GET", "/system/df").body["BuildCache"]
    assert any(record["Description"].startswith("RUN /bin/sh -c echo") and record["Shared"] for record in usage)
    engine.wherry("rmi", "built", check=True)
    assert "Total reclaimed space" in engine.wherry("builder", "prune", "--all", "--force", check=True).stdout
    assert engine.request("GET", "/system/df").body["BuildCache"] == []


def test_the_cache_outlives_the_engine(own_engine: Engine, tmp_path: Path) -> None:
    build = Builder(own_engine, tmp_path)
    build("FROM busybox\nRUN echo 1 > /1\n")
    own_engine.wherry("rmi", "built", check=True)
    own_engine.stop()
    own_engine.start()
    assert cached(build("FROM busybox\nRUN echo 1 > /1\n")) == [2]


def test_cache_from_an_image(own_engine: Engine, tmp_path: Path) -> None:
    build = Builder(own_engine, tmp_path)
    text = "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n"
    build(text, None, "--cache-to", "inline")
    own_engine.wherry("save", "-o", str(tmp_path / "saved.tar"), "built", check=True)
    own_engine.wherry("rmi", "built", check=True)
    own_engine.wherry("builder", "prune", "--all", "--force", check=True)
    own_engine.wherry("load", "-i", str(tmp_path / "saved.tar"), check=True)
    assert cached(build(text)) == []
    own_engine.wherry("builder", "prune", "--all", "--force", check=True)
    own_engine.wherry("load", "-i", str(tmp_path / "saved.tar"), check=True)
    assert cached(build(text, None, "--cache-from", "built")) == [2, 3]


# --- the result


def test_reproducible(build: Builder) -> None:
    text = 'FROM busybox\nWORKDIR /w\nCOPY f /f\nRUN date > /dev/null; mkdir /d; echo x > /d/x\nCMD ["x"]\n'
    ids = set()
    for moment in (1_800_000_000, time.time()):
        build.write({"f": "same"})
        os.utime(build.context / "f", (moment, moment))
        build(text, None, "--no-cache", env={"SOURCE_DATE_EPOCH": "1700000000"})
        ids.add(build.image()["Id"])
        time.sleep(1.1)  # so that the next one is made in another second
    assert len(ids) == 1
    assert build.image()["Created"].startswith("2023-11-14T22:13:20")
    assert all(member.mtime <= 1700000000 for member in build.files().values())


def test_labels_tags_and_files_of_ids(build: Builder, engine: Engine, tmp_path: Path) -> None:
    finished = build(
        "FROM busybox\nLABEL a=1 b=2\n", None,
        "--label", "b=3", "-t", "second:tag", "-q", "--iidfile", str(tmp_path / "id"),
    )  # fmt: skip
    image = build.image()
    assert image["Config"]["Labels"] == {"a": "1", "b": "3"}
    assert sorted(image["RepoTags"]) == ["built:latest", "second:tag"]
    assert finished.stdout.strip() == (tmp_path / "id").read_text() == image["Id"]
    engine.wherry("rmi", "second:tag", check=True)


def test_squash(build: Builder) -> None:
    build(
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/1 && echo 2 > /d/2\nRUN rm /d/1 /etc/issue && echo 3 > /d/3\n"
        "RUN rm -r /home && mkdir /home && touch /home/new\n", None, "--squash",
    )  # fmt: skip
    assert len(build.image()["RootFS"]["Layers"]) == 2
    names = set(build.files())
    assert {"d/2", "d/3", "home/new"} <= names and not {"d/1", "etc/issue"} & names


def test_outputs(build: Builder, tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY f /d/f\n"
    build(text, {"f": "content"}, "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "d" / "f").read_text() == "content"
    for kind in ("tar", "oci", "docker"):
        build(text, None, "--output", f"type={kind},dest={tmp_path / kind}")
        with tarfile.open(tmp_path / kind) as tar:
            assert ("d/f" if kind == "tar" else "oci-layout") in tar.getnames()


def test_platform(build: Builder) -> None:
    build("FROM --platform=linux/arm64 scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /\n", {"f": ""})
    assert build.image()["Architecture"] == "arm64"
    finished = build("FROM busybox\n", None, "--platform", "nonsense/x/y/z", check=False)
    assert finished.returncode == 1 and "invalid platform" in finished.stderr


# --- failures


def test_a_failing_run(build: Builder, docker: Build) -> None:
    finished = build("FROM busybox\nRUN echo before; \\\n  exit 7\n", check=False)
    assert finished.returncode == 7
    assert "The command '/bin/sh -c echo before;   exit 7' returned a non-zero code: 7" in finished.stderr
    assert "Dockerfile:2" in finished.stderr and "3 |   exit 7" in finished.stderr
    assert docker("build", str(build.context), env={"DOCKER_BUILDKIT": "0"}).returncode == 7


def test_nothing_half_made_is_tagged(build: Builder, engine: Engine) -> None:
    build("FROM busybox\nRUN exit 1\n", check=False)
    assert engine.wherry("image", "inspect", "built").returncode == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FORM busybox\n", "unknown instruction: FORM (did you mean FROM?)"),
        ("FROM busybox AS a\nCOPY --from=nowhere.invalid/b /x /\n", "nowhere.invalid"),
        ("FROM busybox\nCOPY --form=b /x /\n", "unknown flag: --form"),
        ("FROM busybox\nRUN <<EOF\ntrue\n", "unterminated heredoc"),
        ('FROM busybox\nUSER nobody\nRUN ["/nowhere"]\n', "/nowhere"),
    ],
)
def test_errors_say_where(build: Builder, text: str, expected: str) -> None:
    finished = build(text, check=False)
    assert finished.returncode
    assert expected in finished.stderr
    assert "Dockerfile:" in finished.stderr


def test_an_engine_that_stops_ends_its_builds(own_engine: Engine, tmp_path: Path) -> None:
    build = Builder(own_engine, tmp_path)
    (build.context / "Dockerfile").write_text("FROM busybox\nRUN echo started; sleep 1000\n")
    running = subprocess.Popen(
        [WHERRY, "build", "--network", "none", "--progress", "plain", build.context],
        stderr=subprocess.PIPE, env={**os.environ, "WHERRY_HOST": own_engine.host}, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    for line in running.stderr:
        if "started" in line and "echo" not in line:
            break
    own_engine.stop()
    assert running.wait(20) == 1
    running.stderr.close()
    assert "Traceback" not in own_engine.log_text()
    own_engine.start()


def test_ctrl_c_ends_the_build_and_its_container(build: Builder, engine: Engine) -> None:
    marker = f"{time.time_ns()}"
    (build.context / "Dockerfile").write_text(f"FROM busybox\nRUN echo started; sleep 1000.{marker[-6:]}\n")
    running = subprocess.Popen(
        [WHERRY, "build", "--network", "none", "-t", "built", "--progress", "plain", build.context],
        stderr=subprocess.PIPE, env={**os.environ, "WHERRY_HOST": engine.host}, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    for line in running.stderr:
        if "started" in line and "echo" not in line:
            break
    running.send_signal(signal.SIGINT)
    running.wait(20)
    running.stderr.close()
    deadline = time.monotonic() + 10
    while _sleeps(marker[-6:]):
        assert time.monotonic() < deadline, "the step's container outlived the build"
        time.sleep(0.05)
    assert engine.wherry("image", "inspect", "built").returncode == 1


def _sleeps(marker: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [b"sleep"] and words[1:2] == [f"1000.{marker}".encode()]:
            found.append(process.name)
    return found


# --- other clients


def test_docker_py(docker_client: Any, busybox: str) -> None:
    import docker

    image, log = docker_client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nRUN echo out; echo err >&2\nCMD echo hello\n"),
        tag="built", network_mode="none",
        labels={"a": "b"}, shmsize=8 << 20, extra_hosts={"x": "1.2.3.4"}, nocache=True,
    )  # fmt: skip
    text = "".join(line.get("stream", "") for line in log)
    assert "out\n" in text and "\x1b[91merr\n\x1b[0m" in text and image.labels == {"a": "b"}
    assert docker_client.containers.run("built", remove=True, network_mode="none") == b"hello\n"
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 1"):
        docker_client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 1\n"))
    assert isinstance(docker_client.api.prune_builds()["SpaceReclaimed"], int)


def test_docker_py_counts_cached_steps(docker_client: Any, busybox: str) -> None:
    script = b"FROM busybox\nENV FOO=bar\nRUN touch baz\nRUN touch bax\n"
    list(docker_client.api.build(fileobj=io.BytesIO(script), tag="built1", network_mode="none"))
    for sources, expected in ((["nosuchtag", "built1"], 3), (["nosuchtag"], 0)):
        again = docker_client.api.build(
            fileobj=io.BytesIO(script), tag="built2", cache_from=sources, network_mode="none", decode=True
        )
        assert sum("Using cache" in line.get("stream", "") for line in again) == expected
    for name in ("built1", "built2"):
        docker_client.api.remove_image(name)


def test_a_compressed_context(engine: Engine, busybox: str) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        text = b"FROM busybox\nRUN echo zipped\n"
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    import docker

    client = docker.APIClient(base_url=engine.host, version="auto")
    zipped = io.BytesIO(gzip.compress(plain.getvalue()))
    lines = list(client.build(fileobj=zipped, custom_context=True, encoding="gzip", network_mode="none", decode=True))
    assert any("zipped" in line.get("stream", "") for line in lines)
    client.close()
