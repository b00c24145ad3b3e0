"""Namespaces: leaving them, and entering those of another process."""

import os
import threading
from collections.abc import Callable, Iterable
from ctypes import c_int
from typing import TypeVar

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

_T = TypeVar("_T")

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


def pid_of(pidfd: int) -> int:
    """The number of a process in this /proc."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(b"Pid:"))


def other_than_own(pidfd: int, kinds: Iterable[str]) -> int:
    """The flags of those of a process's namespaces that are not this one's: who is root of a user namespace alone may
    not join what is the machine's, not even to no effect. Nothing is said of a process that is gone."""
    pid = pid_of(pidfd)
    flags = 0
    for kind in kinds:
        try:
            is_own = os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
        except FileNotFoundError:
            is_own = False
        flags |= 0 if is_own else FLAGS[kind]
    return flags


class NetworkNamespace:
    """A network namespace that is not this process's. To enter one and to come back takes CAP_SYS_ADMIN over both, so
    a thread goes there, does what is to be done, and ends: sockets that it made are of the namespace, wherever they
    go."""

    def __init__(self, path: str) -> None:
        self.path = path

    def run(self, work: Callable[[], _T]) -> _T:
        """What ``work`` answers or raises, in there."""
        answers: list[_T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                namespace = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    join(namespace, CLONE_NEWNET)
                finally:
                    os.close(namespace)
                answers.append(work())
            except BaseException as error:  # whatever it is, it is the caller's
                errors.append(error)

        thread = threading.Thread(target=enter, name="network namespace")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]
