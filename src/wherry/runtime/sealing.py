"""A Python interpreter that a container cannot write to.

A process that enters a container can be looked at from inside through /proc/<pid>/exe, and a container whose program is
/proc/self/exe executes it there. With the machine's own interpreter behind that link, root in the container could open
it for writing as soon as it is no longer running (CVE-2019-5736). So the launcher, and all that are forked from it, run
from a copy that nobody can write to: the interpreter's directory under a read-only overlay that is mounted nowhere; or,
where that cannot be made, a sealed file in memory.
"""

import fcntl
import os
import shutil
import sys

from wherry.linux import mounts
from wherry.linux.errors import SyscallError


def open_interpreter(empty: str) -> int:
    """A descriptor to execute this interpreter by. ``empty`` is an empty directory, which the overlay needs."""
    binary = os.path.realpath(sys.executable)
    try:
        return _through_overlay(binary, empty)
    except SyscallError:
        return _in_memory(binary)


def _through_overlay(binary: str, empty: str) -> int:
    """An overlay of lower directories alone cannot be written to, and its files are not those beneath."""
    directory, name = os.path.split(binary)
    lower = ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in (directory, empty))
    mount = mounts.make("overlay", "wherry", ("ro", "nosuid", "nodev", f"lowerdir={lower}"))
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _in_memory(binary: str) -> int:
    fd = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(binary, "rb") as source, open(fd, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target)
    os.fchmod(fd, 0o555)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd
