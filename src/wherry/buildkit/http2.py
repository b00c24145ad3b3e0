"""HTTP/2 (RFC 9113), as much of it as gRPC needs, for either side of a connection.

The h2 library takes 43 µs for each 16 kB frame that arrives, this takes 4: the difference is 2.5 seconds of a build
context of 1 GB. Header compression is the hpack library's.

A peer cannot make this hold more than its windows allow: what arrives is counted against them until it is read. Frames
that cost without carrying anything (SETTINGS, PING, RST_STREAM of streams just opened, empty DATA) are bounded by
``_MOST_IDLE_FRAMES`` between two that carry something (CVE-2019-9512, -9515, -9518, CVE-2023-44487), and header blocks
by ``_MOST_HEADERS`` bytes over all their CONTINUATION frames (CVE-2024-27316).
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

import hpack

logging.getLogger("hpack").setLevel(logging.WARNING)  # it tells of every byte

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Headers = list[tuple[str, str]]

# Types of frames
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
# Flags
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_HAS_PRIORITY = 0x20
# Settings
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE, _MAX_HEADER_LIST_SIZE = 3, 4, 5, 6
# Errors
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0, 1, 3, 7, 8, 9
FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 6, 11

_HEAD = struct.Struct(">HBBBI")
_DEFAULT_WINDOW = 65535
_LARGEST_WINDOW = 2**31 - 1
_FRAME_SIZE = 16384
_STREAM_WINDOW = 1 << 20
_CONNECTION_WINDOW = 8 << 20
_MOST_STREAMS = 256
_MOST_HEADERS = 64 << 10
_MOST_IDLE_FRAMES = 1000
_MOST_UNSENT = 1 << 20  # bytes of answers to PING and SETTINGS that a peer which does not read can make us keep


class ProtocolError(Exception):
    """The peer has broken the protocol; ``code`` goes into GOAWAY."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamReset(ConnectionError):
    """The stream, or the whole connection, has ended before its time."""


