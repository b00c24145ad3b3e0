"""Namespaces: leaving them, and entering those of another process."""

import os
from ctypes import c_int

from wherry.linux.syscalls import check, function

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# by their names below /proc/<pid>/ns
FLAGS = {
    "mnt": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
}

_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)


def unshare(flags: int) -> None:
    """New namespaces for this process; with CLONE_NEWPID, for the children that it forks from now on."""
    check(_unshare(flags), "unshare")


def join(fd: int, flags: int) -> None:
    """Enters the namespaces ``flags`` of the process that the pidfd ``fd`` is of, all of them or none; or the one
    namespace that ``fd`` is a file of."""
    check(_setns(fd, flags), "setns")


def join_of(pid: int, kind: str) -> None:
    """Enters one namespace of the process ``pid``."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        join(fd, FLAGS[kind])
    finally:
        os.close(fd)
