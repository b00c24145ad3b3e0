"""/volumes"""

from __future__ import annotations

from wherry.client.client import volume_path
from wherry.client.nouns import Nouns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.nouns import Filters, Json, Jsons


class AsyncVolumes(Nouns):
    """`client.volumes`, by name."""

    async def list(self, filters: Filters = None) -> Jsons:
        return (await self._client.get("/volumes", filters=filters)).get("Volumes") or []

    async def create(self, config: Json) -> Json:
        made: Json = await self._client.post("/volumes/create", config)
        return made

    async def inspect(self, volume: str) -> Json:
        found: Json = await self._client.get(volume_path(volume))
        return found

    async def remove(self, volume: str, *, force: bool = False) -> None:
        await self._client.delete(volume_path(volume), force=force)

    async def prune(self, filters: Filters = None) -> Json:
        return await self._prune("volumes", filters)
