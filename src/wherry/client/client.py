"""The Engine API for Python programs and for the command line.

    from wherry.client.client import Client

    with Client("unix:///run/wherry/wherry.sock") as client:
        for container in client.containers.list(all=True):
            print(container["Id"], container["State"])

Values are what the API's JSON holds, in its own words: dicts, lists, strings, numbers.
"""

from __future__ import annotations

import select

from wherry.client.c_modules import dumps, loads
from wherry.client.endpoint import Host
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
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypedDict, Unpack

    from wherry.client.endpoint import TLS, Stream
    from wherry.client.transport import Response

    Query = dict[str, Any]

    class Parts(TypedDict, total=False):
        """Of a request. `body` is sent as JSON; or `data` as it is (`size` bytes of it, or in chunks). `upgrade` asks
        to take the connection over. Of `query`, what is empty, None or False is left out; True is 1, dicts become
        JSON."""

        query: Query | None
        body: Any
        data: Iterable[bytes | memoryview] | None
        size: int | None
        headers: dict[str, str] | None
        upgrade: bool


# The newest version of the API that this speaks; an engine that has less is asked in its own.
API_VERSION = "1.54"
DEFAULT_HOST = "unix:///run/wherry/wherry.sock"

_TOO_NEW = "is too new"


class Client:
    """A way to one engine. Not for several threads at once; each may have its own.

    `host` is an address as in `wherry.client.endpoint`; `headers` go with every request; `version` pins the API's
    version (otherwise the newest that both sides speak is used, at no cost when the engine is as new as this).
    `unreachable` is called once when nothing listens at the address, and may start an engine: True means try again.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        *,
        tls: TLS | None = None,
        version: str = "",
        headers: dict[str, str] | None = None,
        unreachable: Callable[[], bool] | None = None,
    ) -> None:
        """Raises HostError for an address that cannot be one. Connects when first used."""
        self.host = Host(host, tls)
        self.version = version or API_VERSION
        self._pinned = bool(version)
        self._agreed = self._pinned
        self._headers = headers or {}
        self._unreachable = unreachable
        self._idle: list[Connection] = []
        self.containers = Containers(self)
        self.execs = Execs(self)
        self.images = Images(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that no response is being read from."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    # Requests, from the most convenient down to the bare one.

    def get(self, path: str, **query: Any) -> Any:
        """GET, and the JSON of the answer. `query` as in Parts.

        Raises APIError, ConnectionFailed, ConnectionLost; so do all the others here.
        """
        return self.request("GET", path, query=query).json()

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """POST of a JSON body, if any, and the JSON of the answer, None when it is empty."""
        return self.request("POST", path, query=query, body=body).json()

    def delete(self, path: str, **query: Any) -> Any:
        return self.request("DELETE", path, query=query).json()

    def request(self, method: str, path: str, **parts: Unpack[Parts]) -> Response:
        """A request and its response, whose body is still to be read. `path` is without the version."""
        if parts.get("data") is not None:
            self.negotiate()  # data can be sent once only, so the version has to be right
        return self.begin(method, path, **parts).response()

    def begin(self, method: str, path: str, **parts: Unpack[Parts]) -> Pending:
        """Sends a request on a connection of its own and does not wait for the answer: `Pending.response()` does.

        So several requests can be under way at once, without a thread.
        """
        return Pending(self, method, f"/v{{}}{path}", parts).send()

    def hijack(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> tuple[Stream, bytes]:
        """A request after which the connection is a plain stream both ways: that, and bytes that came already."""
        return self.begin(method, path, query=query, body=body, upgrade=True).take_over()

    def negotiate(self) -> str:
        """Asks the engine, unless that is known, for the API version to use, and gives it."""
        if not self._agreed:
            response = self.ping()
            self._agree(response.headers.get("api-version", ""))
        return self.version

    def ping(self) -> Response:
        """HEAD /_ping: the answer's headers tell of the engine (`api-version`, `ostype`, `swarm`…)."""
        return Pending(self, "HEAD", "/_ping", {}).send().response()

    # Connections.

    def _agree(self, engine: str) -> None:
        self._agreed = True
        if engine and not self._pinned and _number(engine) < _number(self.version):
            self.version = engine

    def _connect(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not _readable(connection.stream):
                return connection
            connection.close()  # what can be read from an idle connection is its end
        try:
            return Connection(self.host.connect())
        except PermissionMissing:
            raise  # there is an engine
        except ConnectionFailed:
            start, self._unreachable = self._unreachable, None
            if not start or not start():
                raise
            return Connection(self.host.connect())

    def _release(self, connection: Connection) -> None:
        self._idle.append(connection)


class Pending:
    """A request that has been sent, or is about to be."""

    def __init__(self, client: Client, method: str, path: str, parts: Parts) -> None:
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

    def send(self) -> Pending:
        client = self._client
        self._version = client.version
        headers = {"Host": client.host.header, "User-Agent": "wherry", **client._headers, **self._headers}
        target = self._path.replace("{}", self._version, 1) + self._query
        if self._body is not None:
            headers["Content-Type"] = "application/json"
        if self._upgrade:
            headers["Connection"] = "Upgrade"
            headers["Upgrade"] = "tcp"
        self._connection = client._connect()
        if self._data is not None:
            self._connection.send_stream(self._method, target, headers, self._data, self._size)
        else:
            self._connection.send(self._method, target, headers, self._body)
        return self

    def response(self) -> Response:
        """Waits for the answer. Raises APIError when it is an error, ConnectionLost when none comes."""
        response = self._receive()
        if response.status < 400:
            return response
        message = _message(response)
        if self._may_agree(response.status, message):
            self._client._agree(response.headers.get("api-version", ""))
            if self._client.version != self._version:
                return self.send().response()
        raise APIError(response.status, message)

    def _receive(self) -> Response:
        assert self._connection is not None
        done = None if self._upgrade else self._client._release
        kept_open = self._connection.reused
        try:
            return self._connection.receive(self._method, done)
        except ConnectionLost:
            # An idle connection may end just as it is used again. What only asks can be asked again.
            if not kept_open or self._method not in ("GET", "HEAD"):
                raise
        self.send()
        return self._connection.receive(self._method, done)

    def _may_agree(self, status: int, message: str) -> bool:
        """Whether this is an older engine's refusal of a newer version, and asking again is harmless."""
        return status == 400 and _TOO_NEW in message and self._data is None and not self._client._pinned

    def take_over(self) -> tuple[Stream, bytes]:
        """Waits for the answer and gives the connection as a stream, and bytes that came already."""
        response = self.response()
        # Docker answers 101 when asked to upgrade; 200 was its answer before, and is what some proxies make of it.
        if response.status not in (101, 200):
            response.close()
            raise ConnectionLost(f"unable to upgrade to tcp, received {response.status}")
        return response.take_over()

    def fileno(self) -> int:
        assert self._connection is not None
        return self._connection.stream.fileno()


def _message(response: Response) -> str:
    """The text of an error, which is JSON from an engine and anything from a proxy before it."""
    body = response.read()
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


class Containers:
    """`client.containers`: a container is named by its id, the beginning of that, or its name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        all: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: dict[str, list[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """GET /containers/json: the running ones, or `all`; `size` in bytes is slow to find out."""
        found: list[dict[str, Any]] = self._client.get(
            "/containers/json", all=all, limit=limit, size=size, filters=filters
        )
        return found

    def create(self, config: dict[str, Any], *, name: str = "", platform: str = "") -> dict[str, Any]:
        """POST /containers/create: `{"Id": …, "Warnings": […]}`."""
        made: dict[str, Any] = self._client.post("/containers/create", config, name=name, platform=platform)
        return made

    def inspect(self, container: str, *, size: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(container_path(container, "json"), size=size)
        return found

    def start(self, container: str, *, detach_keys: str = "", **query: Any) -> None:
        self._client.post(container_path(container, "start"), detachKeys=detach_keys, **query)

    def attach(
        self,
        container: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> Pending:
        """Asks to attach; `.take_over()` gives the stream (framed unless the container has a terminal)."""
        query: Query = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "logs": logs}
        query["detachKeys"] = detach_keys
        return self._client.begin("POST", container_path(container, "attach"), query=query, upgrade=True)

    def begin_wait(self, container: str, condition: str = "not-running") -> Pending:
        """Asks to be told of the end: once `.response()` is there the engine watches; its `.json()` comes then."""
        return self._client.begin("POST", container_path(container, "wait"), query={"condition": condition})

    def wait(self, container: str, condition: str = "not-running") -> dict[str, Any]:
        """Blocks until the condition (not-running, next-exit, removed): `{"StatusCode": …, "Error": …}`."""
        ended: dict[str, Any] = self.begin_wait(container, condition).response().json()
        return ended

    def kill(self, container: str, signal: str = "") -> None:
        self._client.post(container_path(container, "kill"), signal=signal)

    def stop(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        """`timeout` in seconds before SIGKILL; -1 waits for ever."""
        self._client.post(container_path(container, "stop"), t=timeout, signal=signal)

    def restart(self, container: str, *, timeout: int | None = None, signal: str = "") -> None:
        self._client.post(container_path(container, "restart"), t=timeout, signal=signal)

    def remove(self, container: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        self._client.delete(container_path(container), force=force, v=volumes, link=link)

    def resize(self, container: str, rows: int, columns: int) -> None:
        self._client.post(container_path(container, "resize"), h=rows, w=columns)

    def logs(self, container: str, **query: Any) -> Response:
        """The log as a body of frames, or plain for a container with a terminal; `query` as the API names it."""
        return self._client.request("GET", container_path(container, "logs"), query=query)


class Execs:
    """`client.execs`: further processes in a running container."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, container: str, config: dict[str, Any]) -> str:
        """Its id."""
        made: dict[str, Any] = self._client.post(container_path(container, "exec"), config)
        return str(made["Id"])

    def start(self, exec_id: str, config: dict[str, Any]) -> None:
        """Starts it detached."""
        self._client.post(f"/exec/{quote(exec_id)}/start", config)

    def attach(self, exec_id: str, config: dict[str, Any]) -> Pending:
        """Starts it and takes the connection over: `.take_over()`."""
        return self._client.begin("POST", f"/exec/{quote(exec_id)}/start", body=config, upgrade=True)

    def inspect(self, exec_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(f"/exec/{quote(exec_id)}/json")
        return found

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        self._client.post(f"/exec/{quote(exec_id)}/resize", h=rows, w=columns)


class Images:
    """`client.images`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self, *, all: bool = False, filters: dict[str, list[str]] | None = None, manifests: bool = False
    ) -> list[dict[str, Any]]:
        """GET /images/json; with `manifests`, what each image is for which platform."""
        found: list[dict[str, Any]] = self._client.get("/images/json", all=all, filters=filters, manifests=manifests)
        return found

    def inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(f"/images/{quote(image, '/:@')}/json")
        return found

    def pull(self, repository: str, tag: str, *, platform: str = "", auth: str = "") -> Iterator[dict[str, Any]]:
        """POST /images/create: the progress, message by message."""
        query = {"fromImage": repository, "tag": tag, "platform": platform}
        headers = {"X-Registry-Auth": auth} if auth else {}
        return self._client.request("POST", "/images/create", query=query, headers=headers).values()

    def push(
        self, repository: str, tag: str, *, platform: dict[str, str] | None = None, auth: str = ""
    ) -> Iterator[dict[str, Any]]:
        """POST /images/NAME/push: the progress, message by message. Without a tag, all are pushed."""
        query = {"tag": tag, "platform": platform}
        # Docker's engine wants the header even when it is empty.
        path = f"/images/{quote(repository, '/:')}/push"
        return self._client.request("POST", path, query=query, headers={"X-Registry-Auth": auth or "e30="}).values()


def image_path(name: str, action: str = "") -> str:
    """The API's path of an image, or of what is done to it."""
    return f"/images/{quote(name, '/:@')}" + (f"/{action}" if action else "")


def container_path(name: str, action: str = "") -> str:
    """The API's path of a container, or of what is done to it. Raises ClientError for a name that is empty."""
    if not name:
        raise ClientError("invalid container name or ID: value is empty")
    return f"/containers/{quote(name)}" + (f"/{action}" if action else "")
