"""The output of a container without a terminal: standard output and standard error in one stream of frames.

A frame is a header of eight bytes (stream: 0 and 1 are output, 2 is error, 3 is an error of the engine itself; three
zero bytes; the length, 32 bits, big-endian) and its data. Data is written as it comes, straight from the buffer
it was received in; only a header that was cut in two is ever kept.
"""

from __future__ import annotations

import os

from wherry.client.transport import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from wherry.client.blocking import Response
    from wherry.client.transport import AsyncResponse

HEADER = 8
STDOUT, STDERR, ENGINE_ERROR = 1, 2, 3

# The most buffers that one writev takes (UIO_MAXIOV).
VECTORS = 1024
PIECE = 1 << 20  # bytes read at once


class StreamError(ClientError):
    """The engine broke the stream off and said why, or what it sent is not framed."""


class Demultiplexer:
    """Takes framed bytes and hands their data on: `sink(stream, buffers)`, stream 1 or 2, in the order of arrival."""

    def __init__(self, sink: Callable[[int, list[memoryview]], None]) -> None:
        self._sink = sink
        self._header = b""  # the beginning of a header that was cut
        self._stream = STDOUT
        self._left = 0  # bytes of the current frame that are still to come
        self._error = bytearray()

    def feed(self, data: memoryview) -> None:
        """Raises StreamError for an unknown stream, and with the engine's text when a frame of its own error ends."""
        position, size = 0, len(data)
        buffers: list[memoryview] = []
        target = STDOUT
        if self._header:
            missing = HEADER - len(self._header)
            self._header += bytes(data[:missing])
            if len(self._header) < HEADER:
                return
            self._begin(self._header)
            self._header = b""
            position = missing
        while position < size:
            if not self._left:
                if size - position < HEADER:
                    self._header = bytes(data[position:])
                    break
                self._begin(data[position : position + HEADER])
                position += HEADER
                continue
            stop = min(size, position + self._left)
            self._left -= stop - position
            if self._stream == ENGINE_ERROR:
                self._error += data[position:stop]
                if not self._left:
                    if buffers:
                        self._sink(target, buffers)
                    raise StreamError(f"error from daemon in stream: {self._error.decode('utf-8', 'replace')}")
            else:
                if buffers and (target != self._stream or len(buffers) == VECTORS):
                    self._sink(target, buffers)
                    buffers = []
                target = self._stream
                buffers.append(data[position:stop])
            position = stop
        if buffers:
            self._sink(target, buffers)

    def _begin(self, header: bytes | memoryview) -> None:
        stream = header[0]
        if stream > ENGINE_ERROR:
            raise StreamError(f"Unrecognized input header: {stream}")
        self._stream = stream or STDOUT
        self._left = int.from_bytes(header[4:8], "big")


def write_all(descriptor: int, buffers: list[memoryview]) -> None:
    """Writes all of the buffers, at most VECTORS, also to a descriptor that somebody has made non-blocking."""
    while buffers:
        try:
            written = os.writev(descriptor, buffers)
        except BlockingIOError:
            _wait_writable(descriptor)
            continue
        while buffers and written >= len(buffers[0]):
            written -= len(buffers.pop(0))
        if written:
            buffers[0] = buffers[0][written:]


def pass_on(response: Response, descriptor: int) -> None:
    """Writes the whole body of a response as it comes."""
    while piece := response.piece():
        write_all(descriptor, [piece])


def read_pieces(descriptor: int) -> Iterator[memoryview]:
    """All that there is to read; each piece is good until the next."""
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        yield view[:count]


def _wait_writable(descriptor: int) -> None:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


async def frames(response: AsyncResponse) -> AsyncIterator[tuple[int, bytes]]:
    """The body of a framed response as (stream, data), stream 1 or 2, in pieces as they come."""
    ready: list[tuple[int, bytes]] = []
    split = Demultiplexer(lambda stream, buffers: ready.append((stream, b"".join(buffers))))
    while piece := await response.piece():
        split.feed(piece)
        for each in ready:
            yield each
        ready.clear()
