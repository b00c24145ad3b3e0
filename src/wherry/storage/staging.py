"""The staging area, ``tmp/`` of the data root: where things are made before they have a name, and go when they lose it.

Making and removing are renames in and out of here, so they are quick and whole. What a killed process has left here is
nobody's, and is cleared away when the store opens.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from wherry.linux.sync import sync_file_system
from wherry.storage import trees


_GONE = "gone-"


class Staging:
    """``root`` is the data root. ``before_sync`` is called when a sync begins, and what it answers when it has ended."""

    def __init__(self, root: str) -> None:
        self.path = f"{root}/tmp"
        self.before_sync: Callable[[], Callable[[], None]] = lambda: lambda: None
        self._data_root = root
        self._background: set[asyncio.Task[None]] = set()
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    @contextlib.asynccontextmanager
    async def area(self) -> AsyncIterator[str]:
        """A directory to make something in; what is left in it afterwards goes."""
        path = f"{self.path}/area-{secrets.token_hex(8)}"
        os.mkdir(path, 0o700)
        try:
            yield path
        finally:
            self.throw_away(path)
            self.clear_later()

    def throw_away(self, path: str) -> None:
        """Takes a file or a folder of the data root from its place: a rename is all that has to happen now."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{self.path}/{_GONE}{secrets.token_hex(8)}")

    def clear(self) -> None:
        """Removes what was thrown away."""
        for entry in os.scandir(self.path):
            if entry.name.startswith(_GONE):
                trees.remove_quietly(entry.path)

    def sweep(self) -> None:
        """Removes everything. For the moment of opening, when nobody can have begun something yet."""
        for entry in os.scandir(self.path):
            trees.remove_quietly(entry.path)

    def clear_later(self) -> None:
        """``clear`` in a thread; nobody has to wait for it."""
        self._in_background(asyncio.to_thread(self.clear))

    def sync_later(self) -> None:
        """Brings to the disk, in a thread, what was written."""
        self._in_background(self._sync())

    async def settle(self) -> None:
        """Waits for what was begun in the background."""
        while self._background:
            await asyncio.gather(*self._background)

    async def _sync(self) -> None:
        done = self.before_sync()
        await asyncio.to_thread(_sync, self._data_root)
        done()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)
