"""A process's standard streams: from its pipes or its terminal to the log and the attached clients, and back.

Output is never dropped and never piles up: a client that has more than a mebibyte unread stops the reading of the
process's output, and the pipe, once full, stops the process. What is typed waits here likewise, up to a mebibyte.
"""

import contextlib
import errno
import mmap
import os
import socket
import struct
from collections.abc import Callable

from wherry.runtime.ipc import HANG_UP, READ, WRITE, Loop, Streams
from wherry.runtime.logging.sink import Sink

STDOUT = 1
STDERR = 2

FRAME = struct.Struct(">B3xI")
UNREAD_AT_MOST = 1 << 20
_READ_AT_ONCE = 256 * 1024
_KEEP = 16 * 1024  # of the buffer, when it is not in use
_DRAIN_AT_MOST = 8 << 20  # more than a pipe holds: others may still write to it where the host's pids are shared


class Buffer:
    """Where output is read to. One for the whole monitor; only the pages that were written to take memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _READ_AT_ONCE)
        self._view = memoryview(self._memory)
        self._used = 0

    def read(self, fd: int) -> memoryview | None:
        """What is there to be read, valid until the next read; empty at the end; None when there is nothing yet."""
        try:
            count = os.readv(fd, [self._view])
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose last user is gone
                raise
            count = 0
        self._used = max(self._used, count)
        return self._view[:count]

    def rest(self) -> None:
        """Gives the memory of a burst back."""
        if self._used > _KEEP:
            self._memory.madvise(mmap.MADV_DONTNEED, _KEEP, _READ_AT_ONCE - _KEEP)
            self._used = 0


class Stdio:
    """One process's streams, as seen from the monitor: its outputs, its input, and who is attached to them.

    ``output`` and ``error`` are what to read, ``input`` what to write (-1 for none). With a terminal, ``output`` is its
    master and ``input`` a duplicate of it; what goes to clients then has no frames.
    """

    def __init__(self, loop: Loop, buffer: Buffer, *, tty: bool, close_input: bool) -> None:
        self._loop = loop
        self._buffer = buffer
        self.log: Sink | None = None
        self._tty = tty
        self._close_input = close_input and not tty
        self._outputs: dict[int, int] = {}  # descriptor: stream
        self._clients: list[Client] = []
        self._input: Input | None = None
        self._paused = False
        self._opened = False

    def open(self, output: int, error: int, input: int) -> None:
        """Begins to pump."""
        self._opened = True
        for fd, stream in ((output, STDOUT), (error, STDERR)):
            if fd >= 0:
                os.set_blocking(fd, False)
                self._outputs[fd] = stream
        if input >= 0:
            os.set_blocking(input, False)
            self._input = Input(self._loop, input, self._input_has_room)
        self._watch_outputs()
        for client in self._clients:
            client.listen()

    def attach(self, connection: socket.socket, streams: Streams) -> None:
        """From now on this client gets the output it asked for, and what it sends is input."""
        client = Client(self, self._loop, connection, streams)
        self._clients.append(client)
        if self._input is not None:
            client.listen()
        if self._opened and not self._outputs:
            client.finish()

    @property
    def reading(self) -> bool:
        """Whether more output may come."""
        return bool(self._outputs)

    @property
    def delivering(self) -> bool:
        """Whether a client has still to be sent something."""
        return bool(self._clients)

    def drain(self) -> None:
        """Takes what is in the pipes, however much clients have unread, and ends: the process is gone."""
        if self._input is not None:
            self._input.close()
            self._input = None
        for fd in list(self._outputs):
            taken = 0
            while taken < _DRAIN_AT_MOST and (count := self._pump(fd)):
                taken += count
            self._end_output(fd)
        for client in list(self._clients):
            client.finish()

    def take_input(self, client: "Client", data: bytes) -> bool:
        """Passes on what a client sent; b"" is the end of it. Whether there is room for more."""
        if self._input is None:
            return True
        if data:
            return self._input.write(data)
        if self._close_input:
            self._input.end()
        return True

    @property
    def takes_input(self) -> bool:
        return self._input is not None

    def drop(self, client: "Client") -> None:
        """The client is gone, or done with."""
        if client not in self._clients:
            return
        self._clients.remove(client)
        client.close()
        if client.streams.stdin and self._close_input and self._input is not None:
            self._input.end()
        self.client_has_room()

    def client_has_room(self) -> None:
        """Goes on reading when no client has too much unread any more."""
        if self._paused and not any(client.is_full for client in self._clients):
            self._paused = False
            self._watch_outputs()

    def _watch_outputs(self) -> None:
        for fd in self._outputs:
            self._loop.watch(fd, READ, lambda events, fd=fd: self._readable(fd))  # type: ignore[misc]

    def _readable(self, fd: int) -> None:
        self._pump(fd)
        if any(client.is_full for client in self._clients):
            self._paused = True
            for output in self._outputs:
                self._loop.forget(output)

    def _pump(self, fd: int) -> int:
        """Reads once and passes it on. How many bytes; 0 at the end, or when there is nothing now."""
        stream = self._outputs.get(fd)
        data = self._buffer.read(fd) if stream is not None else None
        if stream is None or data is None:
            return 0
        if not data:
            self._end_output(fd)
            return 0
        if self.log is not None:
            self.log.write(stream, data)
        for client in list(self._clients):
            client.send(stream, data, framed=not self._tty)
        return len(data)

    def _end_output(self, fd: int) -> None:
        stream = self._outputs.pop(fd, None)
        if stream is None:
            return
        self._loop.forget(fd)
        os.close(fd)
        if self.log is not None:
            self.log.end(stream)
        if not self._outputs:
            for client in list(self._clients):
                client.finish()

    def _input_has_room(self) -> None:
        for client in self._clients:
            client.listen()


class Client:
    """A stream socket somebody reads output from and writes input to."""

    def __init__(self, stdio: Stdio, loop: Loop, connection: socket.socket, streams: Streams) -> None:
        self.streams = streams
        self._stdio = stdio
        self._loop = loop
        self._socket = connection
        self._unsent = bytearray()
        self._listening = False
        self._finishing = False
        self._input_ended = False
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_AT_MOST)
        self._watch()

    @property
    def is_full(self) -> bool:
        return len(self._unsent) > UNREAD_AT_MOST

    def listen(self) -> None:
        """There is room for input."""
        if self.streams.stdin and not self._listening and not self._input_ended:
            self._listening = True
            self._watch()

    def send(self, stream: int, data: memoryview, *, framed: bool) -> None:
        if not (self.streams.stdout if stream == STDOUT else self.streams.stderr):
            return
        head = FRAME.pack(stream, len(data)) if framed else b""
        if self._unsent:
            self._unsent += head
            self._unsent += data
            return
        try:
            sent = self._socket.sendmsg((head, data))
        except BlockingIOError:
            sent = 0
        except OSError:
            self._stdio.drop(self)
            return
        if sent < len(head) + len(data):
            self._unsent += head[sent:]
            self._unsent += data[max(0, sent - len(head)) :]
            self._watch()

    def finish(self) -> None:
        """No more output comes: closes once all is sent, or goes on as a source of input alone."""
        self._finishing = True
        if self._unsent:
            return
        if self.streams.stdin and self._stdio.takes_input and not self._input_ended:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        else:
            self._stdio.drop(self)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _watch(self) -> None:
        events = (READ if self._listening else 0) | (WRITE if self._unsent else 0)
        self._loop.watch(self._socket.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE and self._unsent:
            self._flush()
        if self._socket.fileno() < 0:
            return
        if events & READ and self._listening:
            self._receive()
        elif events & HANG_UP:
            self._stdio.drop(self)

    def _flush(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._stdio.drop(self)
            return
        if not self._unsent:
            self._watch()
            if self._finishing:
                self.finish()
        self._stdio.client_has_room()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._stdio.drop(self)
            return
        has_room = self._stdio.take_input(self, data)
        if not data:
            self._input_ended = True
        if not data or not has_room:
            self._listening = False
            self._watch()
        if not data and self._finishing:
            self.finish()


class Input:
    """A process's standard input, or its terminal."""

    def __init__(self, loop: Loop, fd: int, has_room: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._has_room = has_room
        self._unwritten = bytearray()
        self._ending = False

    def write(self, data: bytes) -> bool:
        """Whether there is room for more."""
        if self._fd < 0 or self._ending:
            return True
        self._unwritten += data
        self._flush()
        return len(self._unwritten) <= UNREAD_AT_MOST

    def end(self) -> None:
        """Closes once all is written."""
        self._ending = True
        if not self._unwritten:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._unwritten.clear()

    def _flush(self) -> None:
        try:
            del self._unwritten[: os.write(self._fd, self._unwritten)]
        except BlockingIOError:
            pass
        except OSError:  # the process closed its standard input
            self.close()
            return
        if self._unwritten:
            self._loop.watch(self._fd, WRITE, lambda events: self._writable())
        else:
            self._loop.forget(self._fd)
            if self._ending:
                self.close()

    def _writable(self) -> None:
        was_full = len(self._unwritten) > UNREAD_AT_MOST
        self._flush()
        if was_full and len(self._unwritten) <= UNREAD_AT_MOST:
            self._has_room()
