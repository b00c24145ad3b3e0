"""``build``: RUN, COPY and ADD in each of their forms, against a real engine."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import zstandard

from tests.support.builds import Builder, file_server, serving

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


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


def test_the_machines_name_is_in_no_image(build: Builder) -> None:
    build("FROM busybox\nRUN uname -n > /own\nRUN --network=host uname -n > /host; echo $HOSTNAME >> /host\n", None,
          "--allow", "network.host")  # fmt: skip
    assert build.shows("cat", "/own", "/host") == "wherry-build\n" * 3
    own = build("FROM busybox\nRUN uname -n > /own\n", None, "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=chosen")
    assert build.shows("cat", "/own") == "chosen\n" and "not consumed" not in own.stderr


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


def test_a_mounted_context_lacks_what_is_ignored(build: Builder) -> None:
    """As it does for COPY: neither may a secret be seen, nor may the cache miss a change of what is."""
    build.write(
        {".dockerignore": "*.log\nmodules\ndeep/*\n!deep/kept\nempty/*\n", "a.log": "", "a": "", "modules/m/n": "",
         "deep/kept": "", "deep/lost/x": "", "empty/x": ""}
    )  # fmt: skip
    (build.context / "deep").chmod(0o751)
    build(
        "FROM busybox\nRUN --mount=target=/ctx cd /ctx && find . | sort > /all && stat -c %a deep > /mode\n"
        "RUN --mount=target=/ctx,rw cd /ctx && touch modules && echo new > a && find . | sort > /written\n"
        "RUN --mount=source=deep,target=/ctx cd /ctx && find . | sort > /below\n"
    )
    kept = "./.dockerignore\n./Dockerfile\n./a\n./deep\n./deep/kept\n./empty\n"
    assert build.shows("cat", "/all", "/mode") == f".\n{kept}751\n"
    assert build.shows("cat", "/written") == f".\n{kept}./modules\n"
    assert build.shows("cat", "/below") == ".\n./kept\n"
    assert (build.context / "a").read_text() == ""
    refused = build("FROM busybox\nRUN --mount=source=a.log,target=/a.log true\n", check=False)
    assert refused.returncode == 1 and '"/a.log": not found: .dockerignore leaves it out' in refused.stderr


def test_what_mounts_can_say(build: Builder) -> None:
    own = f"id=seeded-{os.getpid()}"
    build(
        "FROM busybox AS seed\nRUN mkdir -p /seed/d && echo seeded > /seed/d/f && chown -R 7:8 /seed\nFROM busybox\n"
        f"RUN --mount=type=cache,target=/c,from=seed,source=/seed,{own} cat /c/d/f > /1; stat -c '%u %g' /c/d >> /1\n"
        f"RUN --mount=type=cache,target=/c,{own},readonly ! touch /c/x && cat /c/d/f > /2\n"
        f"RUN --mount=type=cache,target=/c,{own}-new,uid=5,gid=6,mode=0711 stat -c '%a %u %g' /c > /3\n"
        "RUN --mount=type=tmpfs,target=/t,size=4m df -m /t | tail -n1 > /4\n"
        "WORKDIR /work\nRUN --mount=target=rel,source=src cat rel/a > /5\nRUN --mount=target=.,source=src cat a >> /5\n"
        "RUN --mount=type=bind,from=seed,source=/seed,target=/s,rw echo lost > /s/d/f && cat /s/d/f > /6\n"
        "RUN --mount=from=seed,source=/seed/d/f,target=/f,rw echo gone > /f && stat -c '%u %a' /f > /7\n"
        "RUN --mount=source=src/a,target=/f,rw echo gone > /f && cat /f >> /7\n"
        "RUN --mount=from=seed,source=/seed/d/f,target=/f cat /f >> /6\n",
        {"src/a": "a\n"},
    )
    assert build.shows("cat", "/7") == "7 644\ngone\n" and (build.context / "src" / "a").read_text() == "a\n"
    assert build.shows("cat", "/1", "/2", "/3", "/5", "/6") == "seeded\n7 8\nseeded\n711 5 6\na\na\nlost\nseeded\n"
    assert build.shows("cat", "/4").split()[1] == "4"
    assert build.files()["work"].isdir() and "work/rel" not in build.files()


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
            "FROM busybox\nUSER 1000\nRUN --mount=type=ssh,uid=1000 test -S $SSH_AUTH_SOCK && test -w $SSH_AUTH_SOCK\n"
            "RUN --mount=type=ssh --mount=type=ssh,id=two --mount=type=ssh,target=/own --mount=type=ssh,id=none test "
            "$SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && test -S /run/buildkit/ssh_agent.1 && test -S /own\n",
            None, "--ssh", f"default={path}", "--ssh", f"two={path}",
        )  # fmt: skip


def test_network_none_has_no_network(build: Builder) -> None:
    build("FROM busybox\nRUN --network=none ls /sys/class/net > /net\n")
    assert build.shows("cat", "/net") == "lo\n"


@pytest.mark.parametrize(("flag", "entitlement"), [
    ("--security=insecure", "security.insecure"), ("--network=host", "network.host"),
])  # fmt: skip
def test_what_opens_a_run_to_the_machine_must_be_allowed(build: Builder, flag: str, entitlement: str) -> None:
    text = f"FROM busybox\nRUN {flag} grep CapEff /proc/self/status > /caps\n"
    finished = build(text, check=False)
    assert finished.returncode == 1 and f"--allow {entitlement}" in finished.stderr
    build(text, None, "--allow", entitlement)
    finished = build(text, None, "--allow", "everything", check=False)
    assert finished.returncode == 1 and "invalid entitlement everything" in finished.stderr


def test_extra_hosts_and_limits(build: Builder) -> None:
    build(
        "FROM busybox\nRUN grep extra /etc/hosts > /hosts; ulimit -n > /files\n", None,
        "--add-host", "extra:10.1.2.3", "--add-host", "extra6=[fe80::1]", "--ulimit", "nofile=321:321",
        "--memory", "64m",
    )  # fmt: skip
    assert build.shows("cat", "/hosts") == "10.1.2.3\textra\nfe80::1\textra6\n"
    assert build.shows("cat", "/files") == "321\n"


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


def test_names_of_every_kind(build: Builder) -> None:
    build.write(
        {
            "with space/f g": "",
            "src/a.txt": "",
            "src/b.md": "",
            "src/c.md": "",
            "src/dir/1.txt": "",
            "src/dir/e/2.txt": "",
            ".hidden": "",
        }
    )
    (build.context / "src" / "dir" / "link").symlink_to("1.txt")
    (build.context / "src" / "dirlink").symlink_to("dir")
    build(
        "FROM scratch\n"
        'COPY ["with space/f g", "/json/to here/"]\n'
        "COPY --parents src/**/*.txt /parents/\n"
        "COPY src/**/*.txt /one-level/\n"
        "COPY --parents src/d*/./*.txt s*/./**/2.txt /pivot/\n"
        "COPY --exclude=**/*.txt --exclude=!**/1.txt src /excluded/\n"
        "COPY src/[a-b]* .hidden /matched/\n"
        "COPY src/dir/link src/dirlink /followed/\n",
    )
    assert {name for name, member in build.files().items() if not member.isdir()} == {
        "json/to here/f g", "parents/src/a.txt", "parents/src/dir/1.txt", "parents/src/dir/e/2.txt",
        "one-level/1.txt", "pivot/1.txt", "pivot/dir/e/2.txt", "excluded/b.md", "excluded/c.md",
        "excluded/dir/1.txt", "excluded/dir/link", "excluded/dirlink", "followed/e/2.txt", "matched/a.txt",
        "matched/b.md", "matched/.hidden", "followed/1.txt", "followed/link",
    }  # fmt: skip


def test_hard_links_are_kept_within_one_source(build: Builder) -> None:
    """A clone made with links, say, has every file twice: what two sources hold of it are two files."""
    build.write({"src/a": "a", "src/sub/c": "c"})
    (build.context / "src" / "b").hardlink_to(build.context / "src" / "a")
    (build.context / "outside").hardlink_to(build.context / "src" / "sub" / "c")
    build("FROM scratch\nCOPY src /one/\nCOPY src/sub src /two/\n")
    linked = {name: member.linkname for name, member in build.files().items() if member.islnk()}
    assert linked == {"one/b": "one/a", "two/b": "two/a"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_add_of_archives(build: Builder, pack: Callable[[bytes], bytes]) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo("inside")
        info.uid, info.mode = 12, 0o640
        tar.addfile(info)
    (build.context / "archive").write_bytes(pack(plain.getvalue()))
    build("FROM scratch\nADD archive /unpacked/\nADD --unpack=false archive /kept/\nCOPY archive /copied\n")
    files = build.files()
    assert set(files) == {"unpacked", "unpacked/inside", "kept", "kept/archive", "copied"}
    assert (files["unpacked/inside"].uid, files["unpacked/inside"].mode) == (12, 0o640)


def test_copy_of_what_is_not_there(build: Builder) -> None:
    finished = build("FROM busybox\nCOPY nowhere /\n", {"a": ""}, check=False)
    assert finished.returncode == 1
    assert '"/nowhere": not found' in finished.stderr and "2 | COPY nowhere /" in finished.stderr


def test_a_pattern_may_not_match_a_link_to_nowhere(build: Builder) -> None:
    build.write({"d/a": "", "e/a": "", "e/b": ""})
    (build.context / "d" / "b").symlink_to("nowhere")
    finished = build("FROM busybox\nCOPY d/* /d/\n", check=False)
    assert finished.returncode == 1 and '"/d/b": not found: it is a link' in finished.stderr
    build.write({".dockerignore": "d/b\n"})
    build("FROM scratch\nCOPY d/* /d/\nCOPY */c /c/\n")
    assert set(build.files()) == {"d", "d/a"}


def test_many_sources_need_a_directory(build: Builder) -> None:
    finished = build("FROM busybox\nCOPY a b /c\n", {"a": "", "b": ""}, check=False)
    assert finished.returncode == 1 and "must be a directory and end with a /" in finished.stderr
    finished = build("FROM busybox\nCOPY [ab] /c\n", check=False)
    assert finished.returncode == 1 and "must be a directory and end with a /: 2 are meant" in finished.stderr
    build("FROM busybox\nCOPY [ab] /etc\n")
    for name in ("a", "b"):
        with tarfile.open(build.context / f"{name}.tar", "w") as tar:
            tar.add(build.context / name, f"of-{name}")
    build("FROM busybox\nADD *.tar /unpacked\n")
    assert {"unpacked/of-a", "unpacked/of-b"} <= set(build.files())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    with file_server(tmp_path / "served") as address:
        yield address


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


def test_a_download_is_what_is_there_and_not_what_is_sent(build: Builder) -> None:
    """Some servers compress for who can take it; some names look like patterns."""

    class Compressing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            takes = "gzip" in self.headers.get("Accept-Encoding", "")
            content = gzip.compress(b"plain") if takes else b"plain"
            self.send_response(200)
            if takes:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with serving(Compressing) as address:
        build(f"FROM busybox\nADD {address}/a*[1].txt /named/\nADD {address}/x /x\n")
        assert build.shows("cat", "/named/a*[1].txt", "/x") == "plainplain"
        for wrong in ("sha256:12", "md5:12", "12"):
            finished = build(f"FROM busybox\nADD --checksum={wrong} {address}/x /\n", check=False)
            assert finished.returncode == 1 and f'invalid checksum "{wrong}": expected sha256:' in finished.stderr
    finished = build(f"FROM busybox\nADD {address}/x /\n", check=False)
    assert finished.returncode == 1 and f'{address}/x": dial tcp' in finished.stderr


def test_a_32_bit_image_sees_a_32_bit_machine(build: Builder) -> None:
    build("FROM --platform=linux/386 scratch\nCOPY --from=busybox / /\nRUN uname -m > /machine\n")
    assert build.shows("cat", "/machine") == "i686\n"
    assert build.image()["Architecture"] == "386"
