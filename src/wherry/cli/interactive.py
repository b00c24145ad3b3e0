"""A container's streams and the user's, joined: what is typed goes in, what comes out is shown, signals go along.

One thread and one poll loop over: the stream that attach or exec has taken over, standard input, this program's
signals, and the answer to the wait request. Bytes that have been read are sent before more are read, so a side that
is slow slows the other down and nothing piles up here.
"""

from __future__ import annotations

import os
import select

from wherry.cli import terminal
from wherry.cli.terminal import ENDING, FORWARDED, SignalWatch, Terminated
from wherry.client.c_modules import signals, sockets
from wherry.client.streams import Demultiplexer, write_all
from wherry.client.transport import ClientError, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.client.blocking import Response
    from wherry.client.endpoint import Stream
    from wherry.common.detach_keys import DetachDetector

RECEIVE = 1 << 18
READ = 1 << 16


class Streams:
    """Which of the user's streams are joined, and how. `detach_keys` matter on a terminal only."""

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool, tty: bool, detach_keys: str = "") -> None:
        self.stdin, self.stdout, self.stderr, self.tty = stdin, stdout, stderr, tty
        self.detach_keys = detach_keys

    def check_terminal(self) -> None:
        """Raises CommandError when the container is to read from a terminal and there is none."""
        if self.stdin and self.tty and not terminal.is_terminal(terminal.STDIN):
            from wherry.cli.session import CommandError

            raise CommandError("the input device is not a TTY")


