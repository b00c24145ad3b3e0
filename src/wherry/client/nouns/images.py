"""/images, and /build"""

from __future__ import annotations

from wherry.client.client import image_path, quote
from wherry.client.nouns import TAR, Nouns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from wherry.client.client import Query
    from wherry.client.nouns import Filters, Json, Jsons
    from wherry.client.transport import AsyncResponse, Data

    Names = list[str]


class AsyncImages(Nouns):
    """`client.images`."""

    async def list(self, *, all: bool = False, filters: Filters = None, manifests: bool = False) -> Jsons:
        """With `manifests`, what each image is for which platform."""
        found: Jsons = await self._client.get("/images/json", all=all, filters=filters, manifests=manifests)
        return found

    async def inspect(self, image: str) -> Json:
        found: Json = await self._client.get(image_path(image, "json"))
        return found

    async def history(self, image: str, platform: Json | None = None) -> Jsons:
        found: Jsons = await self._client.get(image_path(image, "history"), platform=platform)
        return found

    async def tag(self, image: str, repository: str, tag: str) -> None:
        await self._client.post(image_path(image, "tag"), repo=repository, tag=tag)

    async def remove(self, image: str, *, force: bool = False, **query: Any) -> Jsons:
        """What became of it, `Untagged` and `Deleted`. `query`: noprune, platforms."""
        return await self._client.delete(image_path(image), force=force, **query) or []

    async def pull(self, repository: str, tag: str, *, platform: str = "", auth: str = "") -> AsyncIterator[Json]:
        """The progress, message by message."""
        query = {"fromImage": repository, "tag": tag, "platform": platform}
        headers = {"X-Registry-Auth": auth} if auth else {}
        response = await self._client.request("POST", "/images/create", query=query, headers=headers)
        return response.values()

    async def push(
        self, repository: str, tag: str, *, platform: dict[str, str] | None = None, auth: str = ""
    ) -> AsyncIterator[Json]:
        """The progress, message by message. Without a tag, all are pushed."""
        query = {"tag": tag, "platform": platform}
        # Docker's engine wants the header even when it is empty.
        headers = {"X-Registry-Auth": auth or "e30="}
        path = f"/images/{quote(repository, '/:')}/push"
        return (await self._client.request("POST", path, query=query, headers=headers)).values()

    async def load(self, data: Data, *, size: int | None = None, **query: Any) -> AsyncResponse:
        """Takes an archive in; the body tells what was loaded."""
        parts = {"query": query, "data": data, "size": size, "headers": TAR}
        return await self._client.request("POST", "/images/load", **parts)  # type: ignore[arg-type]

    async def save(self, names: Names, **query: Any) -> AsyncResponse:
        """A tar of images with all their layers."""
        return await self._client.request("GET", "/images/get", query={"names": names, **query})

    async def search(self, term: str, *, auth: str = "", **query: Any) -> Jsons:
        headers = {"X-Registry-Auth": auth} if auth else {}
        found: Jsons = await self._client.ask("GET", "/images/search", query={"term": term, **query}, headers=headers)
        return found

    async def prune(self, filters: Filters = None) -> Json:
        return await self._prune("images", filters)

    async def build(self, data: Data | None, query: Query, headers: dict[str, str] | None = None) -> AsyncResponse:
        """A context as a tar; the body is the progress."""
        return await self._client.request("POST", "/build", query=query, data=data, headers={**TAR, **(headers or {})})

    async def give(self, attachables: Json) -> str:
        """Secrets and agents for a build, whose query names them by this word: `given`."""
        return str((await self._client.post("/build/given", attachables))["Id"])
