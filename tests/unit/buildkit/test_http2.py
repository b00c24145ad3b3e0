"""HTTP/2 between two connections that are joined in memory: streams, windows, and peers that misbehave."""

import asyncio
import struct
from typing import Any, cast

import pytest

from wherry.buildkit.http2 import PREFACE, Connection, Stream, StreamReset


class _Pipe(asyncio.Transport):
    """Hands what is written to the other side, in the loop's next round."""

    def __init__(self) -> None:
        super().__init__()
        self.other: asyncio.Protocol | None = None
        self.sent = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        self.sent += data
        if self.other is not None and not self._closing:
            asyncio.get_running_loop().call_soon(self.other.data_received, bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True


class _Pair:
    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.client, self.server = Connection(), Connection(self.streams.put_nowait)
        self.to_server, self.to_client = _Pipe(), _Pipe()
        self.to_server.other, self.to_client.other = self.server, self.client
        self.server.connection_made(cast(asyncio.BaseTransport, self.to_client))
        self.client.connection_made(cast(asyncio.BaseTransport, self.to_server))


async def test_a_request_and_its_answer() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x"), ("k", "a"), ("k", "b")])
    await asked.send(b"question", end=True)
    taken = await pair.streams.get()
    assert taken.headers == [(":path", "/x"), ("k", "a"), ("k", "b")]
    assert (await taken.read(), await taken.read()) == (b"question", b"")
    taken.send_headers([(":status", "200")])
    await taken.send(b"answer")
    taken.send_headers([("grpc-status", "0")], end=True)
    assert (await asked.read(), await asked.read()) == (b"answer", b"")
    assert asked.headers == [(":status", "200")]
    assert asked.trailers == [("grpc-status", "0")]


async def test_more_than_the_windows_hold() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    content = bytes(range(256)) * 64 * 1024  # 16 MB: twice the connection's window
    sending = asyncio.create_task(asked.send(content, end=True))
    taken = await pair.streams.get()
    received = bytearray()
    while data := await taken.read():
        received += data
    await sending
    assert received == content


async def test_a_reader_who_does_not_read_stops_the_sender() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    sending = asyncio.create_task(asked.send(bytes(16 << 20), end=True))
    await pair.streams.get()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not sending.done()
    assert len(pair.to_server.sent) < 2 << 20  # a stream's window
    sending.cancel()


async def test_a_stream_that_is_reset() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    taken = await pair.streams.get()
    asked.reset()
    with pytest.raises(StreamReset):
        await taken.read()
    with pytest.raises(StreamReset):
        await asked.send(b"late")


async def test_who_has_asked_to_the_end_can_give_it_up() -> None:
    """As Go's clients do on Ctrl-C, whose request has ended long since."""
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    await asked.send(b"request", end=True)
    taken = await pair.streams.get()
    assert (await taken.read(), await taken.read()) == (b"request", b"")
    asked.reset()
    async with asyncio.timeout(10):
        await taken.wait_for_reset()
    with pytest.raises(StreamReset):
        await taken.send(b"late")


async def test_a_reset_after_the_end_leaves_the_answer() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    taken = await pair.streams.get()
    taken.send_headers([(":status", "200")])
    await taken.send(b"whole")
    taken.send_headers([("grpc-status", "0")], end=True)
    pair.server.send_reset(1, 0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (await asked.read(), await asked.read()) == (b"whole", b"")
    await asked.send(b"too late, and no error", end=True)


async def test_a_connection_that_ends_ends_its_streams() -> None:
    pair = _Pair()
    asked = pair.client.open([(":path", "/x")])
    pair.client.connection_lost(None)
    with pytest.raises(StreamReset):
        await asked.read()
    with pytest.raises(StreamReset):
        pair.client.open([])


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (PREFACE + b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", 6),  # one byte more than a frame may have
        (PREFACE + _frame(0, 0, 1, b"data"), 1),  # of no stream
        (PREFACE + _frame(9, 4, 1, b"\x82"), 1),  # a continuation of nothing
        (PREFACE + _frame(1, 0, 1, b"\x82") + _frame(0, 0, 1), 1),  # data inside a header block
        (PREFACE + _frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), 9),  # no header block
        (PREFACE + _frame(5, 4, 1, b"\x00\x00\x00\x02"), 1),  # a push
        (PREFACE + _frame(8, 0, 0, b"\x00\x00\x00\x00"), 1),  # a window that grows by nothing
        (PREFACE + _frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2, 3),  # and by too much
        (PREFACE + _frame(4, 0, 0, b"\x00\x04\xff\xff\xff\xff"), 3),
        (PREFACE + _frame(4, 0, 0, b"\x00"), 6),
        (PREFACE + _frame(6, 0, 0, b"8 bytes.") * 2000, 11),
        (PREFACE + _frame(4, 0, 0) * 2000, 11),
        (PREFACE + b"".join(_frame(1, 4, n, b"\x82") + _frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 9999, 2)), 11),
        (PREFACE + _frame(1, 0, 1, b"\x82") + _frame(9, 0, 1, b"\x82" * 16384) * 8, 11),
        (PREFACE + _frame(0, 8, 1, b"\xffpadded"), 1),
        # 48 MB of headers: one of 4000 bytes, and 12,000 times the same
        (PREFACE + _frame(1, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000), 9),
    ],
)  # fmt: skip
async def test_a_peer_that_breaks_the_rules_is_told_so(sent: bytes, code: int) -> None:
    """A hole would be a connection that goes on, or memory and processor time without bound."""
    pipe, streams = _Pipe(), asyncio.Queue[Stream]()
    server = Connection(streams.put_nowait)
    server.connection_made(cast(asyncio.BaseTransport, pipe))
    for at in range(0, len(sent), 5000):
        server.data_received(sent[at : at + 5000])
    assert pipe.is_closing()
    at = pipe.sent.rindex(b"\x07\x00\x00\x00\x00\x00")
    assert int.from_bytes(pipe.sent[at + 10 : at + 14], "big") == code


async def test_data_beyond_the_window_ends_the_connection() -> None:
    pipe, streams = _Pipe(), asyncio.Queue[Stream]()
    server = Connection(streams.put_nowait)
    server.connection_made(cast(asyncio.BaseTransport, pipe))
    server.data_received(PREFACE + _frame(1, 4, 1, b"\x82"))
    for _ in range(600):
        server.data_received(_frame(0, 0, 1, bytes(16384)))
    assert pipe.is_closing()
