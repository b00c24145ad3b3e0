"""Logs that are sent away: to syslog, over each kind of socket, and to the journal."""

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.runtime.ipc import Loop, StartError
from wherry.runtime.logging import remote as sending
from wherry.runtime.logging.reader import Reader
from wherry.runtime.logging.remote import LogShipper
from wherry.runtime.logging.sink import Sink, open_log
from wherry.runtime.spec import Journald, Log, Syslog

SECONDS = 20  # until a test that waits for a socket has failed


@pytest.fixture
def sockets() -> Iterator[Callable[..., socket.socket]]:
    """Opens servers' sockets, and closes them after the test."""
    opened: list[socket.socket] = []

    def open_socket(family: int, kind: int, address: object) -> socket.socket:
        server = socket.socket(family, kind)
        opened.append(server)
        server.settimeout(SECONDS)
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
        return server

    yield open_socket
    for each in opened:
        each.close()


def open_forwarding(to: Syslog | Journald, **options: object) -> Sink:
    log = open_log(Log("none", forward=to, **options), Loop(), lambda text: None)
    assert log is not None
    return log


def write(log: Sink, *chunks: tuple[int, bytes]) -> None:
    for stream, data in chunks:
        log.write(stream, memoryview(data))
    log.close()


def read_all(server: socket.socket) -> bytes:
    connection, _ = server.accept()
    connection.settimeout(SECONDS)
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("", rb"<158>\w{3} [ \d]\d \d\d:\d\d:\d\d tag\[PID\]: one\n"),
        ("rfc3164", rb"<158>\w{3} [ \d]\d \d\d:\d\d:\d\d HOST tag\[PID\]: one\n"),
        ("rfc5424", rb"<158>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) HOST tag PID tag - one\n"),
        ("rfc5424micro", rb"<158>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) HOST tag PID tag - one\n"),
    ],
)
def test_the_formats_are_dockers(
    tmp_path: Path, sockets: Callable[..., socket.socket], form: str, pattern: bytes
) -> None:
    server = sockets(socket.AF_UNIX, socket.SOCK_DGRAM, f"{tmp_path}/log")
    to = Syslog("unixgram", f"{tmp_path}/log", facility=19 << 3, format=form, tag="tag")
    write(open_forwarding(to), (1, b"one\n"))
    pattern = pattern.replace(b"HOST", re.escape(os.uname().nodename.encode()))
    assert re.fullmatch(pattern.replace(b"PID", b"%d" % os.getpid()), server.recv(65536))


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """Priorities and texts."""
    return [(int(found[1]), found[2]) for found in re.finditer(rb"<(\d+)>[^\n]*?\]: ([^\n]*)\n", data)]


