"""The nouns of the Engine API: each of its paths, with the names of its query, stands here and nowhere else.

What comes and goes is JSON as the API has it. The command line uses this by blocking.py; the objects of the library
(engine.py) are made of it.
"""

from __future__ import annotations

from wherry.client.c_modules import loads
from wherry.client.client import container_path, image_path, network_path, quote, volume_path
from wherry.client.transport import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from wherry.client.client import AsyncClient, AsyncPending, Query
    from wherry.client.transport import AsyncResponse, Data

    Json = dict[str, Any]
    Jsons = list[Json]
    Names = list[str]
    Filters = dict[str, list[str]] | None

_TAR = {"Content-Type": "application/x-tar"}
_STAT = "x-docker-container-path-stat"

# Bits of Go's os.FileMode, in which the engine tells a path's mode.
DIRECTORY, SYMLINK, DEVICE, IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19


class _Nouns:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client


class AsyncContainers(_Nouns):
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
        made: Json = await self._client.post("/commit", config or {}, container=container, **query)
        return str(made["Id"])

    async def prune(self, filters: Filters = None) -> Json:
        return await prune(self._client, "containers", filters)

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
        await (await self._client.request("PUT", path, query=query, data=data, headers=_TAR)).read()


class AsyncExecs(_Nouns):
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


class AsyncImages(_Nouns):
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
        parts = {"query": query, "data": data, "size": size, "headers": _TAR}
        return await self._client.request("POST", "/images/load", **parts)  # type: ignore[arg-type]

    async def save(self, names: Names, **query: Any) -> AsyncResponse:
        """A tar of images with all their layers."""
        return await self._client.request("GET", "/images/get", query={"names": names, **query})

    async def search(self, term: str, *, auth: str = "", **query: Any) -> Jsons:
        headers = {"X-Registry-Auth": auth} if auth else {}
        found: Jsons = await self._client.ask("GET", "/images/search", query={"term": term, **query}, headers=headers)
        return found

    async def prune(self, filters: Filters = None) -> Json:
        return await prune(self._client, "images", filters)

    async def build(self, data: Data, query: Query, headers: dict[str, str] | None = None) -> AsyncResponse:
        """A context as a tar; the body is the progress."""
        return await self._client.request("POST", "/build", query=query, data=data, headers={**_TAR, **(headers or {})})


class AsyncNetworks(_Nouns):
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
        return await prune(self._client, "networks", filters)


class AsyncVolumes(_Nouns):
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
        return await prune(self._client, "volumes", filters)


class AsyncSystem(_Nouns):
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

    async def prune_build_cache(self, filters: Filters = None, **query: Any) -> Json:
        return await prune(self._client, "build", filters, **query)


async def prune(client: AsyncClient, kind: str, filters: Filters, **query: Any) -> Json:
    """Removes what nobody needs of a kind: what that was, and `SpaceReclaimed` in bytes."""
    answer: Json = await client.post(f"/{kind}/prune", filters=filters, **query)
    return answer


def _stat(response: AsyncResponse) -> Json:
    from binascii import Error, a2b_base64

    try:
        found: Json = loads(a2b_base64(response.headers[_STAT]))
    except (KeyError, Error, ValueError):
        raise ConnectionLost(f"the engine's answer has no {_STAT} header that can be read") from None
    return found


def _exec_path(exec_id: str, action: str) -> str:
    return f"/exec/{quote(exec_id)}/{action}"
