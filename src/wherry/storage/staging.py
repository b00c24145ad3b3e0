"""The staging area, ``tmp/`` of the data root: where things are made before they have a name, and go when they lose it.

Making and removing are renames in and out of here, so they are quick and whole. What a killed process has left here is
nobody's, and is cleared away when the store opens.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from wherry.linux.files import spread_children, sync_file_system

# Removing trees that somebody else has built: of any depth, with any names, and never through a link.

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A container can nest directories deeper than there are descriptors or stack frames. What is further down than this is
# moved up, and removed in another round.
_DEPTH = 64


def remove_tree(name: str | bytes, directory: int | None = None) -> None:
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


def remove_tree_quietly(name: str) -> None:
    """The same for what may be left lying: the next sweep will meet it again."""
    with contextlib.suppress(OSError):
        remove_tree(name)


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


_GONE = "gone-"


class Staging:
    """``root`` is the data root. ``before_sync`` is called when a sync begins, and what it answers at the end."""

    def __init__(self, root: str) -> None:
        self.path = f"{root}/tmp"
        self.before_sync: Callable[[], Callable[[], None]] = lambda: lambda: None
        self._data_root = root
        # One thread for what nobody waits for.
        self._background = ThreadPoolExecutor(1, "storage")
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        spread_children(self.path)

    @contextlib.asynccontextmanager
    async def area(self) -> AsyncIterator[str]:
        """A directory to make something in; what is left in it afterwards goes."""
        path = f"{self.path}/area-{secrets.token_hex(8)}"
        os.mkdir(path, 0o700)
        try:
            yield path
        finally:
            self.throw_away(path)

    def throw_away(self, path: str) -> None:
        """Takes a file or a folder of the data root from its place: a rename now, and the rest in the background."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{self.path}/{_GONE}{secrets.token_hex(8)}")
            self._background.submit(self._clear)

    def remove_later(self, path: str) -> None:
        """Removes in the background what lies elsewhere, and is nobody's."""
        self._background.submit(remove_tree_quietly, path)

    def sweep(self) -> None:
        """Throws everything away. For the moment of opening, when nobody can have begun something yet."""
        for name in os.listdir(self.path):
            if not name.startswith(_GONE):
                self.throw_away(f"{self.path}/{name}")
        self._background.submit(self._clear)

    def sync_later(self) -> None:
        """Brings to the disk, in the background, what was written."""
        self._background.submit(self._sync, self.before_sync())

    def close(self) -> None:
        """Waits for what was begun in the background."""
        self._background.shutdown()

    def _clear(self) -> None:
        for entry in os.scandir(self.path):
            if entry.name.startswith(_GONE):
                remove_tree_quietly(entry.path)

    def _sync(self, done: Callable[[], None]) -> None:
        fd = os.open(self._data_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(fd)
        finally:
            os.close(fd)
        done()
