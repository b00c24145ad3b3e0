"""The same Dockerfiles, built by Docker and by wherry, give the same image: what Docker made is in each facts.json.

scripts/build_facts.py writes those; each case is a folder with a Dockerfile, its context, and maybe arguments.
"""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import CACHE
from tests.support.image_facts import facts, restore_modes

# Said in the history since BuildKit 0.10; the facts are of an older one.
_FLAGS = re.compile(r"--ch(?:own|mod)=\S+ ")

CASES = sorted(path.parent for path in (Path(__file__).parent / "builds").glob("*/facts.json"))


def test_there_are_enough() -> None:
    assert len(CASES) >= 20


def leftovers(case: Path) -> list[str]:
    """Empty directories that Docker's builder of the time leaves where it had mounted something."""
    file = case / "leftovers.json"
    return json.loads(file.read_text()) if file.exists() else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_docker(
    case: Path, docker: Callable[..., subprocess.CompletedProcess[str]], busybox: str, tmp_path: Path
) -> None:
    arguments = json.loads((case / "arguments.json").read_text()) if (case / "arguments.json").exists() else []
    file, context = str(case / "Dockerfile"), str(case / "context")
    restore_modes(case / "context")
    try:
        docker("build", "--network", "none", "--tag", "facts", *arguments, "--file", file, context,
               env={"DOCKER_BUILDKIT": "0"}, check=True)  # fmt: skip
        docker("save", "--output", str(tmp_path / "image.tar"), "facts", check=True)
    finally:
        docker("rmi", "--force", "facts")
    ours = facts(tmp_path / "image.tar", CACHE / "busybox.image.tar")
    theirs = json.loads((case / "facts.json").read_text())
    for facts_of in (ours, theirs):
        facts_of["files"] = {name: value for name, value in facts_of["files"].items() if name not in leftovers(case)}
    assert ours["config"] == theirs["config"]
    assert ours["author"] == theirs["author"]
    assert ours["files"] == theirs["files"]
    assert [_FLAGS.sub("", step) for step in ours["history"]] == theirs["history"]
