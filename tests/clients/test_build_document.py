"""Every example of docs/build.md is run, one after the other, and prints what is shown there."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import PROJECT, WHERRY, Engine, docker_cli

Run = Callable[..., subprocess.CompletedProcess[str]]


def _examples() -> list[tuple[str, str]]:
    """Commands, and what each prints; "" where nothing is shown."""
    found: list[tuple[str, str]] = []
    text = (PROJECT / "docs" / "build.md").read_text()
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for part in re.split(r"^# ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


@pytest.mark.usefixtures("busybox", "clean_images")
def test_examples(engine: Engine, configured: dict[str, str], tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, program in (("wherry", str(WHERRY)), ("docker", docker_cli())):
        (programs / name).symlink_to(program)
    environment = {**os.environ, **configured, "WHERRY_HOST": engine.host, "DOCKER_HOST": engine.host}
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    folder = tmp_path / "folder"
    folder.mkdir()
    examples = _examples()
    assert len(examples) > 10
    for command, shown in examples:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        assert not shown or done.stdout == shown, command
