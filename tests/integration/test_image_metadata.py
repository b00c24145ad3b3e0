"""What is said of images by how they came to be: loaded, tagged, imported, built, committed, pushed, pulled."""

import json
import os
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.support.docker_engine import DockerEngine
from tests.support.engine import Engine, docker_cli, run_client
from tests.support.registry import Registry, tar_of

NEVER = "0001-01-01T00:00:00Z"


class Cli(Protocol):
    def __call__(self, *arguments: str) -> str: ...


def classic(host: str) -> Cli:
    """The docker CLI, whose builds are the classic builder's; what it prints."""

    def run(*arguments: str) -> str:
        hosts = {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
        return run_client([docker_cli(), *arguments], hosts, check=True).stdout

    return run


class Facts(NamedTuple):
    """``tags`` and ``digests`` without what differs from run to run, ``layers`` their number."""

    tags: list[str]
    digests: list[str]
    parent: bool
    comment: str
    author: str
    layers: int
    labels: dict[str, str] | None
    tagged: bool


# The same of Docker 26, but that its classic builder writes no comments: wherry says what it is read by.
EXPECTED = {
    "busybox:latest": Facts(["kinds/tagged:1", "busybox:latest"], [], False, "", "", 1, None, True),
    "kinds/imported:1": Facts(["kinds/imported:1"], [], False, "a message", "", 1, None, True),
    "kinds/built:1": Facts(["kinds/built:1"], [], True, "", "", 2, {"a": "b"}, True),
    "kinds/child:1": Facts(["kinds/child:1"], [], True, "", "", 2, {"a": "b"}, True),
    "kinds/committed:1": Facts(["kinds/committed:1"], [], True, "why", "me", 3, {"a": "b"}, True),
    "kinds/same:1": Facts(["kinds/same:1"], [], True, "", "", 2, {"a": "b"}, True),
    "kinds/loaded:1": Facts(["kinds/loaded:1"], [], False, "again", "", 1, None, False),
}
_COMMENT = "buildkit.dockerfile.v0"


def make_all(cli: Cli, directory: Path) -> None:
    (directory / "Dockerfile").write_text("FROM busybox\nLABEL a=b\nRUN echo hi >/hi\nENV X=y\n")
    (directory / "child").write_text("FROM kinds/built:1\nCMD true\n")
    (directory / "x.tar").write_bytes(tar_of({"x": b"x"}))
    cli("tag", "busybox", "kinds/tagged:1")
    cli("import", "-m", "a message", str(directory / "x.tar"), "kinds/imported:1")
    for tag, name in (("built", "Dockerfile"), ("child", "child")):
        cli("build", "--network=none", "-t", f"kinds/{tag}:1", "-f", str(directory / name), str(directory))
    cli("create", "--name", "kinds", "kinds/built:1", "sh")
    cli("commit", "kinds", "kinds/same:1")
    cli("cp", str(directory / "child"), "kinds:/")
    cli("commit", "-m", "why", "-a", "me", "kinds", "kinds/committed:1")
    cli("rm", "kinds")
    cli("import", "-m", "again", str(directory / "x.tar"), "kinds/loaded:1")
    cli("save", "-o", str(directory / "saved.tar"), "kinds/loaded:1")
    cli("rmi", "kinds/loaded:1")
    cli("load", "-i", str(directory / "saved.tar"))


def facts(cli: Cli) -> dict[str, Facts]:
    found = {}
    for name in EXPECTED:
        [image] = json.loads(cli("image", "inspect", name))
        [listed] = cli("images", "--no-trunc", "--format", "{{.ID}}", name).splitlines()
        assert listed == image["Id"]
        assert os.path.isabs(image["GraphDriver"]["Data"]["UpperDir"])
        found[name] = Facts(
            image["RepoTags"],
            image["RepoDigests"],
            bool(image["Parent"]),
            image["Comment"].replace(_COMMENT, ""),
            image["Author"],
            len(image["RootFS"]["Layers"]),
            image["Config"]["Labels"],
            image["Metadata"]["LastTagTime"] != NEVER,
        )
    return found


def test_every_kind_of_image(own_engine: Engine, tmp_path: Path) -> None:
    cli = classic(own_engine.host)
    make_all(cli, tmp_path)
    assert facts(cli) == EXPECTED
    images = {name: own_engine.request("GET", f"/images/{name}/json").body for name in EXPECTED}
    for image in images.values():
        data = image["GraphDriver"]["Data"]
        folders = [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))]
        assert len(folders) == len(image["RootFS"]["Layers"]) and all(map(os.path.isdir, folders))
    assert os.path.isfile(f"{images['kinds/built:1']['GraphDriver']['Data']['UpperDir']}/hi")
    assert images["kinds/built:1"]["Parent"] == images["busybox:latest"]["Id"]
    for child in ("child", "committed", "same"):
        assert images[f"kinds/{child}:1"]["Parent"] == images["kinds/built:1"]["Id"]
    for name in ("built", "child", "committed", "same", "imported"):
        cli("create", "--name", name, f"kinds/{name}:1", "sh")
    assert _of_ancestor(own_engine, "busybox") == {"built", "child", "committed", "same"}
    assert _of_ancestor(own_engine, "kinds/built:1") == {"built", "child", "committed", "same"}
    assert _of_ancestor(own_engine, "kinds/child:1") == {"child"}


def test_what_was_made_of_an_image_by_buildkit_or_was_loaded(own_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo hi >/hi\n")
    own_engine.wherry("build", "-t", "built:1", str(tmp_path), check=True)
    assert own_engine.request("GET", "/images/built:1/json").body.get("Parent", "") == ""
    own_engine.wherry("save", "-o", str(tmp_path / "saved.tar"), "built:1", check=True)
    own_engine.wherry("rmi", "built:1", check=True)
    own_engine.load(tmp_path / "saved.tar")
    own_engine.wherry("create", "--name", "built", "built:1", check=True)
    assert _of_ancestor(own_engine, "busybox") == {"built"}


def _of_ancestor(engine: Engine, name: str) -> set[str]:
    shown = engine.docker("ps", "-a", "--filter", f"ancestor={name}", "--format", "{{.Names}}", check=True)
    return set(shown.stdout.split())


def test_pushed_and_pulled(own_engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/kinds/pulled"
    own_engine.docker("tag", "busybox", f"{name}:1", check=True)
    tagged = own_engine.request("GET", "/images/busybox/json").body["Metadata"]["LastTagTime"]
    own_engine.docker("push", f"{name}:1", check=True)
    digest = f"{name}@{registry.digest('kinds/pulled', '1')}"
    pushed = own_engine.request("GET", "/images/busybox/json").body
    assert (pushed["RepoDigests"], pushed["Metadata"]["LastTagTime"]) == ([digest], tagged)
    own_engine.docker("rmi", f"{name}:1", "busybox", check=True)
    own_engine.docker("pull", f"{name}:1", check=True)
    pulled = own_engine.request("GET", f"/images/{name}:1/json").body
    assert (pulled["RepoTags"], pulled["RepoDigests"], pulled.get("Parent", "")) == ([f"{name}:1"], [digest], "")
    assert pulled["Metadata"]["LastTagTime"] == NEVER
    assert f"{name}@{pulled['Descriptor']['digest']}" == digest


def test_docker_says_so(dockerd: DockerEngine, tmp_path: Path) -> None:
    if dockerd.version != 26:
        pytest.skip("the table is of Docker 26")
    make_all(classic(dockerd.host), tmp_path)
    assert facts(classic(dockerd.host)) == EXPECTED