def test_a_message_for_each_line(tmp_path: Path, sockets: Callable[..., socket.socket]) -> None:
    server = sockets(socket.AF_UNIX, socket.SOCK_STREAM, f"{tmp_path}/log")
    log = open_forwarding(Syslog("unix", f"{tmp_path}/log", tag="t"))
    write(log, (1, b"one\ntw"), (2, b"error\n"), (1, b"o\n\n"), (1, b"x" * 20_000), (1, b"\nend"))
    assert messages(read_all(server)) == [
        (30, b"one"), (27, b"error"), (30, b"two"), (30, b"x" * 16384), (30, b"x" * 3616), (30, b"end")
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_over_the_network(sockets: Callable[..., socket.socket], protocol: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    server = sockets(socket.AF_INET, kind, ("127.0.0.1", 0))
    to = Syslog(protocol, "127.0.0.1", server.getsockname()[1], tag="t")
    write(open_forwarding(to), (1, b"one\n"))
    assert messages(server.recv(65536) if protocol == "udp" else read_all(server)) == [(30, b"one")]


def test_nobody_there_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"failed to initialize logging driver: .*No such file"):
        open_forwarding(Syslog("unixgram", f"{tmp_path}/none"))


def test_a_file_is_kept_beside(tmp_path: Path, sockets: Callable[..., socket.socket]) -> None:
    server = sockets(socket.AF_UNIX, socket.SOCK_DGRAM, f"{tmp_path}/socket")
    log = Log("local", f"{tmp_path}/log", forward=Syslog("unixgram", f"{tmp_path}/socket", tag="t"))
    sink = open_log(log, Loop(), lambda text: None)
    assert sink is not None
    write(sink, (1, b"one\n"))
    assert messages(server.recv(65536)) == [(30, b"one")]
    assert b"".join(Reader(log, framed=False).read()) == b"one\n"


def test_it_connects_again(
    tmp_path: Path, sockets: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_BETWEEN_TRIES", 0.0)
    path = f"{tmp_path}/log"
    server = sockets(socket.AF_UNIX, socket.SOCK_DGRAM, path)
    log = open_forwarding(Syslog("unixgram", path, tag="t"))
    log.write(1, memoryview(b"one\n"))
    assert messages(server.recv(65536)) == [(30, b"one")]
    server.close()
    os.unlink(path)
    log.write(1, memoryview(b"while nobody is there\n"))
    server = sockets(socket.AF_UNIX, socket.SOCK_DGRAM, path)
    log.write(1, memoryview(b"two\n"))
    log.close()
    assert [messages(server.recv(65536))[0][1] for _ in range(2)] == [b"while nobody is there", b"two"]


class TestSlowReader:
    """The other side of a socket pair takes nothing."""

    @pytest.fixture
    def pair(self, sockets: Callable[..., socket.socket]) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(SECONDS)
        yield ours, theirs
        theirs.close()

    @pytest.mark.parametrize("patient", [True, False])
    def test_what_is_too_much_is_dropped(
        self, pair: tuple[socket.socket, socket.socket], patient: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sending, "_PATIENCE", 0.01)
        monkeypatch.setattr(sending, "_FAREWELL", 0.01)
        shipper = LogShipper(Loop(), pair[0], lambda: pair[0], limit=10_000, patient=patient)
        shipper.send([b"x" * 999 + b"\n"] * 1000)
        assert shipper.dropped > 0
        shipper.close()
        taken = b"".join(iter(lambda: pair[1].recv(65536), b""))
        assert taken.count(b"\n") <= 1000 - shipper.dropped

    def test_all_arrives_when_it_is_read_at_last(self, pair: tuple[socket.socket, socket.socket]) -> None:
        loop = Loop()
        shipper = LogShipper(loop, pair[0], lambda: pair[0], limit=10_000_000)
        shipper.send([b"x" * 999 + b"\n"] * 1000)
        taken = 0
        while taken < 1_000_000:
            taken += len(pair[1].recv(65536))
            loop.turn(0)
        assert shipper.dropped == 0
        shipper.close()


def fields(entry: bytes) -> dict[str, bytes]:
    found = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        found[name.decode()] = value
        entry = rest
    return found


def test_journal_entries(tmp_path: Path, sockets: Callable[..., socket.socket]) -> None:
    server = sockets(socket.AF_UNIX, socket.SOCK_DGRAM, f"{tmp_path}/journal")
    to = Journald(f"{tmp_path}/journal", {"CONTAINER_NAME": "c", "LABEL": "two\nlines"})
    write(open_forwarding(to), (1, b"one\n"), (2, b"y" * 16385 + b"\n"))
    same = {"CONTAINER_NAME": b"c", "LABEL": b"two\nlines"}
    assert [fields(server.recv(65536)) for _ in range(3)] == [
        {"MESSAGE": b"one", "PRIORITY": b"6", **same},
        {"MESSAGE": b"y" * 16384, "PRIORITY": b"3", **same, "CONTAINER_PARTIAL_MESSAGE": b"true"},
        {"MESSAGE": b"y", "PRIORITY": b"3", **same},
    ]
