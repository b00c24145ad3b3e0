"""The directories of ``RUN --mount=type=cache``: which one a step gets, and who waits for whom."""

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from wherry.dockerfile.mounts import Mount
from wherry.storage.build_cache import BuildCache


class CacheMounts:
    """Those of all builds of an engine."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache
        self._locks: dict[str, asyncio.Lock] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, wanted: Iterable[tuple[Mount, str]]) -> AsyncIterator[None]:
        """Waits until those mounts (with their targets) that are ``locked``, one step's at a time, are this one's.

        Everybody takes them in one order: no two steps can wait for each other.
        """
        names = sorted({_name(mount, target) for mount, target in wanted if mount.sharing == "locked"})
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    @contextlib.asynccontextmanager
    async def use(self, mount: Mount, target: str, fill: Callable[[str], Awaitable[None]]) -> AsyncIterator[str]:
        """The directory on the host. ``fill`` is given a new one, before anybody else sees it."""
        name = _name(mount, target)
        if mount.sharing == "private":
            name = self._free(name)
        self._users[name] += 1
        try:
            async with self._making.setdefault(name, asyncio.Lock()):
                path, is_new = self._cache.mount(name, f"cache mount {mount.cache_id or target}")
                if is_new:
                    await self._make(name, path, mount, fill)
            yield path
        finally:
            self._users[name] -= 1

    async def _make(self, name: str, path: str, mount: Mount, fill: Callable[[str], Awaitable[None]]) -> None:
        try:
            os.chown(path, mount.uid or 0, mount.gid or 0)
            os.chmod(path, 0o755 if mount.mode is None else mount.mode)
            await fill(path)
        except BaseException:
            self._cache.remove_mount(name)
            raise

    def is_used(self, name: str) -> bool:
        return self._users[name] > 0

    def _free(self, name: str) -> str:
        """One that nobody uses now."""
        number = 0
        found = name
        while self._users[found]:
            number += 1
            found = f"{name}-{number}"
        return found


def _name(mount: Mount, target: str) -> str:
    return hashlib.sha256((mount.cache_id or target).encode()).hexdigest()[:32]
