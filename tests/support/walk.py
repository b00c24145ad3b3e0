"""Tries to change everything that a container's root can name, from inside the container.

It is a process of the test's own that joins the container's namespaces with the capabilities of a default container. So
it tries what any program in there could, and can say more exactly than a shell what it was let do.
"""

import collections
import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wherry.linux import capabilities, namespaces
from wherry.linux.syscalls import SyscallError

_JOINED = ("pid", "ipc", "uts", "net", "mnt")
_PROCESS = re.compile(r"/proc/(\d+|self|thread-self)(/|$)")
_OF_THE_KERNEL = ("sysfs", "cgroup", "cgroup2")
_LATER = 1_000_000_007  # nanoseconds: a time that nothing has


@dataclass
class Walk:
    """What came of it. ``tried`` and ``done`` count by mount point; ``changed`` are (path, device, inode, operation)
    of what could be changed."""

    tried: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    changed: list[tuple[str, int, int, str]] = field(default_factory=list)
    mounts: dict[str, tuple[str, int]] = field(default_factory=dict)  # mount point: type of file system, device

    def mount_of(self, path: str) -> str:
        """The mount point that a path lies below."""
        while path not in self.mounts:
            path = os.path.dirname(path)
        return path

    def of_the_kernel(self) -> list[str]:
        """What was changed of file systems whose inodes all containers and the host have in common.

        The files of a process are that process's; a link's own inode is a copy that only this container has.
        """
        found = []
        for path, device, _, operation in self.changed:
            kind = self.mounts[self.mount_of(path)][0]
            of_no_process = path != "/proc" and not _PROCESS.match(path) and operation != "lchown"
            shared = kind == "proc" and device == self.mounts["/proc"][1] and of_no_process
            if shared or kind in _OF_THE_KERNEL:
                found.append(f"{operation} {path}")
        return found

    def on_devices(self, devices: set[int]) -> list[tuple[str, int, int]]:
        """(path, device, inode) of what was changed on these devices."""
        return sorted({(path, device, inode) for path, device, inode, _ in self.changed if device in devices})


def host_devices() -> set[int]:
    """The devices of all that the host has mounted."""
    return {device for _, _, device in _mounts("self")}


def host_inodes() -> dict[str, tuple[int, int, int, bool]]:
    """Mode, owner, group and time of what any container might get hold of: the host's devices and its /proc."""
    found = {}
    for path in (*Path("/dev").rglob("*"), *Path("/proc").glob("[!0-9]*"), *Path("/proc").glob("[!0-9st]*/**/*")):
        if not path.is_symlink() and not str(path).startswith(("/dev/pts/", "/dev/shm/", "/dev/mqueue/")):
            with contextlib.suppress(OSError):
                facts = path.stat()
                when = facts.st_mtime_ns == _LATER
                found[str(path)] = (facts.st_mode, facts.st_uid, facts.st_gid, when)
    return found


def walk(pid: int) -> Walk:
    """Tries everything in the container of the process ``pid``."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            for kind in _JOINED:
                namespaces.join_of(pid, kind)
            inner = os.fork()  # only a child is in the pid namespace
            if inner == 0:
                result = _try_everything()
                with open(writer, "w") as file:
                    json.dump(result, file)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    assert os.waitpid(child, 0)[1] == 0, "the walk did not come to its end"
    found = json.loads(text)
    return Walk(
        found["tried"],
        found["done"],
        [tuple(entry) for entry in found["changed"]],
        {path: tuple(facts) for path, facts in found["mounts"].items()},
    )


def _try_everything() -> dict[str, object]:
    os.chdir("/")
    capabilities.drop_bounding(capabilities.DEFAULT)
    capabilities.set_process(capabilities.DEFAULT)
    outcome = Walk(mounts={path: (kind, device) for path, kind, device in _mounts("self")})
    tried, done = collections.Counter[str](), collections.Counter[str]()
    for path, facts in _paths("/"):
        place = outcome.mount_of(path)
        for operation, attempt in _attempts(path, facts):
            tried[place] += 1
            with contextlib.suppress(OSError, SyscallError):
                device, inode = attempt()
                done[place] += 1
                outcome.changed.append((path, device, inode, operation))
    return {"tried": tried, "done": done, "changed": outcome.changed, "mounts": outcome.mounts}


def _paths(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every name in the container; a link of /proc is what it leads to, too."""
    facts = os.lstat(top)
    yield top, facts
    if not stat.S_ISDIR(facts.st_mode):
        return
    try:
        names = os.listdir(top)
    except OSError:
        return
    for name in names:
        if top == "/proc" and name.isdigit() and int(name) == os.getpid():
            continue  # what this process has is not the container's
        with contextlib.suppress(OSError):
            yield from _paths(f"{top.rstrip('/')}/{name}")


def _attempts(path: str, facts: os.stat_result) -> Iterator[tuple[str, Callable[[], tuple[int, int]]]]:
    """Each way to change what is at ``path``. What one of them has changed is put back by it."""

    def at(follow: bool) -> os.stat_result:
        return os.stat(path, follow_symlinks=follow)

    def identity(follow: bool = True) -> tuple[int, int]:
        found = at(follow)
        return found.st_dev, found.st_ino

    def chmod() -> tuple[int, int]:
        mode = stat.S_IMODE(at(True).st_mode)
        os.chmod(path, mode ^ 0o001)
        os.chmod(path, mode)
        return identity()

    def chown(follow: bool = True) -> tuple[int, int]:
        group = at(follow).st_gid
        os.chown(path, -1, 12345, follow_symlinks=follow)
        os.chown(path, -1, group, follow_symlinks=follow)
        return identity(follow)

    def touch() -> tuple[int, int]:
        found = at(True)
        os.utime(path, ns=(_LATER, _LATER))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        return identity()

    def set_attribute() -> tuple[int, int]:
        os.setxattr(path, "user.walk", b"x")
        os.removexattr(path, "user.walk")
        return identity()

    def write() -> tuple[int, int]:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        return identity()

    def make() -> tuple[int, int]:
        fd = os.open(f"{path}/.walk", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        os.close(fd)
        os.unlink(f"{path}/.walk")
        return identity()

    if stat.S_ISLNK(facts.st_mode):
        yield "lchown", lambda: chown(False)
        if not _PROCESS.match(path):
            return  # where it leads is come upon by its own name
    yield "chmod", chmod
    yield "chown", chown
    yield "touch", touch
    yield "setxattr", set_attribute
    if stat.S_ISREG(facts.st_mode):
        yield "write", write
    if stat.S_ISDIR(facts.st_mode):
        yield "make", make


def _mounts(process: str) -> Iterator[tuple[str, str, int]]:
    """(mount point, type, device) of what a process sees; of several upon one another, the last."""
    for line in Path(f"/proc/{process}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        major, _, minor = words[2].partition(":")
        yield words[4].encode().decode("unicode_escape"), after.split()[0], os.makedev(int(major), int(minor))
