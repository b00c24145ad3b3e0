"""HTTP/1.1 over a stream, as far as the Engine API needs it.

One `Connection` carries one request after another. `send` writes a request and `receive` reads the head of its
response, so that several connections can be asked before the first answer is read. The body of a response is
then read from it, in pieces as large as they come; at its end the connection is free for the next request.
A response that takes over the connection (attach, exec) gives its stream away: `take_over`.

The streams do not block. Where one would, a `Loop` (loops.py) is asked to wait for it, which is all that a program
with an event loop and one without have apart.
"""

from __future__ import annotations

from wherry.client.c_modules import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
    from typing import Any

    from wherry.client.endpoint import Stream
    from wherry.client.loops import Loop

    Data = Iterable[bytes | memoryview] | AsyncIterable[bytes | memoryview]

# What can go wrong between this side and the engine.


class ClientError(Exception):
    """The root of all of this package's errors; its text is one line for a user."""


class APIError(ClientError):
    """The engine's answer was an error: `status` is HTTP's, `message` the engine's own text; `method` and `path` are
    what it was an answer to."""

    def __init__(self, status: int, message: str, *, method: str = "", path: str = "") -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.message = message
        self.method, self.path = method, path

    @property
    def not_found(self) -> bool:
        """Whether there is no such thing."""
        return self.status == 404


class ConnectionFailed(ClientError):
    """No engine answers at `host`."""

    def __init__(self, host: str, reason: str = "") -> None:
        detail = f" ({reason})" if reason else ""
        super().__init__(f"Cannot connect to the wherry daemon at {host}. Is the wherry daemon running?{detail}")
        self.host = host
        self.reason = reason


class PermissionMissing(ConnectionFailed):
    """An engine's socket is there, and this user may not open it."""

    def __init__(self, host: str, way: str) -> None:
        text = f"permission denied while trying to connect to the wherry daemon socket at {host}: {way}"
        ClientError.__init__(self, text)
        self.host = host
        self.reason = "permission denied"


class ConnectionLost(ClientError):
    """The engine went away, or what it sent is not HTTP."""


class HostError(ClientError, ValueError):
    """An address that names no engine, like `npipe://` or `tcp://` with a port that is no number."""


class WorkFailed(ClientError):
    """Long work (a pull, a load) could not be done; the text is the engine's."""


