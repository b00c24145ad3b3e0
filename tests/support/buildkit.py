"""A small client of BuildKit's protocol: a session that serves files, and calls to the engine over /grpc."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, cast

from wherry.buildkit import messages
from wherry.buildkit.grpc import NOT_FOUND, Call, Channel, Method, RpcError, Server
from wherry.buildkit.http2 import Connection, texts
from wherry.buildkit.session import carry
from wherry.common.ignore import PatternMatcher
from wherry.storage.worker.rootfs import go_mode

STAT, REQ, DATA, FIN = range(4)
DIRECTORY = 1 << 31
LINK = 1 << 27

Files = dict[str, Any]
"""Paths to contents, to STAT messages for what is no ordinary file, or to both."""


def files_of(directory: Path) -> Files:
    """What a client sends of a directory."""
    found: Files = {}
    links: dict[int, str] = {}
    for path in sorted(directory.rglob("*")):
        name, facts = str(path.relative_to(directory)), path.lstat()
        given = messages.Stat(mode=go_mode(facts.st_mode), uid=facts.st_uid, gid=facts.st_gid, mtime=facts.st_mtime_ns)
        found[name] = given
        if path.is_symlink():
            given.linkname = os.readlink(path)
        elif path.is_file():
            given.size = facts.st_size
            if facts.st_nlink > 1 and (first := links.setdefault(facts.st_ino, name)) != name:
                given.linkname = first
            else:
                found[name] = (given, path.read_bytes())
    return found


class _Upgrade(asyncio.Protocol):
    """Asks for the connection to become HTTP/2, and hands it over once that is answered."""

    def __init__(self, request: str, protocol: Connection) -> None:
        self._request, self._protocol, self._head = request, protocol, b""
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            if head.startswith(b"HTTP/1.1 101"):
                self._transport.set_protocol(self._protocol)
                self._protocol.connection_made(self._transport)
                if rest:
                    self._protocol.data_received(rest)
            self.answered.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("closed before the answer"))


async def upgrade(socket: Path, path: str, protocol: Connection, headers: Mapping[str, str] | None = None) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{lines}\r\n"
    waiting = _Upgrade(request, protocol)
    await asyncio.get_running_loop().create_unix_connection(lambda: waiting, str(socket))
    head = await waiting.answered
    assert head.startswith(b"HTTP/1.1 101"), head


class Client:
    """``files`` are what the client's directory holds; ``asked_for`` the paths whose contents the engine wanted."""

    def __init__(self, socket: Path, files: Files, secrets_: Mapping[str, bytes] | None = None) -> None:
        self.socket = socket
        self.files = files
        self.secrets = dict(secrets_ or {})
        self.dockerfiles: Files = {}  # where the Dockerfile lies, if not among the files
        self.asked_for: list[str] = []
        self.shared_key = "a directory"
        self.session_id = secrets.token_hex(8)
        self.channel: Channel | None = None
        self.session: Connection | None = None
        self.diff_copy: Callable[[Call], Any] = self.serve_files
        self.takes_files: asyncio.Event | None = None  # set when the result is offered, which is then not taken

    async def connect(self, *, natively: bool = False) -> None:
        """``natively``: HTTP/2 from the first byte, and the session as a call on it, as clients do since API 1.53."""
        connection = Connection()
        loop = asyncio.get_running_loop()
        if natively:
            await loop.create_unix_connection(lambda: connection, str(self.socket))
        else:
            await upgrade(self.socket, "/grpc", connection)
        self.channel = Channel(connection)
        server = Server(
            {
                "/moby.filesync.v1.FileSync/DiffCopy": Method(messages.Packet, self._diff_copy, streams=True),
                "/moby.buildkit.secrets.v1.Secrets/GetSecret": Method(messages.GetSecretRequest, self._secret),
                "/moby.filesync.v1.FileSend/DiffCopy": Method(messages.Packet, self._take_files, streams=True),
            }
        )
        self.session = server.connection()
        headers = {
            "X-Docker-Expose-Session-Uuid": self.session_id,
            "X-Docker-Expose-Session-Sharedkey": self.shared_key,
            "X-Docker-Expose-Session-Grpc-Method": "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        }
        if natively:
            self._tunnel = asyncio.create_task(self._carry(self.session, headers))
        else:
            await upgrade(self.socket, "/session", self.session, headers)

    async def _carry(self, session: Connection, headers: Mapping[str, str]) -> None:
        assert self.channel is not None
        metadata = [(name.lower(), value) for name, value in headers.items()]
        async with self.channel.call("/moby.buildkit.v1.Control/Session", metadata) as call:
            await carry(call, session)

    def close(self) -> None:
        for connection in (self.session, self.channel.connection if self.channel else None):
            if connection is not None:
                connection.close()

    async def _secret(self, request: Any, metadata: Any) -> Any:
        if request.id not in self.secrets:
            raise RpcError(NOT_FOUND, f"secret {request.id} not found")
        return messages.GetSecretResponse(data=self.secrets[request.id])

    async def _take_files(self, call: Call) -> None:
        if self.takes_files is not None:
            self.takes_files.set()
        await asyncio.sleep(60)

    async def _diff_copy(self, call: Call) -> None:
        await self.diff_copy(call)

    async def serve_files(self, call: Call) -> None:
        """As fsutil's sender does."""
        follow = texts(call.metadata, "followpaths")
        left_out = PatternMatcher.of(texts(call.metadata, "exclude-patterns"))
        asks_for_dockerfile = "dockerfile" in texts(call.metadata, "dir-name")
        files = self.dockerfiles if self.dockerfiles and asks_for_dockerfile else self.files
        found = {path: files[path] for path in sorted(files, key=_as_walked) if not follow or path in follow}
        kept = [path for path in found if not left_out.matches(path)]
        above = {str(each) for path in kept for each in PurePosixPath(path).parents}
        found = {path: content for path, content in found.items() if path in kept or path in above}
        for path, content in found.items():
            if isinstance(content, bytes):
                found[path] = content = (messages.Stat(mode=0o644, size=len(content), mtime=1), content)
            given = content[0] if isinstance(content, tuple) else content
            given.path = path
            await call.send(messages.Packet(type=STAT, stat=given))
        await call.send(messages.Packet(type=STAT))
        paths = list(found)
        async for packet in call.messages(messages.Packet):
            if packet.type == REQ:
                self.asked_for.append(paths[packet.id])
                _, content = found[paths[packet.id]]
                for at in range(0, len(content), 32768):
                    await call.send(messages.Packet(type=DATA, id=packet.id, data=content[at : at + 32768]))
                await call.send(messages.Packet(type=DATA, id=packet.id))
            elif packet.type == FIN:
                await call.send(messages.Packet(type=FIN))
                return

    async def control(self, method: str, request: Any, answer: Any) -> Any:
        assert self.channel is not None
        return await self.channel.ask(f"/moby.buildkit.v1.Control/{method}", request, answer)

    async def build(
        self,
        *names: str,
        ref: str = "",
        entitlements: tuple[str, ...] = (),
        said: Mapping[str, str] = MappingProxyType({}),
        exporter: str = "moby",
        **options: str,
    ) -> Any:
        """Solves by the frontend at once; the exporter's response. ``options`` are the frontend's, with underscores
        for dashes, and ``said`` those as they are. Raises RpcError.
        """
        spelled = {name.replace("__", ":").replace("_", "-"): value for name, value in options.items()}
        request = messages.SolveRequest(
            ref=ref or secrets.token_hex(8),
            session=self.session_id,
            frontend="dockerfile.v0",
            frontend_attrs={**spelled, **said},
            entitlements=entitlements,
            exporter=exporter,
            exporter_attrs={"name": ",".join(names)} if names else {},
        )
        return (await self.control("Solve", request, messages.SolveResponse)).exporter_response

    async def progress(self, ref: str) -> list[Any]:
        """All that is told of a build until it ends."""
        assert self.channel is not None
        async with self.channel.call("/moby.buildkit.v1.Control/Status") as call:
            await call.send(messages.StatusRequest(ref=ref), end=True)
            return [message async for message in call.messages(messages.StatusResponse)]


def _as_walked(path: str) -> list[str]:
    """A directory before what is in it, and both before what comes after them."""
    return path.split("/")


@contextlib.asynccontextmanager
async def client(
    socket: Path, files: Files, secrets_: Mapping[str, bytes] | None = None, *, natively: bool = False
) -> AsyncIterator[Client]:
    made = Client(socket, files, secrets_)
    made.shared_key = os.urandom(8).hex()
    await made.connect(natively=natively)
    try:
        yield made
    finally:
        made.close()
