"""A process's terminal: made on the container's own devpts, by the process that is already inside.

The container may have put anything below /dev, so nothing there is trusted by its name: the multiplexer must be the
character device 5:2 on a devpts, and the terminal itself is opened from its master, not by a path (CVE-2025-52565).
"""

import os
import stat
from typing import NamedTuple

from wherry.linux import mounts, paths, terminal
from wherry.linux.errors import SyscallError
from wherry.runtime.errors import StartError

_MULTIPLEXER = os.makedev(5, 2)


class Terminal(NamedTuple):
    """The two ends, as descriptors."""

    master: int
    slave: int


def open_terminal(root: int, size: tuple[int, int] | None) -> Terminal:
    """A new terminal on the devpts below the descriptor ``root``. ``size`` is (rows, columns)."""
    where = paths.open_in(root, "/dev/pts/ptmx", resolve=paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS)
    try:
        status = os.fstat(where)
        if (
            not stat.S_ISCHR(status.st_mode)
            or status.st_rdev != _MULTIPLEXER
            or mounts.file_system(where) != mounts.DEVPTS_MAGIC
        ):
            raise StartError("cannot make a terminal: /dev/pts/ptmx in the container is not a terminal multiplexer")
    finally:
        os.close(where)
    # It was looked at without being opened, since opening an unknown device may do something. What is opened now is
    # looked at again: TIOCGPTPEER fails on anything else.
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    master = paths.open_in(root, "/dev/pts/ptmx", flags, paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS)
    if mounts.file_system(master) != mounts.DEVPTS_MAGIC:
        raise StartError("cannot make a terminal: /dev/pts/ptmx in the container was exchanged")
    terminal.unlock(master)
    slave = terminal.open_peer(master)
    if size is not None:
        terminal.set_size(slave, *size)
    return Terminal(master, slave)


def mount_console(root: int, slave: int) -> None:
    """/dev/console, as a bind mount of the terminal on a file that is made for it, unless the user mounted one."""
    device_directory = paths.open_in(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        target = os.open("console", flags, 0o600, dir_fd=device_directory)
    except FileExistsError:
        return
    except OSError as error:
        raise SyscallError(error.errno or 0, "make", "/dev/console") from error
    finally:
        os.close(device_directory)
    mount = mounts.clone("", directory=slave)
    mounts.attach(mount, target, "/dev/console")
    os.close(mount)
    os.close(target)


def adopt(slave: int) -> None:
    """Makes the terminal this session's own, and its standard streams."""
    terminal.make_controlling(slave)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(slave)
