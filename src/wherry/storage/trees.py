"""Removing trees that somebody else has built: of any depth, with any names, and never through a link."""

import contextlib
import errno
import os
import secrets

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A container can nest directories deeper than there are descriptors or stack frames. What is further down than this is
# moved up, and removed in another round.
_DEPTH = 64


def remove(name: str | bytes, directory: int | None = None) -> None:
    """Removes a file, or a directory with all that is in it. Nothing happens when it is not there."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EISDIR:
            raise
    top = os.open(name, _OPEN, dir_fd=directory)
    try:
        while True:
            _empty(top, top, 1)
            try:
                os.rmdir(name, dir_fd=directory)
                return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
    finally:
        os.close(top)


def remove_quietly(name: str) -> None:
    """The same for what may be left lying: the next sweep will meet it again."""
    with contextlib.suppress(OSError):
        remove(name)


def _empty(fd: int, top: int, depth: int) -> None:
    with os.scandir(fd) as found:
        entries = list(found)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=fd)
        elif depth >= _DEPTH:
            os.rename(entry.name, secrets.token_hex(8), src_dir_fd=fd, dst_dir_fd=top)
        else:
            child = os.open(entry.name, _OPEN, dir_fd=fd)
            try:
                _empty(child, top, depth + 1)
            finally:
                os.close(child)
            os.rmdir(entry.name, dir_fd=fd)
