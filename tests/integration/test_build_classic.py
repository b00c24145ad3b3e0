"""Docker's classic builder, where its rules are others than BuildKit's: ``POST /build``, as docker-py asks for it.

What is expected here is what Docker 26 does with ``DOCKER_BUILDKIT=0``.
"""

import io
import json
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine


class Classic:
    """Builds texts; ``said`` is what the last build's stream showed, ``image`` the id of what came out."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.said = ""
        self.image = ""

    def __call__(self, text: str, files: Mapping[str, str] | None = None, **query: str) -> str:
        """The error that the build ended with; "" for none."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, content in {"Dockerfile": text, **(files or {})}.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
        asked = "&".join(f"{name}={value}" for name, value in ({"t": "classic", "networkmode": "none"} | query).items())
        answer = self.engine.request(
            "POST", f"/build?{asked}", packed.getvalue(), {"Content-Type": "application/x-tar"}
        )
        if answer.status != 200:
            return f"{answer.status} {answer.body['message']}"
        lines = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        messages = [json.loads(line) for line in lines.splitlines() if line]
        self.said = "".join(message.get("stream", "") for message in messages)
        self.image = next((message["aux"]["ID"] for message in messages if "aux" in message), "")
        return str(messages[-1].get("error", ""))

    def shows(self, *command: str) -> str:
        return self.engine.wherry("run", "--rm", "--network", "none", "classic", *command, check=True).stdout

    def cached(self) -> int:
        return self.said.count(" ---> Using cache\n")


@pytest.fixture
def build(engine: Engine, busybox: str) -> Iterator[Classic]:
    yield Classic(engine)
    engine.wherry("rmi", "--force", "classic")


def test_a_volume_is_mounted_while_a_step_runs(build: Classic) -> None:
    """What is written there goes with the step's container; what the image has there is seen."""
    text = (
        "FROM busybox\nRUN mkdir /old && echo image > /old/f && chmod 700 /old\nVOLUME /old /new/deep\n"
        "RUN echo lost > /new/deep/f && echo lost > /old/f && echo kept > /kept\n"
        "RUN cat /old/f /kept > /seen; ls -A /new/deep >> /seen; stat -c %a /old >> /seen\n"
    )
    assert build(text, nocache="1") == ""
    assert build.shows("cat", "/seen") == "image\nkept\n700\n"
    assert build(text.replace("VOLUME /old /new/deep", "VOLUME /old /new/deep /more")) == ""
    assert build.cached() == 1, "who has another thing mounted is another step"


def test_an_empty_list_runs_the_images_command(build: Classic) -> None:
    assert build('FROM busybox\nENTRYPOINT ["touch"]\nCMD ["/made"]\nRUN []\n') == ""
    build.shows("/made", "/again")  # touch made the first one, and makes the other
    assert build("FROM scratch\nCOPY Dockerfile /\nRUN []\n") == "no command specified"


def test_nothing_but_from(build: Classic, engine: Engine) -> None:
    assert build("FROM scratch\n") == "No image was generated. Is your Dockerfile empty?"
    assert build("FROM busybox AS a\nFROM a\n") == ""
    assert build.image == engine.request("GET", "/images/busybox/json").body["Id"]
    assert build("FROM busybox\n", labels='{"a":"b"}') == ""
    assert engine.request("GET", f"/images/{build.image}/json").body["Config"]["Labels"] == {"a": "b"}


def test_a_platform_that_is_none(build: Classic) -> None:
    said = 'failed to parse platform nonsense: "nonsense": unknown operating system or architecture: invalid argument'
    assert build("FROM --platform=nonsense busybox\n") == f"400 {said}"
    assert build("FROM busybox\n", platform="foo/bar").startswith("400 ")


def test_the_line_of_build_triggers(build: Classic, engine: Engine) -> None:
    assert build("FROM busybox\nONBUILD RUN echo one\nONBUILD COPY f /f\n", t="classic-base") == ""
    assert build("FROM classic-base\nRUN echo two\n", {"f": str(time.time_ns())}, nocache="1") == ""
    shape = [line.split(" ---> ")[0] + "…" if " ---> " in line else line for line in build.said.splitlines()]
    assert shape == [
        "Step 1/2 : FROM classic-base", "# Executing 2 build triggers", "…", "one", "…", "…",
        "Step 2/2 : RUN echo two", "…", "two", "…", "…", shape[-2], "Successfully tagged classic:latest",
    ]  # fmt: skip
    assert build("FROM busybox AS b\nONBUILD RUN true\nFROM b\n") == ""
    assert "Step 3/3 : FROM b\n# Executing 1 build trigger\n" in build.said
    engine.wherry("rmi", "classic-base", check=True)


def test_a_working_directory_is_roots(build: Classic) -> None:
    """With BuildKit it is the user's."""
    assert build("FROM busybox\nUSER 1000\nWORKDIR /w/x\nRUN stat -c %u /w /w/x\n") == ""
    assert "\n0\n0\n" in build.said


def test_the_network_of_another_container(build: Classic, engine: Engine) -> None:
    text = "FROM busybox\nRUN cat /etc/hosts; ls /sys/class/net\n"
    asked = {"networkmode": "container:classic-other", "nocache": "1"}
    assert build(text, **asked) == "No such container: classic-other"
    engine.wherry("create", "--name", "classic-other", "--network", "none", "--add-host", "there:10.9.8.7", "busybox",
                  "sleep", "1000", check=True)  # fmt: skip
    try:
        assert build(text, **asked) == "cannot join the namespace of a non running container: classic-other"
        engine.wherry("start", "classic-other", check=True)
        assert build(text, **asked) == ""
        assert "10.9.8.7\tthere" in build.said
        assert "conflicting options" in build(text, extrahosts="a:1.2.3.4", **asked)
    finally:
        engine.wherry("rm", "--force", "classic-other")


