"""/containers, and their files."""

from __future__ import annotations

from wherry.client.c_modules import loads
from wherry.client.client import container_path
from wherry.client.nouns import TAR, Nouns
from wherry.client.transport import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.client import AsyncPending, Query
    from wherry.client.nouns import Filters, Json, Jsons
    from wherry.client.transport import AsyncResponse, Data

_STAT = "x-docker-container-path-stat"

# Bits of Go's os.FileMode, in which the engine tells a path's mode.
DIRECTORY, SYMLINK, DEVICE, IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19


class AsyncContainers(Nouns):
    """`client.containers`: a container is named by its id, the beginning of that, or its name."""

    async def list(
        self, *, all: bool = False, limit: int | None = None, size: bool = False, filters: Filters = None
    ) -> Jsons:
        """The running ones, or `all`; `size` in bytes is slow to find out."""
        found: Jsons = await self._client.get("/containers/json", all=all, limit=limit, size=size, filters=filters)
        return found

    async def create(self, config: Json, *, name: str = "", platform: str = "") -> Json:
        """`{"Id": …, "Warnings": […]}`."""
        made: Json = await self._client.post("/containers/create", config, name=name, platform=platform)
        return made

    async def inspect(self, container: str, *, size: bool = False) -> Json:
        found: Json = await self._client.get(container_path(container, "json"), size=size)
        return found

    async def start(self, container: str, *, detach_keys: str = "", **query: Any) -> None:
        await self._client.post(container_path(container, "start"), detachKeys=detach_keys, **query)

    async def attach(
        self,
        container: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> AsyncPending:
        """Asks to attach; `.take_over()` gives the stream (framed unless the container has a terminal)."""
        query: Query = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "logs": logs}
        query["detachKeys"] = detach_keys
        return await self._client.begin("POST", container_path(container, "attach"), query=query, upgrade=True)

    async def begin_wait(self, container: str, condition: str = "not-running") -> AsyncPending:
        """Asks to be told of the end: once `.response()` is there the engine watches; its `.json()` comes then."""
        return await self._client.begin("POST", container_path(container, "wait"), query={"condition": condition})

    async def wait(self, container: str, condition: str = "not-running") -> Json:
        """Waits for the condition (not-running, next-exit, removed): `{"StatusCode": …, "Error": …}`."""
        response = await self._client.request("POST", container_path(container, "wait"), query={"condition": condition})
        ended: Json = await response.json()
        return ended

    async def kill(self, container: str, signal: str = "") -> None:
        await self._client.post(container_path(container, "kill"), signal=signal)

    async def stop(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        """`timeout` in seconds before SIGKILL; -1 waits for ever."""
        await self._client.post(container_path(container, "stop"), t=timeout, signal=signal)

    async def restart(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        await self._client.post(container_path(container, "restart"), t=timeout, signal=signal)

    async def pause(self, container: str) -> None:
        await self._client.post(container_path(container, "pause"))

    async def unpause(self, container: str) -> None:
        await self._client.post(container_path(container, "unpause"))

    async def rename(self, container: str, name: str) -> None:
        await self._client.post(container_path(container, "rename"), name=name)

    async def update(self, container: str, limits: Json) -> Json:
        """`{"Warnings": …}`; `limits` are fields of HostConfig."""
        answer: Json = await self._client.post(container_path(container, "update"), limits)
        return answer

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        await self._client.delete(container_path(container), force=force, v=volumes, link=link)

    async def resize(self, container: str, rows: int, columns: int) -> None:
        await self._client.post(container_path(container, "resize"), h=rows, w=columns)

    async def logs(self, container: str, **query: Any) -> AsyncResponse:
        """The log as a body of frames, or plain for a container with a terminal; `query` as the API names it."""
        return await self._client.request("GET", container_path(container, "logs"), query=query)

    async def top(self, container: str, arguments: str = "") -> Json:
        """Its processes as ps(1) shows them: `{"Titles": …, "Processes": …}`."""
        found: Json = await self._client.get(container_path(container, "top"), ps_args=arguments)
        return found

    async def changes(self, container: str) -> Jsons:
        """The files that differ from the image's: `Path`, and `Kind` 0 for changed, 1 for new, 2 for gone."""
        return await self._client.get(container_path(container, "changes")) or []

    async def stats(self, container: str, *, stream: bool) -> AsyncPending:
        """Asks for what it uses: one sample over a second, or one each second; `.values()` of the response."""
        return await self._client.begin("GET", container_path(container, "stats"), query={"stream": int(stream)})

    async def export(self, container: str) -> AsyncResponse:
        """All of its files as a tar."""
        return await self._client.request("GET", container_path(container, "export"))

    async def commit(self, container: str, config: Json | None = None, **query: Any) -> str:
        """Makes an image of it; the image's id. `query`: repo, tag, author, comment, pause, changes."""
        made: Json = await self._client.post("/commit", config, container=container, **query)
        return str(made["Id"])

    async def prune(self, filters: Filters = None) -> Json:
        return await self._prune("containers", filters)

    # Files, as tars.

    async def stat_path(self, container: str, path: str) -> Json:
        """What there is at a path of a container: `name`, `size`, `mode`, `mtime`, `linkTarget`."""
        return _stat(await self._client.request("HEAD", container_path(container, "archive"), query={"path": path}))

    async def get_archive(self, container: str, path: str) -> tuple[Json, AsyncResponse]:
        """The same, and a response whose body is a tar of it."""
        response = await self._client.request("GET", container_path(container, "archive"), query={"path": path})
        return _stat(response), response

    async def put_archive(
        self, container: str, path: str, data: Data, *, keep_kinds: bool = True, keep_owners: bool = False
    ) -> None:
        """Unpacks a tar into a directory of a container.

        `keep_kinds`: a directory is never replaced by something else, nor the reverse; `keep_owners` is cp's `-a`.
        """
        query: Query = {
            "path": path,
            "noOverwriteDirNonDir": "true" if keep_kinds else None,
            "copyUIDGID": "true" if keep_owners else None,
        }
        path = container_path(container, "archive")
        await (await self._client.request("PUT", path, query=query, data=data, headers=TAR)).read()


def _stat(response: AsyncResponse) -> Json:
    from binascii import Error, a2b_base64

    try:
        found: Json = loads(a2b_base64(response.headers[_STAT]))
    except (KeyError, Error, ValueError):
        raise ConnectionLost(f"the engine's answer has no {_STAT} header that can be read") from None
    return found
