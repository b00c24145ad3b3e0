"""``build``: the image that comes of it, and what happens when none does."""

import contextlib
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.builds import Builder
from tests.support.engine import WHERRY, Engine, docker_cli, wait_until_gone

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


def test_reproducible(build: Builder) -> None:
    text = (
        'FROM busybox\nWORKDIR /w\nCOPY f /f\nRUN date > /dev/null; mkdir /d; echo x > /d/x; rm /etc/issue\nCMD ["x"]\n'
    )
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


def test_reproducible_elsewhere(build: Builder, own_engine: Engine, tmp_path: Path) -> None:
    """Another engine and another folder, sent as a tar instead of read where it lies, and with links and removals."""
    there = tmp_path / "there"
    there.mkdir()
    elsewhere = Builder(own_engine, there)
    text = (
        "FROM busybox AS one\nWORKDIR /a/b\nCOPY --chown=3:4 --link f d /all/\nCOPY <<X /doc\nX\n"
        "RUN mkdir /d && echo x > /d/a && ln /d/a /d/b && ln -s a /d/c && rm -r /etc/passwd /home && mkfifo /d/p\n"
        "RUN --mount=target=/ctx,rw --mount=type=cache,target=/c touch /ctx/new /c/new && cp -a /ctx/f /copied\n"
        "FROM busybox\nCOPY --from=one / /\nLABEL b=2 a=1\n"
    )
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    for number, one in enumerate((build, elsewhere)):
        one.write({"f": "same", "d/e": "same"})
        os.utime(one.context / "f", (1_800_000_000 + number, 1_800_000_000 + number))
    build(text, None, "--no-cache", env=epoch)
    (elsewhere.context / "Dockerfile").write_text(text)
    flags = ("--no-cache", "--network", "none", "--build-arg", "SOURCE_DATE_EPOCH", "-t", "built")
    own_engine.docker("build", *flags, str(elsewhere.context), env=epoch | {"DOCKER_BUILDKIT": "0"}, check=True)
    assert build.image()["Id"] == elsewhere.image()["Id"]


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


def test_outputs(build: Builder, engine: Engine, tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY f /d/f\n"
    build(text, {"f": "content"}, "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "d" / "f").read_text() == "content"
    for kind in ("tar", "oci", "docker"):
        build(text, None, "--output", f"type={kind},dest={tmp_path / kind}")
        with tarfile.open(tmp_path / kind) as tar:
            assert ("d/f" if kind == "tar" else "oci-layout") in tar.getnames()
    build(
        text,
        None,
        "--output",
        f"type=docker,name=named:1,dest={tmp_path / 'docker'}",
        "--output",
        "type=image,name=two",
    )
    with tarfile.open(tmp_path / "docker") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest and json.load(manifest)[0]["RepoTags"] == ["named:1"]
    assert build.image("two")["Id"] == build.image()["Id"]
    engine.wherry("rmi", "two", "named:1", check=True)


def test_output_that_programs_read_is_theirs_alone(build: Builder, engine: Engine) -> None:
    (build.context / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    said = engine.wherry("build", "-q", "--output", "type=oci", str(build.context), check=True).stdout
    assert said.endswith("\0"), "there is more than an archive"
    lines = engine.wherry("build", "--progress", "rawjson", str(build.context), check=True).stderr.splitlines()
    assert json.loads(lines[-1])["type"] == "built"
    engine.wherry("image", "prune", "--force", check=True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--add-host", "x"], 'bad format for add-host: "x"'),
        (["--add-host", "x:y"], 'invalid IP address in add-host: "y"'),
        (["--build-arg", "=x"], "invalid environment variable: =x"),
        (["--label", "=x"], "invalid label '=x': empty name"),
        (["--isolation", "hyperv"], 'Unsupported isolation: "hyperv"'),
        (["--output", "type=image,shape=round"], '--output has no field "shape"'),
        (["--output", "type=docker,dest=x,tar=false"], "tar=false is not for the output docker: expected oci"),
        (["--output", "type=nothing"], 'invalid output type "nothing"'),
        (["--output", "type=local"], "dest is required for the local output"),
        (["--progress", "fancy"], 'invalid progress "fancy"'),
        (["--secret", "nothing"], "invalid field 'nothing' must be a key=value pair"),
        (["--target", "two"], 'target stage "two" could not be found'),
        (["--cache-to", "type=local"], "--cache-to type=local: expected dest="),
        (["-f", "nowhere"], "no such file or directory"),
        (["-t", "UPPER"], "must be lowercase"),
        (["--memory", "1k"], "Minimum memory limit allowed is 6MB"),
    ],
)
def test_flags_that_make_no_sense(build: Builder, flags: list[str], said: str) -> None:
    finished = build("FROM scratch AS one\nCOPY --from=busybox / /\nRUN --network=none true\n", None, "--no-cache",
                     *flags, check=False)  # fmt: skip
    assert finished.returncode in (1, 125) and said in finished.stderr


def test_an_image_that_is_only_on_its_way_does_not_stay(build: Builder, engine: Engine, tmp_path: Path) -> None:
    def images() -> list[str]:
        return sorted(image["Id"] for image in engine.request("GET", "/images/json?all=1").body)

    (build.context / "Dockerfile").write_text(f"FROM scratch\nLABEL when={time.time_ns()}\n")
    before = images()
    engine.wherry("build", "--output", str(tmp_path / "out"), str(build.context), check=True)
    assert os.listdir(tmp_path / "out") == [] and images() == before
    engine.wherry("build", str(build.context), check=True)
    there = images()
    engine.wherry("build", "--output", str(tmp_path / "out"), str(build.context), check=True)
    assert images() == there != before
    engine.wherry("image", "prune", "--force", check=True)


def test_platform(build: Builder) -> None:
    build("FROM --platform=linux/arm64 scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /\n", {"f": ""})
    assert build.image()["Architecture"] == "arm64"
    finished = build("FROM busybox\n", None, "--platform", "nonsense/x/y/z", check=False)
    assert finished.returncode == 1 and "failed to parse platform" in finished.stderr


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
        ("FROM busybox\nCOPY a b /c\n", "must be a directory and end with a /"),
        ("FROM busybox\nRUN <<EOF\ntrue\n", "unterminated heredoc"),
        ('FROM busybox\nUSER nobody\nRUN ["/nowhere"]\n', "/nowhere"),
    ],
)
def test_errors_say_where(build: Builder, text: str, expected: str) -> None:
    finished = build(text, check=False)
    assert finished.returncode
    assert expected in finished.stderr
    assert finished.stderr.count("Dockerfile:") == 1


