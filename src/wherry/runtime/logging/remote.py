"""A connection by which log messages leave the monitor: to a socket that may be slow, or away for a while.

Messages wait here, up to a limit, when they cannot be sent. Then a patient shipper makes the container wait, too, but
not for long: two seconds without anything being taken, and messages are dropped until something is taken again. While
there is no connection, a new one is tried once a second at most, when there is something to be sent.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from wherry.runtime.ipc import HANG_UP, READ, WRITE, Loop
from wherry.runtime.spec import Journald, Syslog

_PATIENCE = 2.0  # seconds
_FAREWELL = 5.0  # seconds that the end of a log may take
_BETWEEN_TRIES = 1.0  # seconds
_AFTER_REFUSAL = 10.0  # seconds: an agreement that fails, as of TLS, takes time each time


class Connection(Protocol):
    """What a shipper needs of a socket, which TLS has in its own way. ``send`` raises BlockingIOError, OSError."""

    def fileno(self) -> int: ...
    def send(self, data: memoryview, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class LogShipper:
    """``connect`` gives a socket that is connected, or on its way; ``established`` is what to use once it is.

    ``connection`` is the first one, which is there already.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        connect: Callable[[], socket.socket],
        *,
        established: Callable[[socket.socket], Connection] = lambda connection: connection,
        limit: int = 1 << 20,
        patient: bool = True,
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._established = established
        self._limit = limit
        self._patient = patient
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._sent = 0  # of the first one that waits
        self._stuck = False
        self._connection: Connection | None = connection
        self._connecting: socket.socket | None = None
        self._next_try = 0.0
        self.dropped = 0
        self._watch()

    def send(self, messages: Iterable[bytes]) -> None:
        """Sends, or keeps for later, or drops."""
        for message in messages:
            if self._size and self._size + len(message) > self._limit and not self._make_room(len(message)):
                self.dropped += 1
                continue
            self._waiting.append(message)
            self._size += len(message)
        self._flush()

    def close(self) -> None:
        """Sends what waits, as far as that does not take long."""
        self._drain(lambda: not self._waiting, _FAREWELL)
        self._disconnect()

    def _make_room(self, size: int) -> bool:
        self._flush()
        if self._patient and not self._stuck:
            self._stuck = not self._drain(lambda: self._size + size <= self._limit, _PATIENCE)
        return self._size + size <= self._limit

    def _drain(self, enough: Callable[[], bool], patience: float) -> bool:
        """Flushes until it is enough, there is no connection, or nothing has been taken for so many seconds."""
        self._flush()
        while not enough() and (link := self._connection or self._connecting) is not None:
            poll = select.poll()
            poll.register(link.fileno(), WRITE)
            before = self._size, self._sent, self._connecting
            ready = poll.poll(patience * 1000)
            self._flush()
            if not ready or (self._size, self._sent, self._connecting) == before:
                break
        return enough()

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._connection is None and not self._open():
            return
        while self._waiting and self._connection is not None:
            first = self._waiting[0]
            try:
                self._sent += self._connection.send(memoryview(first)[self._sent :])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # a datagram that is too long for the other side is lost
                    self._disconnect()
                    break
                self._sent = len(first)
            self._stuck = False
            if self._sent >= len(first):
                self._waiting.popleft()
                self._size -= len(first)
                self._sent = 0
        self._watch()

    def _open(self) -> bool:
        """Whether there is a connection now."""
        if self._connecting is None:
            if time.monotonic() < self._next_try:
                return False
            self._next_try = time.monotonic() + _BETWEEN_TRIES
            try:
                self._connecting = self._connect()
            except OSError:
                return False
        link = self._connecting
        try:
            self._connection = self._established(link) if _is_established(link) else None
        except OSError:
            self._disconnect()
            self._next_try = time.monotonic() + _AFTER_REFUSAL
            return False
        if self._connection is not None:
            self._connecting = None
        self._watch()
        return self._connection is not None

    def _watch(self) -> None:
        """Also while there is nothing to be sent: to see when the other side goes."""
        link = self._connection or self._connecting
        if link is not None:
            self._loop.watch(link.fileno(), READ | (WRITE if self._waiting else 0), self._ready)

    def _ready(self, events: int) -> None:
        if events & READ and self._connection is not None:
            try:
                if not self._connection.recv(4096):
                    self._disconnect()
            except BlockingIOError:
                pass
            except OSError:
                self._disconnect()
        elif events & HANG_UP and self._connection is not None:
            self._disconnect()
        self._flush()

    def _disconnect(self) -> None:
        """The message that was being sent will be sent anew, from the beginning of its line."""
        link = self._connection or self._connecting
        self._connection = self._connecting = None
        if self._waiting:
            self._sent = self._waiting[0].rfind(b"\n", 0, self._sent) + 1
        if link is not None:
            self._loop.forget(link.fileno())
            with contextlib.suppress(OSError):
                link.close()


def _is_established(link: socket.socket) -> bool:
    """False while it is on its way. Raises OSError when it has failed."""
    if failure := link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failure, "cannot connect")
    try:
        link.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


# Log lines as syslog messages, in Docker's three formats: to the machine's own syslog, or to one in the network.

_syslog_ERROR, _syslog_INFORMATION = 3, 6  # severities
_CONNECT_SECONDS = 5.0  # at the start of a container; later nobody waits for it
_HANDSHAKE_SECONDS = 2.0
_UNTAKEN_AT_MOST = 10_000  # milliseconds; then the connection counts as broken