def checked(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages of work under way. Raises WorkFailed at one that says that it has failed."""
    for message in messages:
        error = message.get("errorDetail") or message.get("error")
        if error:
            raise WorkFailed(str(error.get("message", "")) if isinstance(error, dict) else str(error))
        yield message


# What streams that do not block need, whoever waits for them.


async def receive_into(loop: Loop, stream: Stream, buffer: memoryview | bytearray) -> int:
    """Receives what there is, waiting until there is something; 0 at the end. Raises OSError."""
    while True:
        try:
            return stream.recv_into(buffer)
        except BlockingIOError:
            await loop.readable(stream.fileno())


async def send_all(loop: Loop, stream: Stream, data: bytes | memoryview) -> None:
    """Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[stream.send(view) :]
        except BlockingIOError:
            await loop.writable(stream.fileno())


async def each(data: Data) -> AsyncIterator[bytes | memoryview]:
    """The pieces of what may be iterated over in either way."""
    if hasattr(data, "__aiter__"):
        async for piece in data:
            yield piece
    else:
        for piece in data:
            yield piece


BUFFER = 1 << 18  # what is asked of the kernel at once
HEAD_LIMIT = 1 << 16
_CHUNK_HEAD = 64  # bytes that hold the end of a chunk, the size of the next, and its beginning


class Connection:
    """A stream that speaks HTTP. `reused` says that it has carried a request before, `cut` that one was not sent whole,
    so that it can carry no other."""

    def __init__(self, stream: Stream, loop: Loop) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.loop = loop
        self.reused = False
        self.cut = False
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # what has been received and not been taken yet

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Writes a request whose body, if any, is known. Raises ConnectionLost."""
        if body is not None or method not in ("GET", "HEAD", "DELETE"):
            headers["Content-Length"] = str(len(body) if body else 0)
        try:
            await send_all(self.loop, self.stream, _head(method, target, headers) + (body or b""))
        except OSError as error:
            raise ConnectionLost(f"error during connect: {error.strerror}") from error

    async def send_stream(
        self, method: str, target: str, headers: dict[str, str], body: Data, size: int | None
    ) -> None:
        """Writes a request whose body is `size` bytes, or of unknown length (None: it is sent in chunks).

        When the engine answers, or closes its side, before the body is sent, the rest is left and `receive` tells why.
        """
        if size is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(size)
        loop, stream = self.loop, self.stream
        try:
            await send_all(loop, stream, _head(method, target, headers))
            async for piece in each(body):
                if not len(piece):
                    continue  # an empty chunk would end the body
                if await self._is_answered():
                    self.cut = True
                    return
                if size is None:
                    await send_all(loop, stream, b"%x\r\n" % len(piece))
                    await send_all(loop, stream, piece)
                    await send_all(loop, stream, b"\r\n")
                else:
                    await send_all(loop, stream, piece)
            if size is None:
                await send_all(loop, stream, b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.cut = True
            return
        except OSError as error:
            raise ConnectionLost(f"error during connect: {error.strerror}") from error

    async def _is_answered(self) -> bool:
        """Whether the whole answer is there, though the request has not been sent to its end."""
        import select

        poll = select.poll()
        poll.register(self.stream.fileno(), select.POLLIN)
        if not poll.poll(0) or self._end == len(self._buffer) or not await self._fill():
            return False
        head, found, body = bytes(self._view[self._start : self._end]).partition(b"\r\n\r\n")
        is_chunked = b"\r\ntransfer-encoding: chunked" in head.lower()
        return bool(found) and (not is_chunked or body.endswith(b"\r\n0\r\n\r\n") or body == b"0\r\n\r\n")

    async def receive(self, method: str = "GET", done: Callable[[Connection], None] | None = None) -> AsyncResponse:
        """Reads the head of the response; `done` is called when its body has ended and the connection is free.

        Raises ConnectionLost when the stream ends first or is not HTTP.
        """
        while True:
            response = await self._receive_head(method, done)
            # 101 is an answer; the others below 200 only say that one will come.
            if response.status >= 200 or response.status == 101:
                self.reused = True
                return response

    async def _receive_head(self, method: str, done: Callable[[Connection], None] | None) -> AsyncResponse:
        while (end := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            if self._end - self._start > HEAD_LIMIT:
                raise ConnectionLost("error during connect: the response's head is too long")
            if not await self._fill():
                raise ConnectionLost("error during connect: EOF")
        lines = self._buffer[self._start : end].decode("latin-1").split("\r\n")
        self._start = end + 4
        version, _, status = lines[0].partition(" ")
        code = status[:3]
        if not version.startswith("HTTP/1.") or not code.isdigit():
            raise ConnectionLost(f"error during connect: malformed HTTP response {lines[0][:80]!r}")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return AsyncResponse(self, int(code), status[4:], headers, method, done)

    async def _fill(self) -> int:
        """Receives more behind what is there; 0 at the end of the stream."""
        if self._start:
            if self._start < self._end:  # keep the untaken rest at the front
                self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
            self._end -= self._start
            self._start = 0
        try:
            count = await receive_into(self.loop, self.stream, self._view[self._end :])
        except OSError as error:
            raise ConnectionLost(f"error during connect: {error.strerror}") from error
        self._end += count
        return count

    async def take(self, limit: int) -> memoryview:
        """Up to `limit` bytes, empty at the end of the stream. The view is good until the next call."""
        if self._start == self._end and not await self._fill():
            return self._view[:0]
        stop = min(self._end, self._start + limit)
        piece = self._view[self._start : stop]
        self._start = stop
        return piece

    async def take_line(self) -> bytes:
        """A line without its CRLF; for chunk sizes and trailers. Raises ConnectionLost."""
        while (end := self._buffer.find(b"\r\n", self._start, self._end)) < 0:
            if self._end - self._start > HEAD_LIMIT or not await self._fill():
                raise ConnectionLost("error during connect: unexpected EOF")
        line = bytes(self._view[self._start : end])
        self._start = end + 2
        return line

    @property
    def buffered(self) -> bool:
        return self._start < self._end

    def peek(self, limit: int) -> bytes:
        """The beginning of what has been received and not been taken yet."""
        return bytes(self._view[self._start : min(self._end, self._start + limit)])

    def leftover(self) -> bytes:
        """What has been received beyond the head of a response that takes the connection over."""
        rest = bytes(self._view[self._start : self._end])
        self._start = self._end = 0
        return rest

    def close(self) -> None:
        self.stream.close()


class AsyncResponse:
    """An answer: `status`, `reason`, `headers` (names in lower case), and a body that is read once."""

    status: int
    reason: str
    headers: dict[str, str]

    def __init__(
        self,
        connection: Connection,
        status: int,
        reason: str,
        headers: dict[str, str],
        method: str,
        done: Callable[[Connection], None] | None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self._connection = connection
        self._done = done
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = 0  # bytes still to come, of the body or of the chunk; -1: until the stream ends
        self._first_chunk = True
        self._rest = b""  # of a line that has not ended
        self._open = True
        if method == "HEAD" or status in (204, 304):
            self._finish()
        elif status != 101 and not self._chunked:
            length = headers.get("content-length", "")
            self._left = int(length) if length.isdigit() else -1
            if not self._left:
                self._finish()

    async def _next_chunk(self) -> None:
        if not self._first_chunk:
            await self._connection.take_line()
        self._first_chunk = False
        size = (await self._connection.take_line()).partition(b";")[0].strip()
        try:
            self._left = int(size, 16)
        except ValueError:
            raise ConnectionLost(f"error during connect: malformed chunk size {size[:20]!r}") from None
        if not self._left:
            while await self._connection.take_line():
                pass  # trailers
            self._finish()

    def _finish(self) -> None:
        if not self._open:
            return
        self._open = False
        if (
            self._done
            and self._left != -1
            and not self._connection.cut
            and self.headers.get("connection", "").lower() != "close"
        ):
            self._done(self._connection)
        else:
            self._connection.close()

    async def piece(self) -> memoryview:
        """The next bytes of the body, as many as are there, empty at its end; good until the next call.

        Raises ConnectionLost when the stream ends within the body.
        """
        # A chunk's size is read when its bytes are asked for, not when the last one ends: it may come much later.
        if self._chunked and self._open and not self._left:
            await self._next_chunk()
        if not self._open:
            return memoryview(b"")
        piece = await self._connection.take(self._left if self._left > 0 else BUFFER)
        if self._left == -1:
            if not piece:
                self._finish()
            return piece
        if not piece:
            raise ConnectionLost("error during connect: unexpected EOF")
        self._left -= len(piece)
        if not self._left and not self._chunked:
            self._finish()
        return piece

    @property
    def ready(self) -> bool:
        """Whether `piece` would answer at once, with what has been received already."""
        if not self._open:
            return True
        start = self._connection.peek(_CHUNK_HEAD)
        if not self._chunked or self._left:
            return bool(start)
        size, end, rest = start[0 if self._first_chunk else 2 :].partition(b"\r\n")
        return bool(size and end and rest)

    def fileno(self) -> int:
        """The descriptor that becomes readable when more of the body comes."""
        return self._connection.stream.fileno()

    @property
    def buffered(self) -> bool:
        """Whether bytes behind the head came with it, for which the descriptor will not become readable."""
        return self._connection.buffered

    async def read(self) -> bytes:
        """The whole rest of the body."""
        pieces = []
        try:
            while piece := await self.piece():
                pieces.append(bytes(piece))
        finally:
            self.close()
        return b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        try:
            while piece := await self.piece():
                yield bytes(piece)
        finally:
            self.close()

    async def json(self) -> Any:
        """The body as the JSON value it holds, None when it is empty. Raises ConnectionLost when it is not JSON."""
        body = await self.read()
        if not body.strip():
            return None
        try:
            return loads(body)
        except ValueError as error:
            raise ConnectionLost(f"the engine's answer is {error}") from None

    async def values(self) -> AsyncIterator[Any]:
        """The body as a stream of JSON values, one a line (events, progress), each as soon as it is there."""
        try:
            while not self.ended:
                async for value in self.arrived():
                    yield value
        finally:
            self.close()

    async def arrived(self) -> AsyncIterator[Any]:
        """Those of the values that have come; waits until something has."""
        while True:
            piece = bytes(await self.piece())
            *lines, self._rest = (self._rest + (piece or b"\n")).split(b"\n")
            for line in lines:
                if line.strip():
                    yield loads(line)
            if not piece or not self.ready:
                return

    @property
    def ended(self) -> bool:
        return not self._open and not self._rest

    def take_over(self) -> tuple[Stream, bytes]:
        """The stream below, and what was received of it already. HTTP ends here."""
        self._open = False
        self._connection.stream.setblocking(self._connection.loop.blocking)
        return self._connection.stream, self._connection.leftover()

    def close(self) -> None:
        """Ends the response, with the connection when the body is not at its end."""
        if self._open:
            self._open = False
            self._connection.close()


def _head(method: str, target: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"a line break in the header {name}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
