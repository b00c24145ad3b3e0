"""gRPC over HTTP/2: calls that are answered, and calls that are made on a connection where the peer is the server."""

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from google.protobuf.message import DecodeError

from wherry.buildkit import messages
from wherry.buildkit.http2 import Connection, Headers, Stream, StreamReset, texts
from wherry.common.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound, NotSupported, Unavailable

log = logging.getLogger("wherry.buildkit")

# Codes of google.rpc.Code
OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = 0, 1, 2, 3, 5, 6, 7
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 9, 12, 13, 14
_CODES: dict[type[EngineError], int] = {
    InvalidParameter: INVALID_ARGUMENT, NotFound: NOT_FOUND, Forbidden: PERMISSION_DENIED,
    Conflict: FAILED_PRECONDITION, NotSupported: UNIMPLEMENTED, Unavailable: UNAVAILABLE,
}  # fmt: skip

_PREFIX = struct.Struct(">BI")
_LARGEST_MESSAGE = 16 << 20
_CONTENT_TYPE = ("content-type", "application/grpc")


class RpcError(EngineError):
    """A call's end that is no success. ``details`` are what clients know by type: type URLs and values."""

    def __init__(self, code: int, message: str, details: Sequence[tuple[str, bytes]] = ()) -> None:
        super().__init__(message)
        self.code, self.details = code, details


class Method(NamedTuple):
    """How a method is carried out.

    A plain one gives its answer for its ``request``; one that ``streams`` takes the Call, and gives nothing.
    """

    request: Any
    carry_out: Callable[..., Awaitable[Any]]
    streams: bool = False


Service = Mapping[str, Method]
"""Methods by their paths: "/moby.buildkit.v1.Control/Solve"."""


class Call:
    """Messages that come and messages that go on one stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = bytearray()
        self.received = 0  # bytes

    @property
    def metadata(self) -> Headers:
        """The peer's metadata: a server's call has the client's, a client's call the server's after its answer."""
        return self._stream.headers

    async def receive_bytes(self) -> bytes | None:
        """The next message as it came; None after the last. Raises RpcError for one that is too large, StreamReset."""
        rest = self._rest
        while len(rest) < 5 or len(rest) < 5 + _PREFIX.unpack_from(rest)[1]:
            if len(rest) >= 5 and (rest[0] or _PREFIX.unpack_from(rest)[1] > _LARGEST_MESSAGE):
                raise RpcError(RESOURCE_EXHAUSTED, f"a message is compressed, or larger than {_LARGEST_MESSAGE} bytes")
            data = await self._stream.read()
            if not data:
                if rest:
                    raise RpcError(INTERNAL, "a message is cut off")
                return None
            rest += data
            self.received += len(data)
        size = 5 + _PREFIX.unpack_from(rest)[1]
        message = bytes(memoryview(rest)[5:size])
        del rest[:size]
        return message

    async def receive(self, kind: Any) -> Any:
        """The next message; None after the last. Raises RpcError for what is none, StreamReset."""
        data = await self.receive_bytes()
        return None if data is None else _decode(kind, data)

    async def messages(self, kind: Any) -> AsyncIterator[Any]:
        while (message := await self.receive(kind)) is not None:
            yield message

    async def send(self, message: Any, *, end: bool = False) -> None:
        data = message.SerializeToString()
        await self._stream.send(_PREFIX.pack(0, len(data)) + data, end=end)

    async def send_end(self) -> None:
        """No more messages will be sent."""
        await self._stream.send(b"", end=True)

    def cancel(self) -> None:
        self._stream.reset()


