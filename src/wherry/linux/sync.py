"""syncfs(2): bringing a whole file system to the disk."""

from ctypes import c_int

from wherry.linux.syscalls import check, function

_syncfs = function("syncfs", c_int)


def sync_file_system(fd: int) -> None:
    """Waits until everything that was written to the file system of ``fd`` is on its disk."""
    check(_syncfs(fd), "syncfs")