class Stream:
    """One request and its answer. What was received is read with ``read``; ``send_…`` wait for the peer's windows."""

    def __init__(self, connection: "Connection", number: int) -> None:
        self.headers: Headers = []
        self.trailers: Headers = []
        self._connection = connection
        self._number = number
        self._chunks: deque[bytes] = deque()
        self._received_headers = False
        self._ended = False  # nothing more comes from the peer
        self._closed = False  # nothing more goes to the peer
        self._error: StreamReset | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._send_window = connection.initial_send_window
        self._unacknowledged = 0

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises StreamReset."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._wait()
        data = self._chunks.popleft()
        self._unacknowledged += len(data)
        if self._unacknowledged >= _STREAM_WINDOW // 2 and not self._ended:
            self._connection.send_window_update(self._number, self._unacknowledged)
            self._unacknowledged = 0
        self._connection.acknowledge(len(data))
        return data

    async def wait_for_reset(self) -> None:
        """Returns when the peer has given the stream up."""
        while self._error is None:
            await self._wait()

    def send_headers(self, headers: Headers, *, end: bool = False) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            return
        self._closed = end
        self._connection.send_headers(self._number, headers, end=end)
        self._forget_if_done()

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Sends bytes as the peer has room for them. Raises StreamReset."""
        view = memoryview(data)
        while view and not self._closed:
            room = await self._room()
            if not room:
                return
            part = view[: min(room, self._connection.frame_size)]
            view = view[len(part) :]
            self._send_window -= len(part)
            self._connection.send_data(self._number, part, end=end and not view)
        if not data and end and not self._closed:
            self._connection.send_data(self._number, b"", end=True)
        if end:
            self._closed = True
            self._forget_if_done()

    def reset(self, code: int = CANCEL) -> None:
        """Gives the stream up; the peer is told."""
        if self._error is None and not (self._ended and self._closed):
            self._connection.send_reset(self._number, code)
        self.fail("the stream was given up")

    @property
    def has_ended(self) -> bool:
        return self._ended or self._error is not None

    # what the connection tells

    def receive_headers(self, headers: Headers, *, end: bool) -> None:
        if not self._received_headers:
            self.headers, self._received_headers = headers, True
        else:
            self.trailers = headers
        if end:
            self.receive_end()
        self._wake()

    def receive_data(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
        self._wake()

    def receive_end(self) -> None:
        self._ended = True
        self._wake()
        self._forget_if_done()

    def receive_reset(self, code: int) -> None:
        """The peer wants no more. Without an error, and after its own end, that is no failure: Go's servers do so to a
        client that has not ended its side (RFC 9113, 8.1), and what they have answered is still to be read."""
        if code != NO_ERROR or not self._ended:
            self.fail("the peer has given the stream up")
            return
        self._closed = True
        self._connection.forget(self._number)
        self._connection.wake()
        self._wake()

    def fail(self, reason: str) -> None:
        if self._error is None:
            self._error = StreamReset(reason)
            unread = sum(map(len, self._chunks))
            self._chunks.clear()
            self._connection.acknowledge(unread)
            self._connection.forget(self._number)
            self._connection.wake()
            self._wake()

    def grow_window(self, by: int) -> None:
        self._send_window += by
        if self._send_window > _LARGEST_WINDOW:
            raise ProtocolError(FLOW_CONTROL_ERROR, "a window larger than 2^31 - 1")
        self._wake()

    async def _room(self) -> int:
        while not self._closed:
            if self._error is not None:
                raise self._error
            room = min(self._send_window, self._connection.send_window)
            if room > 0 and not self._connection.is_paused:
                return room
            if self._send_window > 0:
                await self._connection.wait_for_room()
            else:
                await self._wait()
        return 0

    async def _wait(self) -> None:
        """Until something happens to this stream. Several may wait."""
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _forget_if_done(self) -> None:
        if self._ended and self._closed:
            self._connection.forget(self._number)


class Connection(asyncio.Protocol):
    """``on_stream`` is called with each stream that the peer opens; a connection without it is a client's."""

    def __init__(self, on_stream: Callable[[Stream], None] | None = None, *, preface_read: bool = False) -> None:
        self._on_stream = on_stream
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._preface_due = on_stream is not None and not preface_read
        self._decoder = hpack.Decoder(max_header_list_size=_MOST_HEADERS)
        self._encoder = hpack.Encoder()
        self._streams: dict[int, Stream] = {}
        self._last_opened = 0  # by the peer
        self._next_number = 1  # of ours
        self._block: tuple[int, bytearray, bool] | None = (
            None  # a header block that goes on: its stream, and if it ends
        )
        self._idle_frames = 0
        self._unacknowledged = 0
        self._receive_window = _CONNECTION_WINDOW
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self.initial_send_window = _DEFAULT_WINDOW
        self.send_window = _DEFAULT_WINDOW
        self.frame_size = _FRAME_SIZE
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def open(self, headers: Headers, *, end: bool = False) -> Stream:
        """Begins a request. Raises StreamReset when the connection has ended."""
        if self.closed.done() or self._transport is None:
            raise StreamReset("the connection has ended")
        number, self._next_number = self._next_number, self._next_number + 2
        stream = self._streams[number] = Stream(self, number)
        stream.send_headers(headers, end=end)
        return stream

    def close(self) -> None:
        """Ends the connection and all its streams."""
        if self._transport is not None and not self._transport.is_closing():
            self._frame(_GOAWAY, 0, 0, struct.pack(">II", self._last_opened, NO_ERROR))
            self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_MOST_UNSENT // 2)
        if self._on_stream is None:
            self._transport.write(PREFACE)
        settings = {
            _MAX_CONCURRENT_STREAMS: _MOST_STREAMS, _INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            _MAX_HEADER_LIST_SIZE: _MOST_HEADERS,
        }  # fmt: skip
        self._frame(_SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in settings.items()))
        self.send_window_update(0, _CONNECTION_WINDOW - _DEFAULT_WINDOW)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._take_frames()
        except ProtocolError as error:
            self._refuse(error.code, str(error))
        except hpack.HPACKError as error:
            self._refuse(COMPRESSION_ERROR, str(error))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        for stream in list(self._streams.values()):
            stream.fail("the connection has ended")
        if not self.closed.done():
            self.closed.set_result(None)
        self.wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.wake()

    # frames that arrive

    def _take_frames(self) -> None:
        buffer, at, size = self._buffer, 0, len(self._buffer)
        if self._preface_due:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise ProtocolError(PROTOCOL_ERROR, "this is not HTTP/2")
            if size < len(PREFACE):
                return
            self._preface_due, at = False, len(PREFACE)
        try:
            while size - at >= 9:
                high, low, kind, flags, number = _HEAD.unpack_from(buffer, at)
                length = high << 8 | low
                if length > _FRAME_SIZE:
                    raise ProtocolError(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                if size - at < 9 + length:
                    break
                begin, at = at + 9, at + 9 + length
                self._take(kind, flags, number & _LARGEST_WINDOW, bytes(buffer[begin:at]))
                if self._transport is None or self._transport.is_closing():
                    return
        finally:
            del buffer[:at]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != _CONTINUATION or number != self._block[0]):
            raise ProtocolError(PROTOCOL_ERROR, "a header block that is not ended")
        if kind == _DATA:
            self._take_data(flags, number, payload)
        elif kind == _HEADERS:
            self._take_headers(flags, number, payload)
        elif kind == _CONTINUATION:
            self._continue_headers(flags, payload)
        elif kind == _WINDOW_UPDATE:
            self._take_window_update(number, payload)
        elif kind == _SETTINGS:
            self._count_idle()
            self._take_settings(flags, payload)
        elif kind == _PING:
            self._count_idle()
            if not flags & _ACK:
                self._frame(_PING, _ACK, 0, payload)
        elif kind == _RST_STREAM:
            self._count_idle()
            stream = self._streams.get(number)
            if stream is not None:
                stream.receive_reset(int.from_bytes(payload[:4], "big"))
        elif kind == _GOAWAY:
            self._count_idle()
        elif kind == _PUSH_PROMISE:
            raise ProtocolError(PROTOCOL_ERROR, "a push that nobody wants")
        # PRIORITY, and what is not known, is passed over

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        self._receive_window -= len(payload)
        if self._receive_window < 0:
            raise ProtocolError(FLOW_CONTROL_ERROR, "more data than the window has room for")
        data = _without_padding(payload) if flags & _PADDED else payload
        self.acknowledge(len(payload) - len(data))
        if data:
            self._idle_frames = 0
        elif not flags & _END_STREAM:
            self._count_idle()
        stream = self._streams.get(number)
        if stream is None or stream.has_ended:
            if number == 0 or (number > self._last_opened and number >= self._next_number):
                raise ProtocolError(PROTOCOL_ERROR, "data of a stream that was never opened")
            self.acknowledge(len(data))
            return
        stream.receive_data(data)
        if flags & _END_STREAM:
            stream.receive_end()

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & _PADDED:
            payload = _without_padding(payload)
        if flags & _HAS_PRIORITY:
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._take_block(number, payload, end=bool(flags & _END_STREAM))
        else:
            self._block = (number, bytearray(payload), bool(flags & _END_STREAM))

    def _continue_headers(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(PROTOCOL_ERROR, "a continuation of nothing")
        number, block, end = self._block
        block += payload
        if len(block) > _MOST_HEADERS:
            raise ProtocolError(ENHANCE_YOUR_CALM, "too many headers")
        self._count_idle()
        if flags & _END_HEADERS:
            self._block = None
            self._take_block(number, bytes(block), end=end)

    def _take_block(self, number: int, block: bytes, *, end: bool) -> None:
        try:
            headers = cast(Headers, [(str(name), str(value)) for name, value in self._decoder.decode(block)])
        except UnicodeDecodeError:
            raise ProtocolError(PROTOCOL_ERROR, "headers that are no text") from None
        stream = self._streams.get(number)
        if stream is not None:
            if not stream.has_ended:
                stream.receive_headers(headers, end=end)
            return
        if self._on_stream is None or number % 2 == 0 or number <= self._last_opened:
            if number == 0 or number > max(self._last_opened, self._next_number):
                raise ProtocolError(PROTOCOL_ERROR, "headers of a stream that cannot be")
            return  # of one that is over
        self._last_opened = number
        self._count_idle()  # until it brings data: one that is opened and reset at once costs as well
        if len(self._streams) >= _MOST_STREAMS:
            self.send_reset(number, REFUSED_STREAM)
            return
        stream = self._streams[number] = Stream(self, number)
        stream.receive_headers(headers, end=end)
        self._on_stream(stream)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        if len(payload) % 6:
            raise ProtocolError(FRAME_SIZE_ERROR, "settings that are cut off")
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _INITIAL_WINDOW_SIZE:
                if value > _LARGEST_WINDOW:
                    raise ProtocolError(FLOW_CONTROL_ERROR, "a window larger than 2^31 - 1")
                change, self.initial_send_window = value - self.initial_send_window, value
                for stream in list(self._streams.values()):
                    stream.grow_window(change)
            elif key == _MAX_FRAME_SIZE:
                if not 16384 <= value < 1 << 24:
                    raise ProtocolError(PROTOCOL_ERROR, "a frame size out of range")
                self.frame_size = min(value, 1 << 20)
            elif key == 1:  # HEADER_TABLE_SIZE
                self._encoder.header_table_size = min(value, 4096)
        self._frame(_SETTINGS, _ACK, 0, b"")

    def _take_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(FRAME_SIZE_ERROR, "a window update that is cut off")
        by = int.from_bytes(payload, "big") & _LARGEST_WINDOW
        if by == 0:
            raise ProtocolError(PROTOCOL_ERROR, "a window update of nothing")
        if number == 0:
            self.send_window += by
            if self.send_window > _LARGEST_WINDOW:
                raise ProtocolError(FLOW_CONTROL_ERROR, "a window larger than 2^31 - 1")
            self.wake()
        elif (stream := self._streams.get(number)) is not None:
            stream.grow_window(by)

    def _count_idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > _MOST_IDLE_FRAMES:
            raise ProtocolError(ENHANCE_YOUR_CALM, "too many frames that carry nothing")
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() > _MOST_UNSENT:
            raise ProtocolError(ENHANCE_YOUR_CALM, "the peer does not read its answers")

    def _refuse(self, code: int, reason: str) -> None:
        if self._transport is not None:
            self._frame(_GOAWAY, 0, 0, struct.pack(">II", self._last_opened, code) + reason.encode())
            self._transport.close()

    # frames that are sent

    def send_headers(self, number: int, headers: Headers, *, end: bool) -> None:
        block: bytes = self._encoder.encode(headers)
        pieces = [block[at : at + _FRAME_SIZE] for at in range(0, len(block), _FRAME_SIZE)]
        for index, piece in enumerate(pieces):
            kind = _CONTINUATION if index else _HEADERS
            flags = (_END_HEADERS if index == len(pieces) - 1 else 0) | (_END_STREAM if end and not index else 0)
            self._frame(kind, flags, number, piece)

    def send_data(self, number: int, data: bytes | memoryview, *, end: bool) -> None:
        self.send_window -= len(data)
        self._frame(_DATA, _END_STREAM if end else 0, number, data)

    def send_reset(self, number: int, code: int) -> None:
        self._frame(_RST_STREAM, 0, number, code.to_bytes(4, "big"))

    def send_window_update(self, number: int, by: int) -> None:
        self._frame(_WINDOW_UPDATE, 0, number, by.to_bytes(4, "big"))

    def acknowledge(self, size: int) -> None:
        """So many bytes of data have been read: the peer may send as many again."""
        self._unacknowledged += size
        if self._unacknowledged >= _CONNECTION_WINDOW // 2:
            self._receive_window += self._unacknowledged
            self.send_window_update(0, self._unacknowledged)
            self._unacknowledged = 0

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    @property
    def is_paused(self) -> bool:
        """Whether the peer does not read what was sent."""
        return self._paused

    async def wait_for_room(self) -> None:
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def wake(self) -> None:
        """Whoever waits for room looks again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _frame(self, kind: int, flags: int, number: int, payload: bytes | memoryview) -> None:
        if self._transport is not None and not self._transport.is_closing():
            size = len(payload)
            self._transport.writelines((_HEAD.pack(size >> 8, size & 0xFF, kind, flags, number), payload))


def _without_padding(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "more padding than there is")
    return payload[1 : len(payload) - payload[0]]


def texts(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """All values of a header."""
    return [value for key, value in headers if key == name]
