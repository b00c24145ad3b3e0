"""Sessions: connections on which the client is the server, and the engine asks it for what a build needs.

A client opens one before it asks for a build, under an id that the build names.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from wherry.buildkit import messages
from wherry.buildkit.grpc import NOT_FOUND, UNIMPLEMENTED, Call, Channel, RpcError
from wherry.buildkit.http2 import Connection
from wherry.common.errors import Conflict, NotFound
from wherry.registry.auth import NOBODY, Credentials

_PATIENCE = 30.0  # seconds that a build waits for the session it names
_HUB = "registry-1.docker.io"  # what clients know Docker Hub's log-in by
_AGENT = "default"
_CHUNK = 64 << 10


class Session:
    """One client's. ``shared_key`` is the same each time that client comes from the same directory."""

    def __init__(self, session_id: str, shared_key: str, methods: Sequence[str]) -> None:
        self.id, self.shared_key = session_id, shared_key
        self._methods = frozenset(method.lower() for method in methods)
        self.connection = Connection()
        self.channel = Channel(self.connection)

    def offers(self, path: str) -> bool:
        """Whether the client answers that method."""
        return path.lower() in self._methods

    async def secret(self, secret_id: str) -> bytes | None:
        """None when the client was given none of that id."""
        path = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
        if not self.offers(path):
            return None
        try:
            answer = await self.channel.ask(path, messages.GetSecretRequest(id=secret_id), messages.GetSecretResponse)
        except RpcError as error:
            if error.code in (NOT_FOUND, UNIMPLEMENTED):
                return None
            raise
        found: bytes = answer.data
        return found

    async def credentials(self, domain: str) -> Credentials:
        """The client's log-in at a registry; NOBODY where there is none."""
        path = "/moby.filesync.v1.Auth/Credentials"
        if not self.offers(path):
            return NOBODY
        request = messages.CredentialsRequest(host=_HUB if domain == "docker.io" else domain)
        answer = await self.channel.ask(path, request, messages.CredentialsResponse)
        if not answer.secret:
            return NOBODY
        if not answer.username:
            return Credentials(identitytoken=answer.secret)
        return Credentials(username=answer.username, password=answer.secret)

    async def upload(self, path: str) -> AsyncIterator[bytes]:
        """What the client has on its standard input, say. Raises RpcError."""
        async with self.channel.call("/moby.upload.v1.Upload/Pull", [("urlpath", path)]) as call:
            await call.send_end()
            async for message in call.messages(messages.Bytes):
                yield message.data

    @contextlib.asynccontextmanager
    async def agent(self, agent_id: str, directory: str) -> AsyncIterator[str]:
        """A socket of this machine, in ``directory``, behind which the client's ssh agent answers. Raises RpcError."""
        await self.channel.ask(
            "/moby.sshforward.v1.SSH/CheckAgent",
            messages.CheckAgentRequest(id=agent_id or _AGENT),
            messages.CheckAgentResponse,
        )
        path = f"{directory}/agent-{os.urandom(4).hex()}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            server = await asyncio.start_unix_server(
                lambda reader, writer: self._forward(agent_id or _AGENT, reader, writer), sock=listening
            )
            async with server:
                yield path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def _forward(self, agent_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self.channel.call("/moby.sshforward.v1.SSH/ForwardAgent", [("buildkit.ssh.id", agent_id)]) as call:

            async def send() -> None:
                while data := await reader.read(_CHUNK):
                    await call.send(messages.Bytes(data=data))
                await call.send_end()

            sending = asyncio.create_task(send())
            try:
                async for message in call.messages(messages.Bytes):
                    writer.write(message.data)
                    await writer.drain()
            except (RpcError, ConnectionError):
                pass
            finally:
                sending.cancel()
                writer.close()


class Sessions:
    """The sessions that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._changed = asyncio.Event()

    def add(self, session: Session) -> None:
        """Raises Conflict when there is one of that id."""
        if session.id in self._open:
            raise Conflict(f"session {session.id} exists already")
        self._open[session.id] = session
        session.connection.closed.add_done_callback(lambda _: self._open.pop(session.id, None))
        self._changed.set()
        self._changed = asyncio.Event()

    async def get(self, session_id: str) -> Session:
        """Waits for it to be opened. Raises NotFound."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while session_id not in self._open:
                    await self._changed.wait()
        except TimeoutError:
            raise NotFound(f"no active session for {session_id}") from None
        return self._open[session_id]


# An HTTP/2 connection inside a call of another: each message carries some of its bytes.

_HIGH = 1 << 20  # bytes not sent yet at which the inner connection is told to wait


class _Transport(asyncio.Transport):
    """What the inner connection writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.size = 0
        self._closing = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self.size += len(data)
            self.queue.put_nowait(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return self.size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self.queue.put_nowait(None)


async def carry(call: Call, inner: Connection) -> None:
    """Carries a connection's bytes both ways until either side ends."""
    transport = _Transport()
    inner.connection_made(cast(asyncio.BaseTransport, transport))

    async def send() -> None:
        while (data := await transport.queue.get()) is not None:
            if transport.size > _HIGH:
                inner.pause_writing()
            await call.send(messages.Bytes(data=data))
            transport.size -= len(data)
            if transport.size <= _HIGH:
                inner.resume_writing()

    async def receive() -> None:
        async for message in call.messages(messages.Bytes):
            inner.data_received(message.data)

    tasks = [asyncio.create_task(send()), asyncio.create_task(receive())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        inner.connection_lost(None)
