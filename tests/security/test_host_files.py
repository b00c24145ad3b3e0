"""No inode of the host's can be changed from within a container, by whatever path it is reached.

A hole looks like this: a container changes the mode of something that it sees, and the host, or another container, has
that mode, too. Devices, /proc, /sys, the files that the engine gives a container, and its standard streams are where.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.walk import host_devices, host_inodes, walk

SLEEP = ("sleep", "1000")
FLAGS = {
    "root": (),
    "read-only": ("--read-only",),
    "init": ("--init",),
    "terminal": ("-t",),
    "input": ("-i",),
    "no capabilities": ("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    "files of its own": ("-v", "walked:/volume", "-v", "/anonymous", "--tmpfs", "/scratch"),
    "a /dev of its own": ("-v", "/dev"),
    "everything at once": ("--read-only", "--init", "-t", "-v", "walked:/volume", "--tmpfs", "/scratch"),
    "pids of another's": ("--pid", "container:other"),
    "network of another's": ("--network", "container:other"),
}


@pytest.fixture
def host() -> Iterator[None]:
    """Whatever the test does, the host's devices and kernel files are as they were."""
    before = host_inodes()
    yield
    after = host_inodes()
    changed = {path: (facts, after[path]) for path, facts in before.items() if after.get(path, facts) != facts}
    for path in changed:  # so that one failure is not everybody's
        os.chmod(path, stat.S_IMODE(before[path][0]))
        os.chown(path, *before[path][1:3])
    assert not changed


def start(engine: Engine, busybox: str, *flags: str) -> int:
    name = engine.wherry("run", "-d", *flags, busybox, *SLEEP, check=True).stdout.strip()
    return int(engine.request("GET", f"/containers/{name}/json").body["State"]["Pid"])


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_a_walk_over_all_that_a_container_sees(
    engine: Engine, busybox: str, host: None, flags: Sequence[str], request: pytest.FixtureRequest
) -> None:
    """A hole is a path on which chmod, chown, touch, setxattr, open for writing or the making of a file succeeds, and
    whose inode is on a device that the host has mounted, or in a file system of the kernel's."""
    start(engine, busybox, "--name", "other")
    pid = start(engine, busybox, *flags)
    found = walk(pid)
    print(f"{request.node.callspec.id}: {sum(found.tried.values())} tries on {len(found.mounts)} mounts")
    for kind in sorted({kind for kind, _ in found.mounts.values()}):
        mounts = [mount for mount in found.tried if found.mounts[mount][0] == kind]
        tried, done = (sum(counts.get(mount, 0) for mount in mounts) for counts in (found.tried, found.done))
        print(f"  {kind}: {done} of {tried} done, on {len(mounts)}")
    assert sum(found.tried.values()) > 10_000
    assert found.of_the_kernel() == []
    own = (str(engine.data_root / "containers"), str(engine.data_root / "volumes"))
    belong = {(facts.st_dev, facts.st_ino) for top in own for facts in _facts_below(Path(top))}
    assert [entry for entry in found.on_devices(host_devices()) if entry[1:] not in belong] == []
    if "--read-only" in flags:
        assert not found.done.get("/")
        assert not [path for path, *_ in found.changed if path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")]


def _facts_below(top: Path) -> Iterator[os.stat_result]:
    for path in top.rglob("*"):
        yield path.lstat()


@pytest.mark.parametrize("flags", [(), ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")])
@pytest.mark.parametrize("command", ["chmod 640", "chown 1000:1000", "touch -d 2001-01-01"])
@pytest.mark.parametrize("path", ["/proc/timer_list", "/proc/keys", "/proc/cgroups", "/proc/tty/drivers"])
def test_a_file_of_the_kernel_s(
    engine: Engine, busybox: str, host: None, command: str, path: str, flags: Sequence[str]
) -> None:
    """A masked file was the host's /dev/null; any other below /proc is one with the host's, and with every container's,
    whose modes and owners they share."""
    shown = engine.wherry("run", "--rm", *flags, busybox, *command.split(), path)
    assert shown.returncode != 0
    assert "Read-only file system" in shown.stderr


@pytest.mark.parametrize("kind", ["exec", "run"])
def test_standard_input_is_not_the_host_s_null(engine: Engine, busybox: str, host: None, kind: str) -> None:
    """Where a container had no /dev/null of its own it was given the host's, and could change it by its descriptor."""
    line = ("sh", "-c", "cat; chmod 640 /proc/self/fd/0; chown 1:1 /proc/self/fd/0")
    if kind == "run":
        engine.wherry("run", "--rm", "-v", "/dev", busybox, *line)
    else:
        start(engine, busybox, "-v", "/dev", "--name", "plain")
        engine.wherry("exec", "plain", *line)


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
def test_files_of_the_engine_s_are_read_only_where_the_root_is(engine: Engine, busybox: str, name: str) -> None:
    """--read-only left these open to be written: room on the host's disk that nobody accounts for."""
    write = f"echo x >> /etc/{name}"
    assert engine.wherry("run", "--rm", busybox, "sh", "-c", write).returncode == 0
    shown = engine.wherry("run", "--rm", "--read-only", busybox, "sh", "-c", write)
    assert (shown.returncode, "Read-only file system" in shown.stderr) == (1, True)
