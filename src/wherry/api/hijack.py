"""What becomes of an HTTP connection that turns into a stream: attach and exec.

The client asks by POST, gets the head of an answer, and from then on the connection carries the container's output one
way and its input the other, until one side ends it::

    client ⇄ transport ⇄ ClientStream ⇄ NearEnd ⇄ transport ⇄ socket of the monitor

Output arrives framed already, so bytes pass through unchanged. Each side stops the other's reading while it cannot
write. A client that closes its writing half ("no more input") closes the container's standard input and goes on
reading; Docker's client without ``-i`` does so at once. An end of output closes our writing half, and the connection
goes once the client has closed too: closing it with unread input in its queue would throw away output under way.
"""

import asyncio
import contextlib
import fcntl
import select
import socket
import termios
from collections.abc import AsyncIterator, Callable
from typing import Protocol, cast

from aiohttp import web

from wherry.api.connection import Connection, HangUp
from wherry.api.headers import HEADERS
from wherry.api.request import Request
from wherry.api.response import RAW_STREAM
from wherry.common.detach_keys import DetachDetector, parse_keys
from wherry.common.errors import InvalidParameter

# The near end of a relay: a socket of ours, between whose other end and a client everything is carried.


class Far(Protocol):
    """The client's side. Each side stops the other's reading while it cannot write."""

    half_open: bool  # whether the client's input goes on when there is no more output

    def send(self, data: bytes) -> None: ...

    def near_ended(self) -> None:
        """No more will come to be sent."""

    def near_lost(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Side(asyncio.Protocol):
    """One of two that are joined; its transport may be gone already when the other one speaks of it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class NearEnd(Side):
    """``connect`` joins it to its socket."""

    def __init__(self, far: Far) -> None:
        super().__init__()
        self._far = far
        self._unread: socket.socket | None = None

    async def connect(self, sock: socket.socket) -> None:
        """Takes the socket over."""
        self._unread = sock.dup()
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)
        except BaseException:
            self._unread.close()
            raise

    def data_received(self, data: bytes) -> None:
        self._far.send(data)

    def eof_received(self) -> bool:
        self._far.near_ended()
        return self._far.half_open

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._unread is not None:
            with self._unread as sock, contextlib.suppress(OSError):
                # A write has failed, since the other end has closed: before that it may have said what nobody has read
                while error is not None and (data := sock.recv(_PIECE)):
                    self._far.send(data)
            self._unread = None
        self._far.near_lost()

    def pause_writing(self) -> None:
        self._far.pause_reading()

    def resume_writing(self) -> None:
        self._far.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """No more will be written."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def read_detach_keys(text: str) -> bytes:
    """Raises InvalidParameter, in Docker's words."""
    try:
        return parse_keys(text)
    except ValueError:
        raise InvalidParameter(f"Invalid detach keys ({text}) provided") from None


_PIECE = 1 << 16
LINGER = 10.0  # seconds that a client gets to close its side after the end of the output
_HEAD_PATIENCE = 0.2  # seconds that a client gets to read the head of the answer before output follows it
_STDOUT = 1


class Hijacked(web.StreamResponse):
    """What a handler returns once the connection is no longer HTTP: nothing more is to be sent."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        pass


@contextlib.asynccontextmanager
async def hijack(
    request: Request,
    content_type: str,
    *,
    stdin: bool = False,
    stdin_closes: bool = True,
    detach_keys: bytes = b"",
    on_detach: Callable[[], None] | None = None,
    framed: bool = False,
) -> AsyncIterator["ClientStream"]:
    """Takes over the connection: sends the head of the answer, and gives what can be written to and joined to a socket.

    ``stdin``: the client's bytes are the container's input. ``stdin_closes``: their end closes it; otherwise it ends
    the attachment, which is what Docker does for a terminal. ``detach_keys`` among them end the attachment, and
    ``on_detach`` is told. ``framed``: the output comes bare, from a terminal, and the client wants it in frames.
    """
    transport = request.http.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    client = ClientStream(transport, stdin, stdin_closes, detach_keys, on_detach, framed)
    try:
        client.take_over(request, content_type)
        yield client
    finally:
        client.close()


class ClientStream(asyncio.Protocol):
    """The client's side of a connection taken over."""

    half_open = False

    def __init__(
        self,
        transport: asyncio.Transport,
        stdin: bool,
        stdin_closes: bool,
        detach_keys: bytes,
        on_detach: Callable[[], None] | None,
        framed: bool,
    ) -> None:
        self._container: NearEnd | None = None
        self._gone = asyncio.Event()
        self._transport = transport
        self._stdin = stdin
        self._stdin_closes = stdin_closes
        self._detector = DetachDetector(detach_keys) if stdin and detach_keys else None
        self._on_detach = on_detach
        self._framed = framed
        self._http = cast(Connection, transport.get_protocol())
        self._writable = asyncio.Event()
        self._writable.set()
        self._input_ended = False
        self._output_ended = False
        self._exited: asyncio.Future[int] | None = None
        self._head_read = False
        self._hang_up: HangUp | None = None
        self._linger: asyncio.TimerHandle | None = None

    def take_over(self, request: Request, content_type: str) -> None:
        """Answers, and takes the connection."""
        if "Upgrade" in request.http.headers:
            start = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        else:
            start, content_type = "HTTP/1.1 200 OK\r\n", RAW_STREAM
        lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        self._transport.write(f"{start}Content-Type: {content_type}\r\n{lines}\r\n".encode())
        self._transport.set_protocol(self)
        self._transport.pause_reading()

    async def join(self, sock: socket.socket | None, exited: asyncio.Future[int] | None = None) -> None:
        """Joins the client to ``sock``, and returns when both have ended. None is an end already.

        The client does not see the end of the output before ``exited`` is done.
        """
        self._exited = exited
        await self._let_head_be_read()
        if sock is None:
            self.output_ended()
        else:
            container = self._container = NearEnd(self)
            await container.connect(sock)
            self._listen()
        await self._gone.wait()

    async def _let_head_be_read(self) -> None:
        """Python's HTTP client reads ahead of the head and loses what it finds there (docker-py's exec_run), so the
        output must not follow too closely. A unix socket tells how much its other end has not read yet."""
        sock = self._transport.get_extra_info("socket")
        if self._head_read or sock is None or sock.family != socket.AF_UNIX:
            return
        self._head_read = True
        await asyncio.sleep(0)  # what was written is sent at the end of the loop's round
        if sock.fileno() < 0 or not _unread(sock):
            return
        loop = asyncio.get_running_loop()
        read = asyncio.Event()

        def look() -> None:
            reads.poll(0)
            if not _unread(sock):
                read.set()

        with select.epoll() as reads:  # the kernel signals an edge each time that the other end has read
            reads.register(sock.fileno(), select.EPOLLOUT | select.EPOLLET)
            loop.add_reader(reads.fileno(), look)
            try:
                await asyncio.wait_for(read.wait(), _HEAD_PATIENCE)
            except TimeoutError:
                return
            finally:
                loop.remove_reader(reads.fileno())

    def _listen(self) -> None:
        """Lets the client's bytes in, those sent ahead first, now that there is somewhere for them to go."""
        if self._http.held:
            self.data_received(self._http.held)
        if self._http.held_end and not self.eof_received():
            self._transport.close()
        if not self._input_ended and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not self._stdin or self._output_ended or self._container is None:
            return
        if self._detector is not None:
            data = self._detector.feed(data)
        if data:
            self._container.write(data)
        if self._detector is not None and self._detector.complete:
            if self._on_detach is not None:
                self._on_detach()
            self._container.close()
            self.output_ended()

    def eof_received(self) -> bool:
        """The client has closed its writing half. True keeps the other one open."""
        self._input_ended = True
        if self._output_ended:
            return False
        if self._stdin and self._container is not None:
            if not self._stdin_closes:
                self._container.close()
                return False
            self._container.end()
        self._hang_up = HangUp(self._transport)
        return True

    async def write(self, data: bytes) -> None:
        """Sends what goes before the socket's output."""
        await self._let_head_be_read()
        await self._writable.wait()
        self._transport.write(data)

    def send(self, data: bytes) -> None:
        self._transport.write(frame(data) if self._framed else data)

    def near_ended(self) -> None:
        """The container's side has no more output."""
        if self._exited is None or self._exited.done():
            self.output_ended()
        else:
            self._exited.add_done_callback(lambda _: self.output_ended())

    near_lost = near_ended

    def output_ended(self) -> None:
        """Nothing more will be written: says so, and gives the client time to close its side."""
        if self._output_ended:
            return
        self._output_ended = True
        if self._input_ended or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._linger = asyncio.get_running_loop().call_later(LINGER, self._transport.close)

    def pause_writing(self) -> None:
        self._writable.clear()
        if self._container is not None:
            self._container.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._container is not None:
            self._container.resume_reading()

    def pause_reading(self) -> None:
        if not self._input_ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._input_ended and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._hang_up is not None:
            self._hang_up.stop()
        if self._linger is not None:
            self._linger.cancel()
        self._output_ended = True
        self._writable.set()
        self._gone.set()
        if self._container is not None:
            self._container.close()
        self._http.connection_lost(error)  # the server still counts it among its connections

    def close(self) -> None:
        self._transport.close()


def frame(data: bytes) -> bytes:
    """A piece of standard output as it goes to clients of a container without a terminal."""
    return bytes((_STDOUT, 0, 0, 0)) + len(data).to_bytes(4) + data


def _unread(sock: socket.socket) -> int:
    """How many bytes the other end of a unix socket has still to read."""
    if sock.fileno() < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
