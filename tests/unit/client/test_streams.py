import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.scripted_engine import frame
from wherry.client.streams import VECTORS, Demultiplexer, StreamError, write_all

Frames = list[tuple[int, bytes]]


class Sink:
    def __init__(self) -> None:
        self.written: Frames = []

    def __call__(self, stream: int, buffers: list[memoryview]) -> None:
        assert 0 < len(buffers) <= VECTORS
        self.written.append((stream, b"".join(buffers)))

    def of(self, stream: int) -> bytes:
        return b"".join(data for number, data in self.written if number == stream)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40))),
    st.lists(st.integers(min_value=1, max_value=30)),
)
def test_however_it_is_cut_the_data_and_its_order_are_the_same(frames: Frames, cuts: list[int]) -> None:
    stream = b"".join(frame(number, data) for number, data in frames)
    sink = Sink()
    split = Demultiplexer(sink)
    for length in cuts:
        split.feed(memoryview(stream[:length]))
        stream = stream[length:]
    if stream:
        split.feed(memoryview(stream))
    together = [(number, data[i : i + 1]) for number, data in frames for i in range(len(data))]
    assert [(number, data[i : i + 1]) for number, data in sink.written for i in range(len(data))] == together


def test_many_small_frames_are_one_write_where_they_can_be() -> None:
    sink = Sink()
    Demultiplexer(sink).feed(memoryview(frame(1, b"x") * 100 + frame(2, b"y") * 100))
    assert sink.written == [(1, b"x" * 100), (2, b"y" * 100)]
    sink = Sink()
    Demultiplexer(sink).feed(memoryview(frame(1, b"x") * (VECTORS + 1)))
    assert sink.of(1) == b"x" * (VECTORS + 1)


def test_stream_0_is_output() -> None:
    sink = Sink()
    Demultiplexer(sink).feed(memoryview(frame(0, b"x")))
    assert sink.written == [(1, b"x")]


def test_what_came_before_an_error_is_shown() -> None:
    sink = Sink()
    split = Demultiplexer(sink)
    with pytest.raises(StreamError, match="error from daemon in stream: broken log"):
        split.feed(memoryview(frame(1, b"x") + frame(3, b"broken log")))
    assert sink.written == [(1, b"x")]


def test_what_is_not_framed() -> None:
    with pytest.raises(StreamError, match="Unrecognized input header: 72"):
        Demultiplexer(Sink()).feed(memoryview(b"HTTP/1.1 400 Bad Request"))


def test_writes_all_also_where_somebody_made_it_non_blocking() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data = os.urandom(500_000)
    got = bytearray()

    def read() -> None:
        while piece := os.read(reader, 65536):
            got.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    write_all(writer, [memoryview(data[:100]), memoryview(b""), memoryview(data[100:])])
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(got) == data
