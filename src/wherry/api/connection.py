"""A client's connection, as aiohttp has it, and with an eye on requests that turn it into a stream.

What a client sends after such a request is input for a container, and may come before the answer has gone out.
aiohttp's parser would take it for another request, so it is held back here, until ``hijack`` asks for it.

Requests that change something wait for their turns, see ``turns``.
"""

import asyncio
import contextlib
import logging
import re
import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from aiohttp import web

from wherry.api import response
from wherry.api.turns import LOOKS, Turns

if TYPE_CHECKING:
    from wherry.buildkit.http2 import Connection as Http2Connection

log = logging.getLogger("wherry.api")

_STREAMS = re.compile(rb"POST (?:/v[0-9.]+)?/(?:containers/[^ ?]+/attach|exec/[^ ?]+/start|session|grpc)[ ?]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_LONGEST_HEAD = 1 << 20  # bytes, as in Docker: build arguments and log-ins for many registries go in there
_HELD = 1 << 16  # bytes held back before the client is stopped
_READ_AHEAD = 1 << 18  # bytes of a body: uploads of layers are what it is for

_NO_ACCESS_LOG = logging.Logger("none", logging.WARNING)  # not even a line is formatted

_HTTP2 = b"PRI * HTTP/2.0\r\n\r\n"  # how a client begins that knows the server to speak HTTP/2

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Caller(NamedTuple):
    """Who has shown a certificate of TLS: its common name, and the certificate in PEM."""

    user: str
    certificate: bytes


class Connection(web.RequestHandler):
    """``held`` is what came after a request for a stream, ``held_end`` whether the client then closed its half."""

    __slots__ = (
        "_body_left", "_early", "_head", "_http2", "_idle", "_turns", "_watch", "caller", "held", "held_end", "streams",
    )  # fmt: skip

    def __init__(self, server: "HttpServer", loop: asyncio.AbstractEventLoop) -> None:
        self._http2 = server.http2
        self._turns = server.turns
        self.caller: Caller | None = None
        super().__init__(
            server,
            loop=loop,
            access_log=_NO_ACCESS_LOG,
            auto_decompress=False,
            read_bufsize=_READ_AHEAD,
            max_line_size=_LONGEST_HEAD,
            max_field_size=_LONGEST_HEAD,
        )
        self.streams = False  # the request at hand asks for a stream
        self.held = b""
        self.held_end = False
        self._head = b""
        self._early = b""  # a request that waits for its turn
        self._body_left = 0
        self._idle = True  # the next byte begins a request
        self._watch: HangUp | None = None

    def data_received(self, data: bytes) -> None:
        if self._early:
            self._early += self._hold(data) if self.streams else data
            return
        if self._idle and data:
            data = self._begin(self._head + data)
            if data and not data.startswith(LOOKS) and not self._turns.take():
                self._wait(data)
                return
        elif self.streams:
            data = self._hold(data)
        if data or not self.streams:
            super().data_received(data)

    def _wait(self, data: bytes) -> None:
        """For the turn of a request, of which the rest waits with the client."""
        self._early = data
        if self.transport is not None:
            self.transport.pause_reading()
        self._turns.wait(self._go_on)

    def _go_on(self) -> None:
        """Begins the request that has waited."""
        data, self._early = self._early, b""
        if self.transport is None or self.transport.is_closing():
            return
        self._turns.take()
        if len(self.held) <= _HELD:
            self.transport.resume_reading()
        super().data_received(data)

    def _begin(self, data: bytes) -> bytes:
        """Looks at the head of a request once it is whole; what the parser is to be given."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 and len(data) < _LONGEST_HEAD:
            self._head = data
            return b""
        self._head = b""
        if data.startswith(_HTTP2) and self.transport is not None and (protocol := self._http2()) is not None:
            self._hand_over(protocol, data, self.transport)
            return b""
        self._idle = False
        if not _STREAMS.match(data) or _CHUNKED.search(data, 0, end):
            return data
        length = _LENGTH.search(data, 0, end)
        self.streams = True
        self._body_left = int(length[1]) if length else 0
        return data[:end] + self._hold(data[end:])

    def _hand_over(self, protocol: "Http2Connection", data: bytes, transport: asyncio.BaseTransport) -> None:
        """The connection is HTTP/2's from here on: BuildKit's clients begin so since API 1.53."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.closed.add_done_callback(lambda _: super(Connection, self).connection_lost(None))
        protocol.data_received(data)

    def _hold(self, data: bytes) -> bytes:
        """Keeps what comes after the body; what of ``data`` belongs to the body."""
        body = data[: self._body_left]
        self._body_left -= len(body)
        self.held += data[len(body) :]
        if len(self.held) > _HELD and self.transport is not None:
            self.transport.pause_reading()
        return body

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature, which aiohttp narrows
        """A client that has closed its half of the connection still gets the answer to a request that is whole."""
        self.held_end = self.streams
        if not self.streams and self._is_whole() and self.transport is not None and self.transport.can_write_eof():
            self._watch = HangUp(self.transport)
        return self.held_end or self._watch is not None

    def _is_whole(self) -> bool:
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        return not self._idle and all(body.is_eof() for body in bodies)

    def connection_lost(self, error: BaseException | None) -> None:
        if self._watch is not None:
            self._watch.stop()
        super().connection_lost(error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not HTTP is answered as other bad requests are, and is a line in the log, not a traceback."""
        if isinstance(exc, ConnectionError):  # the client has gone, or a stream was cut off: there is nobody to answer
            raise exc
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        reason = (message or "").partition("\n")[0].rstrip(":")
        log.info("malformed HTTP request: %s", reason)
        answer = response.error(f"malformed HTTP request: {reason}", status)
        answer.force_close()
        return answer

    def request_ended(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        """After a request was answered. One that asked for a stream and got none ends the connection: what the client
        has sent for the stream is no request."""
        if self.streams or self._watch is not None:
            answer.force_close()
        elif request.content.is_eof():
            self._idle = True


class HangUp:
    """Ends a connection when its client goes that has closed its writing half before, and so sends no further word:
    only epoll's hang-up tells, and over TCP the next write."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._epoll = select.epoll()
        with contextlib.suppress(OSError):
            self._epoll.register(transport.get_extra_info("socket").fileno(), select.EPOLLHUP)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self.stop()
        cast(asyncio.Transport, self._transport).abort()

    def stop(self) -> None:
        if not self._epoll.closed:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()


class HttpServer(web.Server):
    """Makes a connection's protocol. Handlers are cancelled when their client goes."""

    def __init__(self, handler: _Handler, http2: "Callable[[], Http2Connection | None]") -> None:
        """``http2`` gives None where HTTP/2 is not spoken."""
        super().__init__(handler, handler_cancellation=True)
        self.http2 = http2
        self.turns = Turns()

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())