def test_the_cache_of_an_image_that_was_saved_and_loaded(own_engine: Engine, tmp_path: Path) -> None:
    """Though nobody has asked for a cache when it was built."""
    build = Classic(own_engine)
    text = "FROM busybox\nRUN echo a >/a\nLABEL x=y\nCOPY f /f\nRUN echo b >/b\n"
    assert build(text, {"f": "x"}) == ""
    first = build.image
    archive = str(tmp_path / "saved.tar")
    own_engine.wherry("save", "-o", archive, "classic", check=True)
    own_engine.wherry("rmi", "classic", check=True)
    own_engine.wherry("builder", "prune", "--all", "--force", check=True)
    own_engine.wherry("load", "-i", archive, check=True)
    assert build(text, {"f": "x"}, cachefrom='["classic"]') == ""
    assert (build.cached(), build.image) == (4, first)
    assert build(text, {"f": "changed"}, cachefrom='["classic"]') == ""
    assert build.cached() == 2
    assert build(text, {"f": "x"}, cachefrom='["busybox"]') == ""
    assert build.cached() == 0


@pytest.mark.parametrize("damage", ["cut", "checksum", "compressed and cut"])
def test_a_broken_archive_is_no_layer(build: Classic, engine: Engine, damage: str, tmp_path: Path) -> None:
    packed: dict[str, Any] = {}
    for mode in ("w", "w:gz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as tar:
            for name in ("first", "second"):
                member = tarfile.TarInfo(name)
                member.size = 4096
                tar.addfile(member, io.BytesIO(bytes(range(256)) * 16))
        packed[mode] = bytearray(file.getvalue())
    broken = packed["w"]
    if damage == "checksum":
        broken[512 + 4096 + 148 : 512 + 4096 + 156] = b"000001\0 "
    elif damage == "cut":
        del broken[512 + 4096 + 512 + 100 :]
    else:
        broken = packed["w:gz"]
        del broken[-20:]
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nADD broken /d/\n")
    (context / "broken").write_bytes(broken)
    before = engine.request("GET", "/images/json?all=1").body
    refused = engine.docker("build", "-t", "classic", str(context), env={"DOCKER_BUILDKIT": "0"})
    assert refused.returncode == 1
    assert any(word in refused.stderr for word in ("cut off", "checksum is wrong", "broken gzip data")), refused.stderr
    assert engine.request("GET", "/images/json?all=1").body == before
    assert "Traceback" not in engine.log_text()


def _containers(engine: Engine) -> list[dict[str, Any]]:
    listed = engine.request("GET", "/containers/json?all=1").body
    return [engine.request("GET", f"/containers/{each['Id']}/json").body for each in listed]


def test_the_container_of_a_step_that_failed_stays(build: Classic) -> None:
    engine = build.engine
    text = "FROM busybox\nENV A=b\nRUN echo one >/one\nRUN echo two >/two; exit 3\n"
    assert build(text, rm="1", forcerm="1") and not _containers(engine)
    assert "returned a non-zero code: 3" in build(text, rm="1")
    [left] = _containers(engine)
    assert left["State"]["Status"] == "exited" and left["State"]["ExitCode"] == 3
    assert [left["Path"], *left["Args"]] == ["/bin/sh", "-c", "echo two >/two; exit 3"]
    assert f"---> Running in {left['Id'][:12]}" in build.said and "Removed intermediate" not in build.said
    assert engine.wherry("diff", left["Id"], check=True).stdout == "A /two\n"
    engine.wherry("commit", left["Id"], "classic", check=True)
    assert build.shows("sh", "-c", "cat /one /two; echo $A") == "one\ntwo\nb\n"
    assert engine.wherry("start", "--attach", left["Id"]).returncode == 3
    engine.wherry("rm", left["Id"], check=True)


def test_all_containers_stay_when_none_is_to_be_removed(build: Classic) -> None:
    engine = build.engine
    before = engine.request("GET", "/images/json").body
    assert not build("FROM busybox\nRUN echo one >/one\nRUN echo two >/two\nRUN true\nENV A=b\n", rm="0", nocache="1")
    left = _containers(engine)
    assert sorted(each["Args"][-1] for each in left) == ["echo one >/one", "echo two >/two", "true"]
    assert all(each["State"]["ExitCode"] == 0 for each in left) and "Removed intermediate" not in build.said
    [first] = [each["Id"] for each in left if each["Args"][-1] == "echo one >/one"]
    engine.wherry("commit", first, "of-first", check=True)
    assert engine.wherry("run", "--rm", "of-first", "ls", "/one").returncode == 0
    assert engine.wherry("run", "--rm", "of-first", "ls", "/two").returncode != 0
    engine.wherry("rmi", "of-first", check=True)
    names = {name for each in engine.request("GET", "/images/json").body for name in each["RepoTags"] or ["<none>"]}
    assert names == {"classic:latest", *(name for each in before for name in each["RepoTags"] or ["<none>"])}
    engine.wherry("rm", *(each["Id"] for each in left), check=True)
