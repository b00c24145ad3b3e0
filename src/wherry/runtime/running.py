"""One process of the container as its monitor sees it: forked, started, attached to, resized, ended."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from wherry.linux import process, terminal
from wherry.linux.cgroups import Cgroup
from wherry.runtime.execute import cannot_execute, cannot_fork
from wherry.runtime.ipc import (
    READ,
    Begin,
    Connected,
    Console,
    Failed,
    Go,
    LeftToInit,
    Loop,
    Notice,
    Order,
    Separated,
    Streams,
    Written,
    decode_word,
    receive,
    send,
)
from wherry.runtime.spec import Process
from wherry.runtime.stdio import Buffer, Stdio

_INT = 4  # bytes


class Child(NamedTuple):
    """A process that has been forked and waits to be told what to become."""

    pid: int
    pidfd: int
    channel: socket.socket

    def is_alive(self) -> bool:
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def discard(self) -> None:
        """It is not needed after all."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.channel.close()


def fork(become: Callable[[int], NoReturn], cgroup: Cgroup | None = None, *, flags: int = 0) -> Child:
    """Forks, into the version 2 part of ``cgroup`` and into new namespaces (``flags``). The child calls ``become`` with
    its end of the channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    target = cgroup.clone_target() if cgroup is not None else None
    pid, pidfd = process.fork(flags, cgroup=target)
    if pid == 0:
        become(theirs.fileno())
    theirs.close()
    if target is not None:
        os.close(target)
    return Child(pid, pidfd, ours)


class Running:
    """Made before there is a process, so that clients can be attached before there is anything to miss."""

    def __init__(
        self, loop: Loop, buffer: Buffer, wanted: Process, exec_id: str = "", owner: tuple[int, int] = (-1, -1)
    ) -> None:
        """``owner``: who root in the container is, to whom its pipes are to belong."""
        self._owner = owner
        self.exec_id = exec_id
        self.pid = 0
        self.pidfd = -1
        self.warnings: list[str] = []
        self.failure: Failed | None = None
        self.written = b""
        self.code: int | None = None
        self.signal: int | None = None
        self._loop = loop
        self._wanted = wanted
        self._master = -1
        self._size = wanted.console_size
        self._channel: socket.socket | None = None
        self._init: LeftToInit | None = None
        self._failures = -1
        self._joined = -1
        self._is_killed = False
        self._on_started: Callable[[Running], None] = lambda running: None
        self._on_exited: Callable[[Running], None] = lambda running: None
        self._on_separated: Callable[[int], None] = os.close
        self.stdio = Stdio(loop, buffer, tty=wanted.tty, close_input=wanted.stdin_once)

    def begin(
        self,
        child: Child,
        content: int,
        on_started: Callable[["Running"], None],
        on_exited: Callable[["Running"], None],
        *,
        joined: int = -1,
        on_separated: Callable[[int], None] = os.close,
    ) -> None:
        """Tells the child what to become: ``content`` is a memfd with it, ``joined`` the pidfd of whom it joins.

        ``on_started`` is called when the program runs, or has failed to (``failure``), then ``on_exited``; before them
        ``on_separated``, with a descriptor of the network namespace that was made for it.
        """
        self._on_started, self._on_exited, self._on_separated = on_started, on_exited, on_separated
        self.pid, self.pidfd, self._channel = child
        inner: dict[int, int] = {}
        if not self._wanted.tty:
            inner = self._open_pipes()
        joins = (joined,) if joined >= 0 else ()
        try:
            self._send(Begin(tuple(inner), bool(joins)), (content, *joins, *inner.values()))
        finally:
            for fd in inner.values():
                os.close(fd)
        self._channel.setblocking(False)
        self._loop.watch(self._channel.fileno(), READ, lambda events: self._hear())
        self._loop.watch(self.pidfd, READ, lambda events: self._reap())

    def go(self, outside: Sequence[int] = ()) -> None:
        """The cgroup is there, and ``outside`` what has been made for it outside of its user namespace."""
        self._send(Go(), tuple(outside))

    def connected(self) -> None:
        """The network interfaces are there."""
        self._send(Connected())

    def _send(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """A child that has failed meanwhile has said so, and will be heard; one that was killed will be reaped."""
        if self._channel is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(self._channel, order, descriptors)

    def attach(self, connection: socket.socket, streams: Streams) -> None:
        self.stdio.attach(connection, streams)

    def resize(self, rows: int, columns: int) -> None:
        """Remembered when the terminal is not there yet."""
        self._size = (rows, columns)
        if self._master >= 0:
            terminal.set_size(self._master, rows, columns)

    def kill(self) -> None:
        self._is_killed = True
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    @property
    def has_terminal(self) -> bool:
        return self._wanted.tty

    def _open_pipes(self) -> dict[int, int]:
        """Begins to pump, and answers the process's ends by their numbers."""
        (output, theirs), (error, its) = os.pipe(), os.pipe()
        inner = {1: theirs, 2: its}
        input = -1
        if self._wanted.stdin:
            inner[0], input = os.pipe()
        for fd in inner.values():
            os.fchown(fd, *self._owner)
        self.stdio.open(output, error, input)
        return inner

    def _hear(self) -> None:
        """What the process says while it is being started; the end of the line is its program's execution."""
        while self._channel is not None:
            try:
                packet, descriptors = receive(self._channel)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it ended with something unread; what it said comes after this error
                continue
            if not packet:
                self._hang_up()
                return
            word = decode_word.decode(packet)
            if isinstance(word, Console):
                self._open_terminal(descriptors[0])
            elif isinstance(word, Separated):
                self._on_separated(descriptors[0])
            elif isinstance(word, LeftToInit):
                self._init = word
                self._failures, *joined = descriptors
                self._joined = joined[0] if joined else -1
                os.set_blocking(self._failures, False)
            elif isinstance(word, Notice):
                self.warnings.append(word.text)
            elif isinstance(word, Written):
                self.written = word.pages
            else:
                self.failure = word

    def _hang_up(self) -> None:
        """The process has become another program, or has ended."""
        assert self._channel is not None
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None
        if self._failures >= 0:
            self._loop.watch(self._failures, READ, lambda events: self._hear_init())
        else:
            self._on_started(self)

    def _hear_init(self, *, ended: bool = False) -> None:
        """Why wherry-init could not execute the program; the end of the pipe is the program's execution.

        The container may reach who writes here, so that it can lie, about this alone. ``ended``: so has the process.
        """
        while self._failures >= 0 and self._init is not None:
            try:
                said = os.read(self._failures, _INT)
            except BlockingIOError:
                if not ended:
                    return
                said = b""
            if said:
                number = int.from_bytes(said, sys.byteorder, signed=True)
                error = cannot_execute(self._init.program, number) if number > 0 else cannot_fork(-number)
                self.failure = Failed(error.message, error.code)
                continue
            self._loop.forget(self._failures)
            os.close(self._failures)
            self._failures = -1
            if self._joined < 0:
                self._on_started(self)

    def _take_joined(self) -> bool:
        """Whether the process that has just ended goes on as another, in the pid namespace that it has joined."""
        if self._joined < 0:
            return False
        pid = int.from_bytes(os.pread(self._joined, _INT, 0), sys.byteorder)
        os.close(self._joined)
        self._joined = -1
        if pid:
            self.pid, self.pidfd = pid, os.pidfd_open(pid)  # our own child, so that nobody else can have its id
            self._loop.watch(self.pidfd, READ, lambda events: self._reap())
            if self._is_killed:
                self.kill()
        if self._failures < 0:
            self._on_started(self)
        return bool(pid)

    def _open_terminal(self, master: int) -> None:
        self._master = master
        if self._size is not None:
            terminal.set_size(master, *self._size)
        self.stdio.open(master, -1, os.dup(master) if self._wanted.stdin else -1)

    def _reap(self) -> None:
        self._hear()
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        if ended is None:
            return
        if ended.si_code == os.CLD_EXITED:
            self.code = ended.si_status
        else:
            self.signal = ended.si_status
            self.code = 128 + ended.si_status
        self._loop.forget(self.pidfd)
        os.close(self.pidfd)
        self.pidfd = -1
        if self._channel is not None:  # it was killed before it became the program
            self._hang_up()
        if self._take_joined():
            return
        self._hear_init(ended=True)
        self._on_exited(self)
