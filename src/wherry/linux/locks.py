"""Locks on ranges of a file that belong to its open description: gone when that is closed, or its last process killed.

They also work on directories, for reading, since that is how a directory can be opened.
"""

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of the 64-bit architectures


def lock(fd: int, start: int = 0, length: int = 0, *, shared: bool = False, wait: bool = False) -> None:
    """A ``length`` of 0 is up to the end of all files. Raises BlockingIOError when another has it; or ``wait``s."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    fcntl.fcntl(fd, command, _pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length))


def unlock(fd: int, start: int = 0, length: int = 0) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(fcntl.F_UNLCK, start, length))


def is_locked(fd: int, start: int = 0, length: int = 0) -> bool:
    """Whether another has a lock there."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(fcntl.F_WRLCK, start, length))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _pack(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
