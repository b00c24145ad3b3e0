"""Flags of files that only some file systems have: chattr(1)'s."""

import fcntl
import os
import struct

# From linux/fs.h. The kernel takes and gives an int, whatever the name of the ioctl says.
_GETFLAGS = 0x80086601
_SETFLAGS = 0x40086602
_TOPDIR = 0x00020000


def spread_children(path: str) -> None:
    """Tells ext4 that the directories in this one have nothing to do with each other (chattr +T).

    It then puts each into a part of the disk that has room, instead of near its parent. Inodes that were deleted less
    than a minute ago are passed over one by one when new ones are looked for, so that unpacking next to a tree that has
    just been removed takes ten times as long (4 to 9 s instead of 0.6 s, measured on Linux 6.18). Other file systems
    do not have the flag, and nothing happens.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GETFLAGS, bytes(4)))
        if not flags & _TOPDIR:
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("i", flags | _TOPDIR))
    except OSError:
        pass  # it is about speed alone
    finally:
        os.close(fd)
