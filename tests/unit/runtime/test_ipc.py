"""Messages and the descriptors beside them."""

import fcntl
import os
import socket

import msgspec
import pytest

from wherry.runtime import ipc
from wherry.runtime.ipc import Attach, Exec, Exited, Failed, Resize, Started, Status, Streams


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.mark.parametrize(
    "request_",
    [
        Attach(1, Streams(True, True, False), "abc"),
        Exec(2, "abc", (Streams(stdout=True),)),
        Resize(3, 24, 80),
        Status(4),
    ],
)
def test_requests_are_told_apart(request_: msgspec.Struct) -> None:
    assert ipc.decode_request.decode(ipc.encode(request_)) == request_


@pytest.mark.parametrize("answer", [Failed("no", 127, 5), Started(1, 2, 3, execs={"a": 4}), Exited(137, 1, signal=9)])
def test_answers_are_told_apart(answer: msgspec.Struct) -> None:
    assert ipc.decode_answer.decode(ipc.encode(answer)) == answer


def test_one_packet_is_one_message(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ipc.send(ours, Status(1))
    ipc.send(ours, Status(2))
    assert ipc.decode_request.decode(ipc.receive(theirs)[0]) == Status(1)
    assert ipc.decode_request.decode(ipc.receive(theirs)[0]) == Status(2)
    ours.close()
    assert ipc.receive(theirs) == (b"", [])


def test_descriptors_arrive_closed_on_exec(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    memfd = ipc.to_memfd("test", b"content")
    ipc.send(ours, Status(1), (memfd, memfd))
    _, descriptors = ipc.receive(theirs)
    assert len(descriptors) == 2
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in descriptors)
    os.close(memfd)
    os.close(descriptors[0])
    assert ipc.from_memfd(descriptors[1]) == b"content"


def test_a_memfd_of_any_size() -> None:
    content = os.urandom(3 << 20)
    assert ipc.from_memfd(ipc.to_memfd("big", content)) == content


def test_the_exit_file_is_what_the_contract_says() -> None:
    record = msgspec.json.decode(ipc.encode(Exited(137, 5, signal=9, oom=True)))
    assert {key: record[key] for key in ("code", "signal", "oom", "at", "error")} == {
        "code": 137,
        "signal": 9,
        "oom": True,
        "at": 5,
        "error": None,
    }
