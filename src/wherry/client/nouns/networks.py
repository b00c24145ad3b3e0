"""/networks"""

from __future__ import annotations

from wherry.client.client import network_path
from wherry.client.nouns import Nouns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.nouns import Filters, Json, Jsons


class AsyncNetworks(Nouns):
    """`client.networks`, by id or name."""

    async def list(self, filters: Filters = None) -> Jsons:
        found: Jsons = await self._client.get("/networks", filters=filters)
        return found

    async def create(self, config: Json) -> str:
        """Its id."""
        made: Json = await self._client.post("/networks/create", config)
        return str(made["Id"])

    async def inspect(self, network: str, **query: Any) -> Json:
        found: Json = await self._client.get(network_path(network), **query)
        return found

    async def connect(self, network: str, container: str, endpoint: Json | None = None) -> None:
        body = {"Container": container, "EndpointConfig": endpoint}
        await self._client.post(network_path(network, "connect"), body)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        await self._client.post(network_path(network, "disconnect"), {"Container": container, "Force": force})

    async def remove(self, network: str) -> None:
        await self._client.delete(network_path(network))

    async def prune(self, filters: Filters = None) -> Json:
        return await self._prune("networks", filters)
