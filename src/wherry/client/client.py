"""A connection to an engine, for both kinds of programs: requests, and the nouns of the Engine API (nouns.py).

It is written once, in coroutines; blocking.py has it as plain functions:

    from wherry.client.blocking import Client

    with Client("unix:///run/wherry/wherry.sock") as client:
        for container in client.containers.list(all=True):
            print(container["Id"], container["State"])

Values are what the API's JSON holds, in its own words: dicts, lists, strings, numbers.
"""

from __future__ import annotations

import select

from wherry.client.c_modules import dumps, loads
from wherry.client.endpoint import Host
from wherry.client.loops import Blocking
from wherry.client.transport import (
    APIError,
    ClientError,
    Connection,
    ConnectionFailed,
    ConnectionLost,
    PermissionMissing,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict, Unpack

    from wherry.client.endpoint import TLS, Stream
    from wherry.client.loops import Loop
    from wherry.client.nouns.containers import AsyncContainers
    from wherry.client.nouns.execs import AsyncExecs
    from wherry.client.nouns.images import AsyncImages
    from wherry.client.nouns.networks import AsyncNetworks
    from wherry.client.nouns.system import AsyncSystem
    from wherry.client.nouns.volumes import AsyncVolumes
    from wherry.client.transport import AsyncResponse, Data

    Query = dict[str, Any]

    class Parts(TypedDict, total=False):
        """Of a request. `body` is sent as JSON; or `data` as it is (`size` bytes of it, or in chunks). `upgrade` asks
        to take the connection over. Of `query`, what is empty, None or False is left out; True is 1, dicts become
        JSON."""

        query: Query | None
        body: Any
        data: Data | None
        size: int | None
        headers: dict[str, str] | None
        upgrade: bool


# The newest version of the API that this speaks; an engine that has less is asked in its own.
API_VERSION = "1.54"
DEFAULT_HOST = "unix:///run/wherry/wherry.sock"

_TOO_NEW = "is too new"
_IDLE = 64  # connections that are kept for the next request


class AsyncClient:
    """A way to one engine. Not for several threads at once; each may have its own.

    `host` is an address as in `wherry.client.endpoint`; `headers` go with every request; `version` pins the API's
    version (otherwise the newest that both sides speak is used, at no cost when the engine is as new as this).
    `unreachable` is called once when nothing listens at the address, and may start an engine: True means try again.
    `loop` is how to wait; without one, as a program that has no event loop.
    """

    host: Host
    version: str

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        *,
        tls: TLS | None = None,
        version: str = "",
        headers: dict[str, str] | None = None,
        unreachable: Callable[[], bool] | None = None,
        loop: Loop | None = None,
    ) -> None:
        """Raises HostError for an address that cannot be one. Connects when first used."""
        self.host = Host(host, tls)
        self.version = version or API_VERSION
        self.loop: Loop = loop or Blocking()
        self._pinned = bool(version)
        self._agreed = self._pinned
        self._headers = headers or {}
        self._unreachable = unreachable
        self._idle: list[Connection] = []

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that no response is being read from."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    # The nouns.

    @property
    def containers(self) -> AsyncContainers:
        from wherry.client.nouns.containers import AsyncContainers

        return AsyncContainers(self)

    @property
    def execs(self) -> AsyncExecs:
        from wherry.client.nouns.execs import AsyncExecs

        return AsyncExecs(self)

    @property
    def images(self) -> AsyncImages:
        from wherry.client.nouns.images import AsyncImages

        return AsyncImages(self)

    @property
    def networks(self) -> AsyncNetworks:
        from wherry.client.nouns.networks import AsyncNetworks

        return AsyncNetworks(self)

    @property
    def volumes(self) -> AsyncVolumes:
        from wherry.client.nouns.volumes import AsyncVolumes

        return AsyncVolumes(self)

    @property
    def system(self) -> AsyncSystem:
        from wherry.client.nouns.system import AsyncSystem

        return AsyncSystem(self)

    # Requests, from the most convenient down to the bare one.

    async def get(self, path: str, **query: Any) -> Any:
        """GET, and the JSON of the answer. `query` as in Parts.

        Raises APIError, ConnectionFailed, ConnectionLost; so do all the others here.
        """
        return await self.ask("GET", path, query=query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """POST of a JSON body, if any, and the JSON of the answer, None when it is empty."""
        return await self.ask("POST", path, query=query, body=body)

    async def delete(self, path: str, **query: Any) -> Any:
        return await self.ask("DELETE", path, query=query)

    async def ask(self, method: str, path: str, **parts: Unpack[Parts]) -> Any:
        """A short request: the JSON of its answer."""
        async with self.loop.slot():
            response = await self.request(method, path, **parts)
            return await response.json()

    async def request(self, method: str, path: str, **parts: Unpack[Parts]) -> AsyncResponse:
        """A request and its response, whose body is still to be read. `path` is without the version."""
        if parts.get("data") is not None:
            await self.negotiate()  # data can be sent once only, so the version has to be right
        pending = await self.begin(method, path, **parts)
        return await pending.response()

    async def begin(self, method: str, path: str, **parts: Unpack[Parts]) -> AsyncPending:
        """Sends a request on a connection of its own and does not wait for the answer: `response()` does.

        So several requests can be under way at once, without a thread.
        """
        return await AsyncPending(self, method, f"/v{{}}{path}", parts).send()

    async def hijack(
        self, method: str, path: str, *, query: Query | None = None, body: Any = None
    ) -> tuple[Stream, bytes]:
        """A request after which the connection is a plain stream both ways: that, and bytes that came already."""
        pending = await self.begin(method, path, query=query, body=body, upgrade=True)
        return await pending.take_over()

    async def negotiate(self) -> str:
        """Asks the engine, unless that is known, for the API version to use, and gives it."""
        if not self._agreed:
            response = await self.ping()
            self._agree(response.headers.get("api-version", ""))
        return self.version

    async def ping(self) -> AsyncResponse:
        """HEAD /_ping: the answer's headers tell of the engine (`api-version`, `ostype`, `swarm`…)."""
        pending = await AsyncPending(self, "HEAD", "/_ping", {}).send()
        return await pending.response()

    # Connections.

    def _agree(self, engine: str) -> None:
        self._agreed = True
        if engine and not self._pinned and _number(engine) < _number(self.version):
            self.version = engine

    async def _connect(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not _readable(connection.stream):
                return connection
            connection.close()  # what can be read from an idle connection is its end
        try:
            return Connection(await self.loop.connect(self.host), self.loop)
        except PermissionMissing:
            raise  # there is an engine
        except ConnectionFailed:
            start, self._unreachable = self._unreachable, None
            if not start or not await self.loop.call(start):
                raise
            return Connection(await self.loop.connect(self.host), self.loop)

    def _release(self, connection: Connection) -> None:
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()


class AsyncPending:
    """A request that has been sent, or is about to be."""

    def __init__(self, client: AsyncClient, method: str, path: str, parts: Parts) -> None:
        """`path`: with {} where the API's version belongs."""
        self._client = client
        self._method = method
        self._path, self._query = path, _encode(parts.get("query") or {})
        self._headers = parts.get("headers") or {}
        body = parts.get("body")
        self._body = None if body is None else dumps(body)
        self._data, self._size = parts.get("data"), parts.get("size")
        self._upgrade = parts.get("upgrade", False)
        self._version = ""
        self._connection: Connection | None = None

    async def send(self) -> AsyncPending:
        client = self._client
        self._version = client.version
        headers = {"Host": client.host.header, "User-Agent": "wherry", **client._headers, **self._headers}
        target = self._path.replace("{}", self._version, 1) + self._query
        if self._body is not None:
            headers["Content-Type"] = "application/json"
        if self._upgrade:
            headers["Connection"] = "Upgrade"
            headers["Upgrade"] = "tcp"
        connection = self._connection = await client._connect()
        try:
            if self._data is not None:
                await connection.send_stream(self._method, target, headers, self._data, self._size)
            else:
                await connection.send(self._method, target, headers, self._body)
        except BaseException:
            connection.close()
            raise
        return self

    async def response(self) -> AsyncResponse:
        """Waits for the answer. Raises APIError when it is an error, ConnectionLost when none comes."""
        response = await self._receive()
        if response.status < 400:
            return response
        message = await _message(response)
        if self._may_agree(response.status, message):
            self._client._agree(response.headers.get("api-version", ""))
            if self._client.version != self._version:
                return await (await self.send()).response()
        raise APIError(response.status, message, method=self._method, path=self._path.removeprefix("/v{}"))

    async def _receive(self) -> AsyncResponse:
        assert self._connection is not None
        done = None if self._upgrade else self._client._release
        kept_open = self._connection.reused
        try:
            return await self._connection.receive(self._method, done)
        except ConnectionLost:
            self._connection.close()
            # An idle connection may end just as it is used again. What only asks can be asked again.
            if not kept_open or self._method not in ("GET", "HEAD"):
                raise
        except BaseException:
            self._connection.close()  # the answer would be taken for that of the next request
            raise
        await self.send()
        return await self._connection.receive(self._method, done)

    def _may_agree(self, status: int, message: str) -> bool:
        """Whether this is an older engine's refusal of a newer version, and asking again is harmless."""
        return status == 400 and _TOO_NEW in message and self._data is None and not self._client._pinned

    async def take_over(self) -> tuple[Stream, bytes]:
        """Waits for the answer and gives the connection as a stream, and bytes that came already."""
        response = await self.response()
        # Docker answers 101 when asked to upgrade; 200 was its answer before, and is what some proxies make of it.
        if response.status not in (101, 200):
            response.close()
            raise ConnectionLost(f"unable to upgrade to tcp, received {response.status}")
        return response.take_over()

    def fileno(self) -> int:
        assert self._connection is not None
        return self._connection.stream.fileno()


async def _message(response: AsyncResponse) -> str:
    """The text of an error, which is JSON from an engine and anything from a proxy before it."""
    body = await response.read()
    try:
        message = loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace").strip()
    return str(message) or f"{response.status} {response.reason}".strip()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _readable(stream: Stream) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    return bool(poll.poll(0))


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: str = "") -> str:
    """Percent-encodes for a path or a query (urllib.parse takes 10 ms to import)."""
    if _PLAIN.issuperset(text):
        return text
    return "".join(
        char
        if char in _PLAIN or char in safe
        else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in text
    )


def _encode(query: Query) -> str:
    """A query string; lists repeat their key. Empty when nothing is left."""
    pairs = []
    for key, value in query.items():
        for item in value if isinstance(value, list) else (value,):
            if item is None or item is False or item in ("", {}):
                continue
            text = "1" if item is True else dumps(item).decode() if isinstance(item, dict) else str(item)
            pairs.append(f"{key}={quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


def image_path(name: str, action: str = "") -> str:
    """The API's path of an image, or of what is done to it."""
    return f"/images/{quote(name, '/:@')}" + (f"/{action}" if action else "")


def container_path(name: str, action: str = "") -> str:
    """The API's path of a container, or of what is done to it. Raises ClientError for a name that is empty."""
    if not name:
        raise ClientError("invalid container name or ID: value is empty")
    return f"/containers/{quote(name)}" + (f"/{action}" if action else "")


def network_path(name: str, action: str = "") -> str:
    """The API's path of a network, or of what is done to it."""
    return f"/networks/{quote(name)}" + (f"/{action}" if action else "")


def volume_path(name: str, action: str = "") -> str:
    """The API's path of a volume, or of what is done to it."""
    return f"/volumes/{quote(name)}" + (f"/{action}" if action else "")
