"""The engine itself: /info, /version, /system, /events, /auth, /build/prune"""

from __future__ import annotations

from wherry.client.nouns import Nouns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.nouns import Filters, Json
    from wherry.client.transport import AsyncResponse


class AsyncSystem(Nouns):
    """`client.system`: the engine itself."""

    async def info(self) -> Json:
        found: Json = await self._client.get("/info")
        return found

    async def version(self) -> Json:
        found: Json = await self._client.get("/version")
        return found

    async def df(self) -> Json:
        """What lies on the disk."""
        found: Json = await self._client.get("/system/df")
        return found

    async def events(self, **query: Any) -> AsyncResponse:
        """`.values()` of it are the events, as they come. `query`: since, until, filters."""
        return await self._client.request("GET", "/events", query=query)

    async def login(self, credentials: Json) -> Json:
        """Asks a registry whether it knows them: `{"Status": …, "IdentityToken": …}`."""
        return await self._client.post("/auth", credentials) or {}

    async def prune(self, kind: str, filters: Filters = None, **query: Any) -> Json:
        """Of containers, images, networks, volumes, or the cache of "build"."""
        return await self._prune(kind, filters, **query)
