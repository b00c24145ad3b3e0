"""The same Dockerfiles, built by Docker and by wherry, give the same image: what Docker made is in each facts.json.

scripts/build_facts.py writes those; each case is a folder with a Dockerfile, its context, and maybe arguments.
"""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.engine import CACHE
from tests.support.image_facts import facts, restore_modes

CASES = sorted(path.parent for path in (Path(__file__).parent / "builds").glob("*/facts.json"))


def test_there_are_enough() -> None:
    assert len(CASES) >= 31


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_docker(case: Path, wherry: Callable[..., CompletedProcess[str]], busybox: str, tmp_path: Path) -> None:
    arguments = json.loads((case / "arguments.json").read_text()) if (case / "arguments.json").exists() else []
    file, context = str(case / "Dockerfile"), str(case / "context")
    restore_modes(case / "context")
    try:
        wherry("build", "--network", "none", "--tag", "facts", *arguments, "--file", file, context, check=True)
        wherry("save", "--output", str(tmp_path / "image.tar"), "facts", check=True)
    finally:
        wherry("rmi", "--force", "facts")
    assert facts(tmp_path / "image.tar", CACHE / "busybox.image.tar") == json.loads((case / "facts.json").read_text())
