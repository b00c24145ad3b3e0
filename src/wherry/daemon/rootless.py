"""An ordinary user's engine: the daemon makes itself root of a user namespace, and begins again as that.

Beside it there is a mount namespace, and a network namespace in which the engine's bridges are; that one has a name, a
file that it is mounted upon and that only this mount namespace has. The engine itself stays in the machine's network:
what it pulls, where it listens and the ports that it publishes are the machine's.

Containers outlive their engine, and the namespaces with them: the next engine goes back into those, by the way of a
container's monitor. Without one, it makes new ones.
"""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from wherry.common import places
from wherry.linux import mounts, namespaces, user_namespaces
from wherry.linux.syscalls import AT_FDCWD, SyscallError

NETWORK = "network"
"""The file below the exec root that the network namespace is mounted upon."""

_MONITOR = "monitor.sock"
_PEER = struct.Struct("iii")  # struct ucred


class CannotBecomeRoot(Exception):
    """An ordinary user's engine cannot be had here: one line, for the person who started it."""


def begin_again(exec_root: str, words: Sequence[str]) -> NoReturn:
    """Executes the daemon again, as root of a user namespace. Raises CannotBecomeRoot."""
    try:
        os.makedirs(exec_root, mode=places.MODE, exist_ok=True)
        if not any(_join(monitor) for monitor in _monitors(exec_root)):
            _make(exec_root)
    except (user_namespaces.NamespaceRefused, SyscallError) as error:
        raise CannotBecomeRoot(f"this engine cannot run as an ordinary user: {error}") from None
    os.execv(sys.executable, [sys.executable, "-P", "-m", "wherry.daemon", "--rootless", *words])


def _monitors(exec_root: str) -> Iterator[int]:
    """The processes that hold containers of an earlier engine's."""
    with os.scandir(exec_root) as entries:
        directories = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for directory in directories:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, contextlib.suppress(OSError):
            probe.connect(f"/proc/self/fd/{place}/{_MONITOR}")
            yield _PEER.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
        os.close(place)


def _join(pid: int) -> bool:
    """Enters the namespaces of a process of this user's; not when they are this process's own already."""
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino:
            return False
        pidfd = os.pidfd_open(pid)
        try:
            namespaces.join(pidfd, namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
        finally:
            os.close(pidfd)
        os.chdir("/")
        return True
    return False


def _make(exec_root: str) -> None:
    lack = user_namespaces.leave(namespaces.CLONE_NEWNS)
    if lack:
        print(f"wherry daemon: files can belong to root alone: {lack}", file=sys.stderr)
    # What is mounted on the machine later is to be seen here, and nothing the other way.
    mounts.change(AT_FDCWD, propagation=mounts.MS_SLAVE, recursive=True, path="/")
    _make_network(f"{exec_root}/{NETWORK}")


def _make_network(path: str) -> None:
    """A child makes it, as there is no way back to the machine's."""
    ready, tell = os.pipe()
    waits, release = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release)
            namespaces.unshare(namespaces.CLONE_NEWNET)
            os.write(tell, b"!")
            os.read(waits, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(waits)
    try:
        if not os.read(ready, 1):
            raise CannotBecomeRoot("no network namespace can be made: sysctl user.max_net_namespaces is too low")
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        target = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        made = mounts.clone(f"/proc/{child}/ns/net")
        mounts.attach(made, target, path)
        os.close(made)
        os.close(target)
    finally:
        os.close(release)
        os.close(ready)
        os.waitpid(child, 0)
