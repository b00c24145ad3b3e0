"""The nouns of the Engine API: each of its paths, with the names of its query, stands here and nowhere else.

What comes and goes is JSON as the API has it. The command line uses this by blocking.py; the objects of the library
(engine.py) are made of it. A noun is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.client import AsyncClient

    Json = dict[str, Any]
    Jsons = list[Json]
    Filters = dict[str, list[str]] | None

TAR = {"Content-Type": "application/x-tar"}


class Nouns:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def _prune(self, kind: str, filters: Filters, **query: Any) -> Json:
        """Removes what nobody needs of a kind: what that was, and `SpaceReclaimed` in bytes."""
        answer: Json = await self._client.post(f"/{kind}/prune", filters=filters, **query)
        return answer
