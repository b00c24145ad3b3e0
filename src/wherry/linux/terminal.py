"""Pseudo terminals: made on a given devpts, so that a container's terminals are the container's."""

import fcntl
import os
import struct
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def unlock(master: int) -> None:
    """Lets the other end be opened."""
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))


def open_peer(master: int) -> int:
    """The terminal at the other end of ``master``, without any path being looked up."""
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_size(fd: int, rows: int, columns: int) -> None:
    """The size that programs on the terminal see; they get a SIGWINCH when it changes."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def size(fd: int) -> tuple[int, int]:
    """(rows, columns)"""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def make_controlling(terminal: int) -> None:
    """Gives the terminal to the session of this process, which must be the leader of it."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
