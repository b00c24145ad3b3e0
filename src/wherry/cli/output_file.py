"""A file that a command writes: there whole when the command has worked, or not at all."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What rename would replace, or what a rename onto it would not reach.
REFUSED = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link directly"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device file"),
    (stat.S_ISBLK, "a block device file"),
)


class OutputFile:
    """A context that gives a descriptor; leaving it without an error puts the file in its place, mode 0600.

    Raises ValueError, in docker's words, for a path that no file can be put at.
    """

    def __init__(self, path: str) -> None:
        _check(path)
        self.path = path
        directory, name = os.path.split(os.path.abspath(path))
        self._beside = os.path.join(directory, f".tmp-{name}{os.getpid()}")
        try:
            self.descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ValueError(f"open {self._beside}: {reason(error)}") from None

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                os.fsync(self.descriptor)
                os.rename(self._beside, self.path)
        finally:
            os.close(self.descriptor)
            if os.path.lexists(self._beside):
                os.unlink(self._beside)


def _check(path: str) -> None:
    directory = os.path.dirname(path)
    if directory:
        try:
            mode = os.stat(directory).st_mode
        except OSError as error:
            raise ValueError(f"invalid output path: stat {directory}: {reason(error)}") from None
        if not stat.S_ISDIR(mode):
            raise ValueError(f"invalid output path: stat {directory}: not a directory")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"failed to stat output path: lstat {path}: {reason(error)}") from None
    is_kind: Callable[[int], bool]
    for is_kind, name in REFUSED:
        if is_kind(mode):
            raise ValueError(f"cannot write to {name}")


def reason(error: OSError) -> str:
    """The system's text for an error, as Go writes it."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
