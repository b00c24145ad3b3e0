"""The same Dockerfiles, built by Docker and by wherry, give the same image: what Docker made is in each facts.json.

scripts/build_facts.py writes those; each case is a folder with a Dockerfile, its context, and maybe arguments. They are
built in every way that there is: by wherry's own client, by BuildKit's protocol, and by the classic builder's API.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.support.buildkit import client, files_of
from tests.support.engine import CACHE, Engine
from tests.support.image_facts import facts, restore_modes

CASES = sorted(path.parent for path in (Path(__file__).parent / "builds").glob("*/facts.json"))

# With the classic builder a client heeds no .dockerignore but the context's own.
_NOT_CLASSIC = {"ignore-beside"}
# There WORKDIR's directories are root's, and what a RUN writes into a VOLUME is gone, but for the place of the mount.
_OF_ROOT = {
    "workdir": ("owned", "owned/by"),
    "copy-owners": ("home/bob", "home/bob/made"),
    "configuration": ("srv", "srv/app"),
}
_OF_VOLUMES = {"configuration-twice": {"v/file": None, "z": ["directory", "755", 0, 0, ""]}}


def test_there_are_enough() -> None:
    assert len(CASES) >= 31


def _arguments(case: Path) -> list[str]:
    said = case / "arguments.json"
    return json.loads(said.read_text()) if said.exists() else []


def _facts(engine: Engine, directory: Path) -> dict[str, Any]:
    try:
        engine.wherry("save", "--output", str(directory / "image.tar"), "facts", check=True)
    finally:
        engine.wherry("rmi", "--force", "facts")
    return facts(directory / "image.tar", CACHE / "busybox.image.tar")


def _expected(case: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((case / "facts.json").read_text())
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_docker(case: Path, engine: Engine, busybox: str, tmp_path: Path) -> None:
    file, context = str(case / "Dockerfile"), str(case / "context")
    restore_modes(case / "context")
    flags = ("--network", "none", "--tag", "facts", *_arguments(case), "--file", file)
    engine.wherry("build", *flags, context, check=True)
    assert _facts(engine, tmp_path) == _expected(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_by_buildkits_protocol(case: Path, engine: Engine, busybox: str, tmp_path: Path) -> None:
    restore_modes(case / "context")
    async with client(engine.socket, files_of(case / "context")) as asking:
        asking.dockerfiles = {
            name: content for name, content in files_of(case).items() if name.startswith("Dockerfile")
        }
        await asking.build("facts", said={"force-network-mode": "none", **_options(_arguments(case))})
    assert _facts(engine, tmp_path) == _expected(case)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """Flags as the frontend's options."""
    found = {}
    for flag, value in zip(arguments[::2], arguments[1::2], strict=True):
        name, _, argument = value.partition("=")
        found |= {f"build-arg:{name}": argument} if flag == "--build-arg" else {flag.removeprefix("--"): value}
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in _NOT_CLASSIC], ids=lambda case: case.name)
def test_by_the_classic_api(
    case: Path, engine: Engine, docker: Callable[..., CompletedProcess[str]], busybox: str, tmp_path: Path
) -> None:
    file, context = str(case / "Dockerfile"), str(case / "context")
    restore_modes(case / "context")
    flags = ("--network", "none", "--tag", "facts", *_arguments(case), "--file", file)
    docker("build", *flags, context, env={"DOCKER_BUILDKIT": "0"}, check=True)
    wanted = _expected(case)
    for path in _OF_ROOT.get(case.name, ()):
        wanted["files"][path][2:4] = [0, 0]
    files = wanted["files"] | _OF_VOLUMES.get(case.name, {})
    wanted["files"] = {path: entry for path, entry in files.items() if entry is not None}
    assert _facts(engine, tmp_path) == wanted
