"""What scripts/packages.sh and apt_sources.sh ask of apt: here of shell scripts that write down how they are called."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import PROJECT

_POLICY = 'printf "x:\\n  Installed: (none)\\n  Candidate: $candidate\\n"'
_INDEXES = """\
Debian|bookworm|http://mirror/debian/|bookworm|main
Debian|bookworm-updates|http://mirror/debian/|bookworm-updates|main
Debian|trixie|http://mirror/debian/|trixie|main
Ubuntu|noble|http://mirror/ubuntu/|noble|universe
Ubuntu|noble|http://mirror/ubuntu/|noble-updates|main
Somebody|bookworm|http://elsewhere/|bookworm|main
"""


class Machine:
    """The programs of a machine with apt. ``calls`` are apt-get's commands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.user = 0
        self.candidate = "(none)"
        self.installed = ""

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        here = self.directory
        self._program("id", f"echo {self.user}")
        self._program("dpkg-query", f'[ "$4" = "{self.installed}" ] && echo installed')
        self._program("apt-cache", f'[ -e {here}/updated ] && candidate=1.0 || candidate="{self.candidate}"\n{_POLICY}')
        self._program("apt-get", f'echo "$1" >>{here}/calls\ncase $1 in\nupdate) touch {here}/updated ;;\n'
                                 f"indextargets) cat {here}/indexes ;;\nesac")  # fmt: skip
        (self.directory / "indexes").write_text(_INDEXES)
        environment = {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"}
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)

    def install(self, *packages: str) -> subprocess.CompletedProcess[str]:
        return self.run("scripts/packages.sh", "install", "(to try it)", *packages)

    @property
    def calls(self) -> list[str]:
        calls = self.directory / "calls"
        return calls.read_text().split() if calls.exists() else []

    def _program(self, name: str, script: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_name_that_apt_has_no_package_of_is_looked_for_in_new_lists(machine: Machine) -> None:
    done = machine.install("python3-venv")
    assert done.returncode == 0, done.stderr
    assert machine.calls == ["update", "install"]
    assert "installing python3-venv (to try it)\n" in done.stderr


def test_the_lists_are_not_fetched_anew_for_what_is_known(machine: Machine) -> None:
    machine.candidate = "1.0"
    assert machine.install("python3-venv").returncode == 0
    assert machine.calls == ["install"]


def test_what_is_there_is_not_installed_again(machine: Machine) -> None:
    machine.installed = "python3-venv"
    done = machine.install("python3-venv")
    assert (done.returncode, done.stderr, machine.calls) == (0, "", [])


def test_who_may_not_install_is_told_of_all_that_is_missing(machine: Machine) -> None:
    machine.user = 1000
    done = machine.install("python3-venv", "libseccomp2")
    assert done.returncode == 1 and machine.calls == []
    assert done.stderr == (
        "packages.sh: missing (to try it): python3-venv libseccomp2. "
        "As root: apt-get install python3-venv libseccomp2\n"
    )


@pytest.mark.parametrize(
    ("suite", "lines"),
    [
        ("bookworm", ["http://mirror/debian/ bookworm main", "http://mirror/debian/ bookworm-updates main"]),
        ("trixie", ["http://mirror/debian/ trixie main"]),
        ("noble", ["http://mirror/ubuntu/ noble universe", "http://mirror/ubuntu/ noble-updates main"]),
        ("bullseye", []),
    ],
)
def test_the_sources_of_a_release_are_its_own_and_its_updates(machine: Machine, suite: str, lines: list[str]) -> None:
    done = machine.run("bash", "-euo", "pipefail", "-c", f"source scripts/apt_sources.sh; source_lines {suite}")
    assert done.returncode == 0, done.stderr
    assert sorted(" ".join(line.split()[-3:]) for line in done.stdout.splitlines()) == sorted(lines)