Compose = Callable[[int, bytes, bool], bytes]


def syslog_composer(to: Syslog) -> Compose:
    """Makes a message of a line, the stream it came from, and whether it goes on. An empty line is no message."""
    host, pid = os.uname().nodename, os.getpid()
    secure = to.protocol == "tcp+tls"
    head = {
        "": f"{to.tag}[{pid}]: ",
        "rfc3164": f"{host} {to.tag}[{pid}]: ",
    }.get(to.format, f"{host} {to.tag} {pid} {to.tag} - ").encode()

    def compose(stream: int, line: bytes, partial: bool) -> bytes:
        if not line:
            return b""
        priority = to.facility | (_syslog_ERROR if stream == 2 else _syslog_INFORMATION)
        message = b"<%d>%s %s%s\n" % (priority, _now(to.format), head, line)
        return b"%d %s" % (len(message), message) if secure and to.format.startswith("rfc5424") else message

    return compose


def _now(form: str) -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    local = time.localtime(seconds)
    if not form.startswith("rfc5424"):
        return time.strftime("%b %e %H:%M:%S", local).encode()
    fraction = f".{nanoseconds // 1000:06}" if form == "rfc5424micro" else ""
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"1 {time.strftime('%Y-%m-%dT%H:%M:%S', local)}{fraction}{zone}".encode()


class Dialer:
    """Connects, and again. A host's name is looked up once, when the container starts: that may take its time."""

    def __init__(self, to: Syslog) -> None:
        """Raises OSError for a name that is not known, and for certificates that cannot be read."""
        self._to = to
        self._kind = socket.SOCK_DGRAM if to.protocol in ("unixgram", "udp") else socket.SOCK_STREAM
        if to.protocol in ("unix", "unixgram"):
            self._addresses: list[tuple[int, str | tuple[object, ...]]] = [(socket.AF_UNIX, to.address)]
        else:
            found = socket.getaddrinfo(to.address, to.port, type=self._kind)
            self._addresses = [(family, address) for family, _, _, _, address in found]
        self._context = _tls_context(to) if to.protocol == "tcp+tls" else None

    def first(self) -> Connection:
        """Waits for it. Raises OSError when there is nobody, or nobody to be trusted."""
        return self.established(self._reach_any())

    def connect(self) -> socket.socket:
        """A socket on its way, or there."""
        self._addresses = [*self._addresses[1:], self._addresses[0]]  # perhaps it is the next that answers
        family, address = self._addresses[0]
        link = self._socket(family)
        try:
            link.setblocking(False)
            link.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            link.close()
            raise
        return link

    def established(self, link: socket.socket) -> Connection:
        return link if self._context is None else _Tls(self._context, link, self._to.address)

    def _reach_any(self) -> socket.socket:
        failure: OSError | None = None
        for family, address in self._addresses:
            link = self._socket(family)
            try:
                link.settimeout(_CONNECT_SECONDS)
                link.connect(address)
                link.setblocking(False)
            except OSError as error:
                failure = error
                link.close()
            else:
                return link
        raise failure or OSError(f"{self._to.address} has no address")

    def _socket(self, family: int) -> socket.socket:
        link = socket.socket(family, self._kind | socket.SOCK_CLOEXEC)
        if self._kind == socket.SOCK_STREAM and family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_AT_MOST)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return link


class _Tls:
    """TLS over a connection, once both sides have agreed. ssl is loaded by those alone who need it."""

    def __init__(self, context: object, link: socket.socket, host: str) -> None:
        import ssl

        assert isinstance(context, ssl.SSLContext)
        self._again = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        link.settimeout(_HANDSHAKE_SECONDS)
        self._socket = context.wrap_socket(link, server_hostname=host)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: memoryview, /) -> int:
        try:
            return self._socket.send(data)
        except self._again:
            raise BlockingIOError from None

    def recv(self, size: int, /) -> bytes:
        try:
            return self._socket.recv(size)
        except self._again:
            raise BlockingIOError from None

    def close(self) -> None:
        self._socket.close()


def _tls_context(to: Syslog) -> object:
    from wherry.common.tls import client_context

    return client_context(to.ca_cert, to.cert, to.key, verify=not to.skip_verify)


# Log lines as entries of systemd's journal, by its native protocol: a datagram of fields an entry.

_ERROR, _INFORMATION = b"3", b"6"  # priorities, as syslog has them
_LENGTH = struct.Struct("<Q")


def journald_composer(to: Journald) -> Callable[[int, bytes, bool], bytes]:
    """Makes an entry of a line, the stream it came from, and whether it goes on."""
    same = b"".join(_field(name.encode(), value.encode()) for name, value in to.fields.items())
    partial_mark = _field(b"CONTAINER_PARTIAL_MESSAGE", b"true")

    def compose(stream: int, line: bytes, partial: bool) -> bytes:
        priority = _field(b"PRIORITY", _ERROR if stream == 2 else _INFORMATION)
        return b"".join((_field(b"MESSAGE", line), priority, same, partial_mark if partial else b""))

    return compose


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, _LENGTH.pack(len(value)), value)
    return b"%s=%s\n" % (name, value)


def connect_journald(to: Journald) -> socket.socket:
    """Raises OSError when there is no journal."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        link.setblocking(False)
        link.connect(to.address)
    except OSError:
        link.close()
        raise
    return link
