"""The file systems that nearly every container has, made before it is known which container that will be.

A new /proc, /sys or /dev takes the kernel as long as all the rest of a root together. A process that was started ahead,
and that is already in the namespaces they belong to, makes them while nobody waits: detached, as descriptors. A spec's
mount takes the one that is exactly what it asks for, and otherwise makes its own.
"""

import os
import stat

from wherry.linux import mounts
from wherry.linux.mounts import Mount

_CLOSED = ("nosuid", "noexec", "nodev")
COVER = Mount("tmpfs", "tmpfs", "", (*_CLOSED, "ro", "size=0", "nr_inodes=1"))
"""What hides a directory: an empty one that stays so."""

_USUAL = (
    Mount("proc", "proc", "/proc", _CLOSED),
    Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("sysfs", "sysfs", "/sys", (*_CLOSED, "ro")),
    Mount("mqueue", "mqueue", "/dev/mqueue", _CLOSED),
    Mount("tmpfs", "shm", "/dev/shm", (*_CLOSED, "mode=1777", "size=67108864")),
    COVER,
    COVER,
    COVER,
)

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    *([("core", "/proc/kcore")] if os.path.exists("/proc/kcore") else []),
)


class FileSystems:
    """Detached mounts, by what they are."""

    def __init__(self) -> None:
        self._ready: dict[Mount, list[int]] = {}

    def prepare(self) -> None:
        """Makes the usual ones. This process must be in the namespaces that they are to be of."""
        for mount in _USUAL:
            self._ready.setdefault(mount, []).append(make(mount))

    def take(self, mount: Mount) -> int:
        """The detached mount that is asked for, ready or made now."""
        ready = self._ready.get(mount)
        return ready.pop() if ready else make(mount)

    def discard(self) -> None:
        """Closes those that nobody asked for."""
        for fd in (fd for ready in self._ready.values() for fd in ready):
            os.close(fd)
        self._ready.clear()


def make(mount: Mount) -> int:
    """A new file system, detached. A /dev has its devices and links in it."""
    detached = mounts.make(mount.type, mount.source, mount.options)
    options = mounts.parse_options(mount.options)
    if options.propagation:
        mounts.change(detached, propagation=options.propagation)
    if is_device_directory(mount):
        for name, target in _LINKS:
            os.symlink(target, name, dir_fd=detached)
        for name, major, minor in DEVICES:
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=detached)
            except PermissionError:  # in a user namespace: an empty file, for the host's node to be bound to
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=detached))
    return detached


def is_device_directory(mount: Mount) -> bool:
    return mount.target == "/dev" and mount.type == "tmpfs"
