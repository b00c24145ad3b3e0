"""Calls that concern the disk and that Python does not have: syncfs(2), and fallocate(2) with its modes."""

from ctypes import c_int, c_int64

from wherry.linux.syscalls import check, function

_KEEP_SIZE = 1

_syncfs = function("syncfs", c_int)
_fallocate = function("fallocate", c_int, c_int, c_int64, c_int64)


def sync_file_system(fd: int) -> None:
    """Waits until everything that was written to the file system of ``fd`` is on its disk."""
    check(_syncfs(fd), "syncfs")


def reserve(fd: int, size: int) -> None:
    """Gives a file the room for ``size`` bytes, and leaves its length as it is. ENOSPC when there is no room."""
    check(_fallocate(fd, _KEEP_SIZE, 0, size), "fallocate")