class Server:
    """Answers what a peer asks for on its connection. ``services`` are looked through in turn."""

    def __init__(self, *services: Service) -> None:
        self._methods = {path: method for service in services for path, method in service.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    def connection(self, *, preface_read: bool = False) -> Connection:
        connection = Connection(self._begin, preface_read=preface_read)
        connection.closed.add_done_callback(lambda _: self._cancel_all())
        return connection

    def _cancel_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _begin(self, stream: Stream) -> None:
        task = asyncio.create_task(self._answer(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: Stream) -> None:
        reset = asyncio.ensure_future(stream.wait_for_reset())
        work = asyncio.ensure_future(self._carry_out(stream))
        try:
            await asyncio.wait((reset, work), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (reset, work):
                each.cancel()
            await asyncio.gather(reset, work, return_exceptions=True)

    async def _carry_out(self, stream: Stream) -> None:
        path = next(iter(texts(stream.headers, ":path")), "")
        log.debug("%s", path)
        begun = False
        call = Call(stream)
        try:
            method = self._methods.get(path)
            if method is None:
                raise RpcError(UNIMPLEMENTED, f"unknown method {path.rpartition('/')[2]} for {path}")
            if method.streams:
                stream.send_headers([(":status", "200"), _CONTENT_TYPE])
                begun = True
                await method.carry_out(call)
            else:
                request = await call.receive(method.request)
                if request is None:
                    raise RpcError(INTERNAL, "the request has no message")
                answer = await method.carry_out(request, call.metadata)
                stream.send_headers([(":status", "200"), _CONTENT_TYPE])
                begun = True
                await call.send(answer)
            stream.send_headers([("grpc-status", "0")], end=True)
            log.debug("%s: done", path)
        except (StreamReset, ConnectionError):
            return
        except EngineError as error:
            _end(stream, error, begun=begun)
        except Exception as error:
            log.exception("internal error while answering %s", path)
            _end(stream, RpcError(INTERNAL, f"internal error: {type(error).__name__}"), begun=begun)


def _end(stream: Stream, error: EngineError, *, begun: bool) -> None:
    head = [] if begun else [(":status", "200"), _CONTENT_TYPE]
    with contextlib.suppress(StreamReset):
        stream.send_headers([*head, *_trailers(error)], end=True)


def _trailers(error: EngineError) -> Headers:
    code = error.code if isinstance(error, RpcError) else code_of(error)
    trailers = [("grpc-status", str(code)), ("grpc-message", quote(error.message, safe=" !#$&'()*+,/:;=?@[]"))]
    details = error.details if isinstance(error, RpcError) else ()
    if details:
        from base64 import b64encode

        status = messages.Status(
            code=code,
            message=error.message,
            details=[messages.Packed(type_url=url, value=value) for url, value in details],
        )
        trailers.append(("grpc-status-details-bin", b64encode(status.SerializeToString()).decode().rstrip("=")))
    return trailers


def code_of(error: EngineError) -> int:
    """The code that says the same as the error's kind."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), UNKNOWN)


class Channel:
    """The client's side: calls to a peer that is the server on this connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def ask(self, path: str, request: Any, answer: Any, metadata: Headers | None = None) -> Any:
        """One message there, one back. Raises RpcError."""
        async with self.call(path, metadata) as call:
            await call.send(request, end=True)
            found = await call.receive(answer)
            await call.finish()
        return found if found is not None else answer()

    @contextlib.asynccontextmanager
    async def call(self, path: str, metadata: Headers | None = None) -> AsyncIterator["ClientCall"]:
        """A call whose messages are sent and received inside the block. Leaving it before its end cancels it."""
        headers = [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"), _CONTENT_TYPE,
            ("te", "trailers"), *(metadata or ()),
        ]  # fmt: skip
        try:
            call = ClientCall(self.connection.open(headers))
            try:
                yield call
            finally:
                call.cancel()
        except StreamReset as error:
            raise RpcError(UNAVAILABLE, f"the client's session has ended: {error}") from None


class ClientCall(Call):
    async def finish(self) -> None:
        """Waits for the call's end. Raises RpcError when it is no success."""
        while await self.receive_bytes() is not None:
            pass

    async def receive_bytes(self) -> bytes | None:
        data = await super().receive_bytes()
        if data is None:
            self._check_end()
        return data

    def _check_end(self) -> None:
        ended = self._stream.trailers or self._stream.headers
        code = next(iter(texts(ended, "grpc-status")), "")
        if code != "0":
            message = unquote(next(iter(texts(ended, "grpc-message")), ""))
            raise RpcError(int(code) if code.isascii() and code.isdigit() else UNKNOWN, message or "no status")


def _decode(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RpcError(INTERNAL, f"not a {kind.DESCRIPTOR.name}") from None
