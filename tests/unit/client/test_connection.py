import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.client.blocking import Response, plain
from wherry.client.loops import Blocking
from wherry.client.transport import BUFFER, HEAD_LIMIT, ConnectionLost
from wherry.client.transport import Connection as AsyncConnection


class Connection:
    """A connection whose coroutines are plain functions."""

    def __init__(self, stream: Any) -> None:
        self._core = AsyncConnection(stream, Blocking())

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: plain(getattr(self._core, name)(*arguments))


class Pieces:
    """A stream that receives what it is given, piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.sent = b""
        self.closed = False
        self._never, self._other = socket.socketpair()  # of which nothing is ever to be read

    def recv_into(self, buffer: Any) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if piece[count:]:
            self._pieces.insert(0, piece[count:])
        return count

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return self._never.fileno()

    def close(self) -> None:
        self.closed = True


def received(*pieces: bytes, method: str = "GET") -> tuple[Response, Pieces, list[Any]]:
    stream, free = Pieces(*pieces), []
    connection = Connection(stream)
    return connection.receive(method, free.append), stream, free


def test_a_body_of_known_length_frees_the_connection_at_its_end() -> None:
    response, stream, free = received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhel", b"loHTTP")
    assert (response.status, response.reason, response.headers["x-y"]) == (200, "OK", "z")
    assert not free
    assert response.read() == b"hello"
    assert len(free) == 1 and not stream.closed
    assert response.read() == b""


def test_a_body_without_a_length_goes_to_the_end_of_the_stream() -> None:
    response, stream, free = received(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
    assert response.read() == b"abcd"
    assert stream.closed and not free


def test_an_engine_that_closes_is_not_asked_again() -> None:
    response, stream, free = received(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
    assert response.read() == b"x"
    assert stream.closed and not free


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("POST", 304)])
def test_answers_that_have_no_body(method: str, status: int) -> None:
    response, _, free = received(b"HTTP/1.1 %d x\r\nContent-Length: 10\r\n\r\n" % status, method=method)
    assert response.read() == b""
    assert len(free) == 1


def test_an_interim_answer_is_passed_over() -> None:
    response, *_ = received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert response.read() == b"ok"


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=10),
    st.lists(st.integers(min_value=1, max_value=100), max_size=30),
)
def test_chunks_however_they_arrive(chunks: list[bytes], cuts: list[int]) -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire += b"".join(b"%X;note=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    pieces = []
    for length in cuts:
        pieces.append(wire[:length])
        wire = wire[length:]
    response, _, free = received(*pieces, wire)
    assert response.read() == b"".join(chunks)
    assert len(free) == 1


def test_a_chunk_is_given_before_the_next_one_begins() -> None:
    """A log that is followed is shown as it comes."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        response = Connection(ours).receive()
        theirs.sendall(b"5\r\nfirst\r\n")
        assert bytes(response.piece()) == b"first"
        theirs.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
        assert response.read() == b"second"
    ours.close()


def test_a_body_larger_than_the_buffer_comes_in_pieces() -> None:
    body = bytes(range(256)) * (BUFFER // 100)
    response, *_ = received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    pieces = []
    while piece := response.piece():
        pieces.append(bytes(piece))
    assert b"".join(pieces) == body
    assert len(pieces) > 1


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_LIMIT * 2,
    ],
)
def test_what_is_no_head(wire: bytes) -> None:
    with pytest.raises(ConnectionLost):
        received(wire)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    ],
)
def test_a_body_that_is_cut(body: bytes) -> None:
    response, _, free = received(b"HTTP/1.1 200 OK\r\n" + body)
    with pytest.raises(ConnectionLost):
        response.read()
    assert not free


def test_values_come_one_by_one() -> None:
    wire = b'HTTP/1.1 200 OK\r\n\r\n{"a":1}\r\n\r\n{"b"', b':2}\n{"c":3}'
    response, *_ = received(*wire)
    assert list(response.values()) == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_no_header_can_bring_another() -> None:
    connection = Connection(Pieces())
    with pytest.raises(ValueError, match="line break in the header User-Agent"):
        connection.send("GET", "/", {"User-Agent": "x\r\nHost: y"})


def test_requests_as_they_are_written() -> None:
    stream = Pieces()
    connection = Connection(stream)
    connection.send("GET", "/a", {"Host": "x"})
    connection.send("POST", "/b", {}, b"{}")
    connection.send("POST", "/c", {})
    connection.send_stream("PUT", "/d", {}, [b"ab", b"", b"c" * 20], None)
    connection.send_stream("PUT", "/e", {}, [b"ab", b"c"], 3)
    assert stream.sent == (
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        b"POST /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        b"PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n14\r\n" + b"c" * 20 + b"\r\n0\r\n\r\n"
        b"PUT /e HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
    ],
)
def test_what_is_answered_already_is_sent_no_further(answer: bytes) -> None:
    """An engine that has refused a large body reads on for a while, which nobody has to wait for."""
    ours, theirs = socket.socketpair()
    sent, free = [], []

    def endless() -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            theirs.recv(1 << 20)
            if number == 5:
                theirs.sendall(answer[:40])
            elif number == 8:
                theirs.sendall(answer[40:])
            yield b"x" * 1000

    connection = Connection(ours)
    connection.send_stream("POST", "/load", {}, endless(), None)
    assert sent == list(range(9))
    assert connection.receive("POST", free.append).read() == b"bad"
    assert not free  # the rest of the request is missing: nothing more can be asked on this connection
    theirs.close()


def test_an_engine_that_stops_reading_is_still_heard() -> None:
    """One that refuses a large body says so and closes; the answer counts, not the broken pipe."""
    ours, theirs = socket.socketpair()

    def endless() -> Iterator[bytes]:
        yield b"x" * 1000
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad")
        theirs.close()
        while True:
            yield b"x" * 100_000

    connection = Connection(ours)
    connection.send_stream("POST", "/build", {}, endless(), None)
    response = connection.receive()
    assert (response.status, response.read()) == (400, b"bad")


def test_ready_tells_whether_a_piece_would_wait() -> None:
    """The end of one chunk may be there while the next is not, and that may be a second away."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    response, _, _ = received(head + b"3\r\none\r\n3\r\ntwo\r\n5", b"\r\nth", b"ree\r\n0\r\n\r\n")
    seen = []
    while True:
        ready = response.ready
        piece = bytes(response.piece())
        seen.append((piece, ready))
        if not piece:
            break
    assert seen == [(b"one", True), (b"two", True), (b"th", False), (b"ree", False), (b"", True)]
    assert response.ready
