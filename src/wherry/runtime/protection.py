"""What a container may not see or not change of the kernel's: masked paths, read-only paths, and /proc itself."""

import errno
import os
import stat

from wherry.linux import files, mounts
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import SyscallError

MASKS = Mount("tmpfs", "tmpfs", "", ("nosuid", "noexec", "nr_inodes=3"))
"""What masked paths are hidden behind: a null device and an empty directory of the container's own, which it cannot
change. A device of the host's would have its mode and its owner changed in there, for everybody."""

_NULL = "null"
_EMPTY = "empty"


def fill_masks(detached: int) -> None:
    """Puts into a file system made of ``MASKS`` what hides a file, and what hides a directory."""
    os.mkdir(_EMPTY, 0o755, dir_fd=detached)
    try:
        os.mknod(_NULL, stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=detached)
    except PermissionError:  # in a user namespace: an empty file hides as well
        os.close(os.open(_NULL, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=detached))
    mounts.change(detached, set=mounts.ATTR_RDONLY)


def mask(root: int, paths: tuple[str, ...], masks: int) -> None:
    """Hides those of the paths below ``root`` that are there. ``masks`` is mounted in this namespace."""
    for path in paths:
        target = _open_if_there(root, path)
        if target is None:
            continue
        name = _EMPTY if stat.S_ISDIR(os.fstat(target).st_mode) else _NULL
        cover = mounts.clone(name, directory=masks)
        mounts.attach(cover, target, path)
        os.close(cover)
        os.close(target)


def make_read_only(root: int, paths: tuple[str, ...]) -> None:
    """Makes those of the paths below ``root`` that are there read-only, with all that is mounted below them."""
    for path in paths:
        target = _open_if_there(root, path)
        if target is None:
            continue
        cover = mounts.clone("", recursive=True, directory=target)
        mounts.change(cover, set=mounts.ATTR_RDONLY)
        mounts.attach(cover, target, path)
        os.close(cover)
        os.close(target)


def protect_proc(proc: int) -> None:
    """Makes read-only what lies at the top of a /proc and is not of a process: a mode or an owner that is changed there
    is changed in every other /proc, too, the host's included.

    Raises SyscallError, EINVAL when the mount is detached and Linux cannot yet bind a part of such, before 6.15.
    """
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        with os.scandir(top) as entries:
            names = [entry.name for entry in entries if not entry.name.isdigit() and not entry.is_symlink()]
        for name in names:
            mounts.make_read_only(proc, name)
    finally:
        os.close(top)


def _open_if_there(root: int, path: str) -> int | None:
    try:
        return files.open_in(root, path)
    except SyscallError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise
