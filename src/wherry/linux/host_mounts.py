"""Mounts upon paths of the host, by mount(2) and in mount(8)'s words: what a volume's options ask for."""

import contextlib
import os
from ctypes import c_char_p, c_ulong

from wherry.linux.mounts import MNT_DETACH, MS_PRIVATE, MS_SHARED, MS_SLAVE, unmount
from wherry.linux.syscalls import check, function

_RDONLY = 1
_REMOUNT = 1 << 5
_BIND = 1 << 12
_REC = 1 << 14

# option: (flags to set, flags to clear)
_FLAGS = {
    "defaults": (0, 0),
    "ro": (_RDONLY, 0),
    "rw": (0, _RDONLY),
    "nosuid": (1 << 1, 0),
    "suid": (0, 1 << 1),
    "nodev": (1 << 2, 0),
    "dev": (0, 1 << 2),
    "noexec": (1 << 3, 0),
    "exec": (0, 1 << 3),
    "sync": (1 << 4, 0),
    "async": (0, 1 << 4),
    "mand": (1 << 6, 0),
    "nomand": (0, 1 << 6),
    "dirsync": (1 << 7, 0),
    "noatime": (1 << 10, 0),
    "atime": (0, 1 << 10),
    "nodiratime": (1 << 11, 0),
    "diratime": (0, 1 << 11),
    "bind": (_BIND, 0),
    "rbind": (_BIND | _REC, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
}
_PROPAGATION = {
    f"{prefix}{name}": flag | recursive
    for name, flag in (("private", MS_PRIVATE), ("slave", MS_SLAVE), ("shared", MS_SHARED))
    for prefix, recursive in (("", 0), ("r", _REC))
}

_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)


def mount(type: str, source: str, target: str, options: str) -> None:
    """Mounts ``source`` upon the directory ``target``; ``options`` are separated by commas. Raises SyscallError."""
    flags, propagation, data = parse(options)
    what = f"{source}:{target}"
    if flags:
        what += f", flags: {flags:#x}"
    if data:
        what += f", data: {data}"
    source_, target_ = os.fsencode(source), os.fsencode(target)
    check(_mount(source_, target_, type.encode(), flags, os.fsencode(data)), "mount", what)
    try:
        if propagation:
            check(_mount(b"", target_, b"", propagation, b""), "mount", what)
        if flags & _BIND and flags & ~(_BIND | _REC):  # which the kernel does not look at while it binds
            check(_mount(b"", target_, b"", flags & ~_REC | _REMOUNT, b""), "mount", what)
    except OSError:
        unmount(target)
        raise


def parse(options: str) -> tuple[int, int, str]:
    """mount(2)'s flags, the propagation's, and what is left for the file system."""
    flags = propagation = 0
    data = []
    for option in filter(None, options.split(",")):
        if option in _FLAGS:
            on, off = _FLAGS[option]
            flags = (flags & ~off) | on
        elif option in _PROPAGATION:
            propagation |= _PROPAGATION[option]
        else:
            data.append(option)
    return flags, propagation, ",".join(data)


def is_mounted(path: str) -> bool:
    """Whether something is mounted upon this very directory, be it of the same file system."""
    return _mount_id(path) != _mount_id(os.path.dirname(path))


def take_away(path: str) -> None:
    """Unmounts all that is mounted upon a directory; who uses it still, goes on to."""
    with contextlib.suppress(FileNotFoundError):
        while is_mounted(path):
            unmount(path, MNT_DETACH)


def propagation(path: str) -> tuple[str, frozenset[str]]:
    """The mount that a path is in: where it is mounted, and which of "shared" and "master" (a slave) it is."""
    number = _mount_id(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            identity, _, _, _, place, _, *optional = line.split()
            if identity == number:
                return place, frozenset(field.partition(":")[0] for field in optional[: optional.index("-")])
    return path, frozenset()


def _mount_id(path: str) -> str:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            return next(line for line in lines if line.startswith("mnt_id:")).split()[1]
    finally:
        os.close(fd)
