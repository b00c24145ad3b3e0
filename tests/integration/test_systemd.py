"""The units of packaging/systemd under a systemd: process 1 of a container, in which it starts an engine of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import CACHE, PROJECT, Engine

SYSTEMD = "/lib/systemd/systemd"
UNITS = PROJECT / "packaging" / "systemd"


class Machine:
    """A container with this machine's programs, and folders of its own for everything else."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self.etc = folder / "etc"

    def run(self, *command: str, check: bool = True) -> str:
        done = self._engine.wherry("exec", "machine", *command)
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def property(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, "wherry.service")

    def wait_for(self, state: str) -> None:
        deadline = time.monotonic() + 20
        while (found := self.property("ActiveState")) != state:
            assert time.monotonic() < deadline, (found, self.run("journalctl", "--no-pager", "-u", "wherry"))
            time.sleep(0.1)


@pytest.fixture
def machine(engine: Engine, busybox: str) -> Iterator[Machine]:
    if not os.path.exists(SYSTEMD):
        pytest.skip("no systemd")
    folder = Path(tempfile.mkdtemp(prefix="systemd-", dir="/var/tmp"))
    try:
        units = folder / "etc" / "systemd" / "system"
        units.mkdir(parents=True)
        (folder / "data").mkdir()
        for name in ("passwd", "group", "ld.so.cache", "nsswitch.conf"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", folder / "etc")
        (folder / "etc" / "machine-id").write_text("1" * 32 + "\n")  # without one, all units are enabled
        for unit in UNITS.iterdir():
            shutil.copy(unit, units)
        (units / "default.target").write_text("[Unit]\nDescription=Only what is tried here\nWants=wherry.socket\n")
        (units / "systemd-networkd-wait-online.service").symlink_to("/dev/null")
        program = folder / "bin" / "wherry"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m wherry.cli.main "$@"\n')
        program.chmod(0o755)
        shared = {"/usr", "/bin", "/sbin", *(f"/{name}" for name in os.listdir("/") if name.startswith("lib")),
                  sys.prefix, sys.base_prefix, str(PROJECT)}  # fmt: skip
        binds = [f"--volume={path}:{path}:ro" for path in sorted(shared)]
        # What it makes below a hierarchy in which containers have no cgroup of their own would be this machine's
        hidden = [f"--tmpfs={path}" for path in ("/sys/fs/cgroup/unified",) if os.path.isdir(path)]
        engine.wherry(
            "run", "--detach", "--name", "machine", "--privileged", "--cgroupns", "private", "--env=container=wherry",
            "--tmpfs=/run", "--tmpfs=/tmp", *hidden, *binds, f"--volume={folder}/bin:/usr/local/bin:ro",
            f"--volume={folder}/etc:/etc", f"--volume={folder}/data:/var/lib/wherry", busybox, SYSTEMD, check=True,
        )  # fmt: skip
        found = Machine(engine, folder)
        deadline = time.monotonic() + 20
        while found.run("systemctl", "is-active", "wherry.socket", check=False) != "active":
            assert time.monotonic() < deadline, found.run("systemctl", "status", "--no-pager", check=False)
            time.sleep(0.1)
        yield found
    finally:
        engine.remove_containers()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_units(machine: Machine) -> None:
    assert machine.property("ActiveState") == "inactive"
    assert machine.run("wherry", "info", "--format", "{{.Labels}}") == "[]"  # whose request starts it
    machine.wait_for("active")
    assert machine.run("stat", "-c", "%a %U", "/run/wherry", "/run/wherry/wherry.sock") == "711 root\n660 root"

    machine.run("wherry", "load", "--input", str(CACHE.resolve() / "busybox.image.tar"))
    machine.run("wherry", "run", "--detach", "--name", "on", "busybox", "sleep", "600")
    process = machine.run("wherry", "inspect", "--format", "{{.State.Pid}}", "on")

    (machine.etc / "wherry").mkdir()
    (machine.etc / "wherry" / "daemon.json").write_text('{"labels": ["deck=upper"]}')
    engine = machine.property("MainPID")
    machine.run("systemctl", "reload", "wherry")
    assert machine.run("wherry", "info", "--format", "{{.Labels}}") == "[deck=upper]"
    assert machine.property("MainPID") == engine

    for end in (
        ("systemctl", "restart", "wherry"),
        ("systemctl", "stop", "wherry.service"),
        ("wherry", "system", "stop"),
        ("kill", "-9", engine),
    ):
        end = ("kill", "-9", machine.property("MainPID")) if end[0] == "kill" else end
        engine = machine.property("MainPID")
        machine.run(*end)
        assert machine.run("wherry", "ps", "--quiet", "--filter", "name=on") != ""
        assert machine.run("wherry", "inspect", "--format", "{{.State.Pid}}", "on") == process, end
        machine.wait_for("active")
        assert machine.property("MainPID") not in ("0", engine), end
    machine.run("wherry", "rm", "--force", "on")


def test_the_units_are_well_formed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, UNITS.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "wherry" in line and "is not executable" not in line]
    assert not said