@contextlib.contextmanager
def sleeping(command: list[str], engine: Engine, context: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A build whose RUN has come to sleep, and for how long."""
    seconds = f"1000.{time.time_ns() % 1_000_000:06}"
    (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo awake; exec sleep {seconds}\n")
    environment = {**os.environ, "WHERRY_HOST": engine.host, "DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}
    running = subprocess.Popen(
        [*command, "--network", "none", "-t", "built", str(context)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with running:
        try:
            assert running.stdout is not None
            assert any(line.split()[-1:] == ["awake"] for line in running.stdout)
            yield running, seconds
        finally:
            running.kill()


OURS = [str(WHERRY), "build", "--progress", "plain"]


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL], ids=lambda way: way.name)
@pytest.mark.parametrize("client", ["wherry", "docker"])
def test_a_build_ends_with_its_client(build: Builder, engine: Engine, docker: Build, client: str, way: int) -> None:
    command = OURS if client == "wherry" else [docker_cli(), "build"]
    with sleeping(command, engine, build.context) as (running, seconds):
        running.send_signal(way)
        running.wait(20)
        assert wait_until_gone(partial(sleepers, seconds)) == []
    assert engine.wherry("image", "inspect", "built").returncode == 1
    assert "Traceback" not in engine.log_text()


def test_an_engine_that_stops_ends_its_builds(own_engine: Engine, tmp_path: Path) -> None:
    with sleeping(OURS, own_engine, tmp_path) as (running, seconds):
        own_engine.stop()
        assert running.wait(20) == 1
        assert sleepers(seconds) == []
    assert "Traceback" not in own_engine.log_text()
    own_engine.start()


def test_what_a_killed_engine_was_building_goes_when_it_is_back(own_engine: Engine, tmp_path: Path) -> None:
    with sleeping(OURS, own_engine, tmp_path) as (running, seconds):
        own_engine.kill()
        assert running.wait(20) == 1
        own_engine.start()
        assert wait_until_gone(partial(sleepers, seconds)) == []
    assert wait_until_gone(lambda: os.listdir(own_engine.data_root / "tmp")) == []


def sleepers(seconds: str) -> list[str]:
    """The processes that sleep for just so long."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]:
                found.append(process.name)
    return found