class Interaction:
    """A context that has the terminal and the signals, from before the container starts until the user is back.

    `forward(name)` sends a signal to the container; None: the signals that end a program end this one.
    `resize(rows, columns)` gives the container's terminal the size of the user's.
    """

    def __init__(
        self, streams: Streams, *, forward: Callable[[str], None] | None, resize: Callable[[int, int], None] | None
    ) -> None:
        self._streams = streams
        self._forward = forward
        self._resize = resize if streams.tty and terminal.is_terminal(terminal.STDOUT) else None
        raw = streams.tty and streams.stdin and terminal.is_terminal(terminal.STDIN) and not os.environ.get("NORAW")
        self._raw = terminal.RawTerminal() if raw else None
        extra = ("WINCH", "CONT") if self._resize else ()
        self._signals = SignalWatch(FORWARDED if forward else ENDING + extra, self._restore)
        self._keys = _detector(streams.detach_keys) if streams.tty else None
        self._poll = select.poll()
        self._stream: Stream | None = None
        self._hides = False  # whether the stream may have something to read that poll does not tell of
        self._waiting: Response | None = None
        self._pending = memoryview(b"")  # read from the user, not sent yet
        self._reading = False  # whether standard input is being read
        self._sending_ends = False
        self._demultiplexer = Demultiplexer(self._show)
        self._buffer = bytearray(RECEIVE)
        self._view = memoryview(self._buffer)
        self.detached = False

    def __enter__(self) -> Interaction:
        self._signals.__enter__()
        self._poll.register(self._signals.fileno(), select.POLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        self._signals.__exit__()

    def _restore(self) -> None:
        if self._raw:
            self._raw.restore()

    def join(self, stream: Stream, leftover: bytes) -> None:
        """Takes the container's streams; from now on the terminal is the container's."""
        self._stream = stream
        self._hides = getattr(stream, "hides", False)
        stream.setblocking(False)
        if self._raw:
            self._raw.__enter__()
        self._reading = self._streams.stdin
        self._sending_ends = not self._reading
        self._watch_stream()
        if self._reading:
            self._poll.register(terminal.STDIN, select.POLLIN)
        else:
            self._end_sending()
        if leftover:
            self._take_output(memoryview(leftover))
        if self._sending_ends:
            self._receive()  # what the end of sending has brought to light

    def fit(self, *, nudge: bool = False) -> None:
        """Gives the container's terminal the user's size, when that is known and has a meaning.

        `nudge` changes it even if it is right: to another size first.
        """
        rows, columns = terminal.size()
        if self._resize and (rows or columns):
            try:
                if nudge:
                    self._resize(rows + 1, columns + 1)
                self._resize(rows, columns)
            except ClientError:
                pass  # it has ended meanwhile, or is about to be told of by others

    def run(self, waiting: Response | None = None) -> None:
        """Until the output has ended, or (where none is joined) the input or `waiting` has; or the user detaches.

        Raises Terminated for a signal that ends this program, ConnectionLost, StreamError.
        """
        shown = self._streams.stdout or self._streams.stderr
        if waiting and not shown:
            self._watch(waiting)
        try:
            while self._stream and not self.detached and (shown or waiting or not self._sending_ends):
                if (waiting and not shown and waiting.buffered) or self._turn():
                    break
        finally:
            self._restore()
            if self._stream:
                self._leave_stream()

    def await_end(self, waiting: Response) -> None:
        """Until there is something to read from `waiting`, handing signals on meanwhile."""
        self._watch(waiting)
        while not waiting.buffered and not self._turn():
            pass

    def _watch(self, waiting: Response) -> None:
        self._waiting = waiting
        self._poll.register(waiting.fileno(), select.POLLIN)

    def _turn(self) -> bool:
        """One round of the loop: whether the awaited response is there."""
        awaited = False
        for descriptor, event in self._poll.poll():
            if descriptor == self._signals.fileno():
                self._take_signals()
            elif self._waiting and descriptor == self._waiting.fileno():
                awaited = True
            elif self._stream and descriptor == self._stream.fileno():
                if event & select.POLLOUT:
                    self._send()
                if event & ~select.POLLOUT:
                    self._receive()
            elif descriptor == terminal.STDIN and self._reading:
                self._read()
        return awaited

    # Out of the container.

    def _receive(self) -> None:
        assert self._stream is not None
        while True:
            try:
                count = self._stream.recv_into(self._view)
            except BlockingIOError:
                return
            except OSError as error:
                raise ConnectionLost(f"error during connect: {error.strerror}") from error
            if not count:
                self._leave_stream()
                return
            self._take_output(self._view[:count])
            if count < RECEIVE and not self._hides:
                return

    def _take_output(self, data: memoryview) -> None:
        if self._streams.tty:
            if self._streams.stdout or self._streams.stderr:
                write_all(terminal.STDOUT, [data])
        else:
            self._demultiplexer.feed(data)

    def _show(self, stream: int, buffers: list[memoryview]) -> None:
        if stream == 1 and self._streams.stdout:
            write_all(terminal.STDOUT, buffers)
        elif stream == 2 and self._streams.stderr:
            write_all(terminal.STDERR, buffers)

    def _leave_stream(self) -> None:
        assert self._stream is not None
        self._poll.unregister(self._stream.fileno())
        if self._reading:
            self._stop_reading()
        self._stream.close()
        self._stream = None

    # Into the container.

    def _read(self) -> None:
        try:
            data = os.read(terminal.STDIN, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # closed, or not something to read from: it is at its end
        if not data:
            self._stop_reading()
            self._sending_ends = True
            self._end_sending()
            self._receive()
            return
        if self._keys:
            data = self._keys.feed(data)
            self.detached = self._keys.complete
        self._pending = memoryview(data)
        if data:
            self._send()

    def _send(self) -> None:
        """Sends what is pending; while some of it is left, nothing more is read."""
        assert self._stream is not None
        try:
            while self._pending:
                self._pending = self._pending[self._stream.send(self._pending) :]
        except BlockingIOError:
            if self._reading:
                self._poll.unregister(terminal.STDIN)
            self._watch_stream(sending=True)
            return
        except OSError:
            # The container reads no more. What it still says is read to its end.
            self._pending = memoryview(b"")
            self._stop_reading()
            self._sending_ends = True
            self._watch_stream()
            return
        self._watch_stream()
        if self._reading:
            self._poll.register(terminal.STDIN, select.POLLIN)

    def _watch_stream(self, *, sending: bool = False) -> None:
        assert self._stream is not None
        self._poll.register(self._stream.fileno(), select.POLLIN | (select.POLLOUT if sending else 0))

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            try:  # noqa: SIM105 - contextlib takes 4 ms to import
                self._poll.unregister(terminal.STDIN)
            except KeyError:
                pass  # it was paused

    def _end_sending(self) -> None:
        assert self._stream is not None
        try:  # noqa: SIM105 - contextlib takes 4 ms to import
            self._stream.shutdown(sockets.SHUT_WR)
        except OSError:
            pass  # the other side has ended already

    # Signals.

    def _take_signals(self) -> None:
        for number, name in self._signals.take():
            if number == signals.SIGWINCH:
                self.fit()
            elif number == signals.SIGCONT and self._raw:
                self._raw.make_raw()
                self.fit()
            if self._forward:
                try:  # noqa: SIM105 - contextlib takes 4 ms to import
                    self._forward(name)
                except ClientError:
                    pass  # it has ended, or not begun; the loop sees which
            elif name in ENDING:
                raise Terminated(number)


def _detector(keys: str) -> DetachDetector:
    from wherry.common.detach_keys import DEFAULT, DetachDetector, parse_keys

    try:
        return DetachDetector(parse_keys(keys))
    except ValueError:
        return DetachDetector(DEFAULT)  # the engine refuses them too, and its answer is shown
