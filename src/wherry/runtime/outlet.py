"""A connection by which log messages leave the monitor: to a socket that may be slow, or away for a while.

Messages wait here, up to a limit, when they cannot be sent. Then a patient outlet makes the container wait, too, but
not for long: two seconds without anything being taken, and messages are dropped until something is taken again. While
there is no connection, a new one is tried once a second at most, when there is something to be sent.
"""

import contextlib
import errno
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from wherry.runtime.loop import HANG_UP, READ, WRITE, Loop

_PATIENCE = 2.0  # seconds
_FAREWELL = 5.0  # seconds that the end of a log may take
_BETWEEN_TRIES = 1.0  # seconds
_AFTER_REFUSAL = 10.0  # seconds: an agreement that fails, as of TLS, takes time each time


class Connection(Protocol):
    """What an outlet needs of a socket, which TLS has in its own way. ``send`` raises BlockingIOError, OSError."""

    def fileno(self) -> int: ...
    def send(self, data: memoryview, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class Outlet:
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
