"""docker's CLI plugins: found where docker finds them, and called as docker calls them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import WHERRY

PLUGIN = '#!/bin/sh\necho "$DOCKER_HOST|$DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND|$*"; exit 7\n'


def _put(directory: Path, text: str = PLUGIN) -> None:
    directory.mkdir(parents=True)
    (directory / "docker-sail").write_text(text)
    (directory / "docker-sail").chmod(0o755)


def _call(config: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "WHERRY_"))}
    return subprocess.run(
        [str(WHERRY), "--config", str(config), *words],
        env=keep | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_plugin_is_given_the_whole_command_line(tmp_path: Path) -> None:
    _put(tmp_path / "cli-plugins")
    finished = _call(tmp_path, "sail", "up", "--far", "-H", "x", WHERRY_HOST="unix:///other.sock")
    host, called_by, words = finished.stdout.rstrip("\n").split("|")
    assert (finished.returncode, host) == (7, "unix:///other.sock")
    assert words == f"--config {tmp_path} sail up --far -H x"
    assert Path(called_by).name == "wherry"


def test_what_was_said_of_the_engine_is_left_to_the_plugin(tmp_path: Path) -> None:
    _put(tmp_path / "cli-plugins")
    finished = _call(tmp_path, "-H", "tcp://elsewhere", "sail", DOCKER_HOST="unix:///docker.sock")
    assert finished.stdout.startswith("unix:///docker.sock|")
    assert finished.stdout.endswith("-H tcp://elsewhere sail\n")


def test_more_directories_are_the_configurations(tmp_path: Path) -> None:
    _put(tmp_path / "more")
    (tmp_path / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "more")]}))
    assert _call(tmp_path, "sail", WHERRY_HOST="unix:///other.sock").returncode == 7


@pytest.mark.parametrize("name", ["sail", "../docker-sail"])
def test_what_is_no_plugin(tmp_path: Path, name: str) -> None:
    (tmp_path / "cli-plugins").mkdir()
    (tmp_path / "cli-plugins" / "docker-sail").write_text("not to be run")
    finished = _call(tmp_path, name, WHERRY_HOST="unix:///other.sock")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"wherry: unknown command: wherry {name}\n")
