"""/exec"""

from __future__ import annotations

from wherry.client.client import container_path, quote
from wherry.client.nouns import Nouns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.client import AsyncPending
    from wherry.client.nouns import Json


class AsyncExecs(Nouns):
    """`client.execs`: further processes in a running container."""

    async def create(self, container: str, config: Json) -> str:
        """Its id."""
        made: Json = await self._client.post(container_path(container, "exec"), config)
        return str(made["Id"])

    async def start(self, exec_id: str, config: Json) -> None:
        """Starts it detached."""
        await self._client.post(_exec_path(exec_id, "start"), config)

    async def attach(self, exec_id: str, config: Json) -> AsyncPending:
        """Starts it and takes the connection over: `.take_over()`."""
        return await self._client.begin("POST", _exec_path(exec_id, "start"), body=config, upgrade=True)

    async def inspect(self, exec_id: str) -> Json:
        found: Json = await self._client.get(_exec_path(exec_id, "json"))
        return found

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        await self._client.post(_exec_path(exec_id, "resize"), h=rows, w=columns)

    async def kill(self, exec_id: str, signal: str = "") -> None:
        """Sends a signal to its processes. Docker's engine cannot: it answers 404."""
        await self._client.post(_exec_path(exec_id, "kill"), signal=signal)


def _exec_path(exec_id: str, action: str) -> str:
    return f"/exec/{quote(exec_id)}/{action}"
