"""The directories of ``RUN --mount=type=cache``: which one a step gets, and who waits for whom."""

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator

from wherry.dockerfile.mounts import Mount
from wherry.storage.build_cache import BuildCache


class CacheMounts:
    """Those of all builds of an engine."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def use(self, mount: Mount, target: str) -> AsyncIterator[tuple[str, bool]]:
        """The directory on the host, and whether it is new. ``locked`` ones are one step's at a time."""
        cache_id = mount.cache_id or target
        name = hashlib.sha256(cache_id.encode()).hexdigest()[:32]
        if mount.sharing == "private":
            name = self._free(name)
        async with contextlib.AsyncExitStack() as stack:
            if mount.sharing == "locked":
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            self._users[name] += 1
            try:
                path, is_new = self._cache.mount(name, f"cache mount {cache_id}")
                if is_new:
                    os.chown(path, mount.uid or 0, mount.gid or 0)
                    os.chmod(path, 0o755 if mount.mode is None else mount.mode)
                yield path, is_new
            finally:
                self._users[name] -= 1

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
