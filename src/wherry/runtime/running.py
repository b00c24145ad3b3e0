"""One process of the container as its monitor sees it: forked, started, attached to, resized, ended."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from wherry.linux import process, terminal
from wherry.linux.cgroups import Cgroup
from wherry.linux.child import Child
from wherry.runtime.execute import Init, cannot_execute, cannot_fork
from wherry.runtime.ipc import (
    READ,
    Console,
    Failed,
    LeftToInit,
    Loop,
    Notice,
    Streams,
    decode_word,
    receive,
)
from wherry.runtime.spec import Process
from wherry.runtime.stdio import Buffer, Stdio

_INT = 4  # bytes


class Forked(NamedTuple):
    """A process that has been forked, and the line to it."""

    pid: int
    pidfd: int
    channel: socket.socket

    def discard(self) -> None:
        """It is not needed after all."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.channel.close()


def fork(become: Callable[[int], NoReturn], cgroup: Cgroup | None = None) -> Forked:
    """Forks, into the version 2 part of ``cgroup``. The child calls ``become`` with its end of the line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    target = cgroup.clone_target() if cgroup is not None else None
    pid, pidfd = process.fork(cgroup=target)
    if pid == 0:
        become(theirs.fileno())
    theirs.close()
    if target is not None:
        os.close(target)
    return Forked(pid, pidfd, ours)


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
        self._init: Init | None = None
        self._is_killed = False
        self._on_started: Callable[[Running], None] = lambda running: None
        self._on_exited: Callable[[Running], None] = lambda running: None
        self.stdio = Stdio(loop, buffer, tty=wanted.tty, close_input=wanted.stdin_once)

    def watch(
        self,
        child: Forked | Child,
        init: Init | None,
        on_started: Callable[["Running"], None],
        on_exited: Callable[["Running"], None],
    ) -> None:
        """Takes the process, which is told by ``on_started`` when it runs the program, or has failed to (``failure``),
        and then by ``on_exited``. A ``Child``, or the ``init`` that it becomes, is said to have started by who has it.
        """
        self._on_started, self._on_exited = on_started, on_exited
        self.pid, self.pidfd = child.pid, child.pidfd
        self._init = init
        if isinstance(child, Forked):
            self._channel = child.channel
            self._channel.setblocking(False)
            self._loop.watch(self._channel.fileno(), READ, lambda events: self._hear())
        self._loop.watch(self.pidfd, READ, lambda events: self._reap())

    def started(self) -> None:
        """It has become the program, or wherry-init, which has yet to say so."""
        if self._init is None:
            self._on_started(self)
        else:
            self._loop.watch(self._init.failures, READ, lambda events: self._hear_init())

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

    def open_pipes(self) -> dict[int, int]:
        """Begins to pump, unless there is to be a terminal, and answers the process's ends by their places."""
        if self._wanted.tty:
            return {}
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
                self.open_terminal(descriptors[0])
            elif isinstance(word, LeftToInit):
                assert self._init is not None
                self._init.program = word.program
            elif isinstance(word, Notice):
                self.warnings.append(word.text)
            else:
                self.failure = word

    def _hang_up(self) -> None:
        """The process has become another program, or has ended."""
        assert self._channel is not None
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self.started()

    def _hear_init(self, *, ended: bool = False) -> None:
        """Why wherry-init could not execute the program; the end of the pipe is the program's execution.

        The container may reach who writes here, so that it can lie, about this alone. ``ended``: so has the process.
        """
        init = self._init
        while init is not None and init.failures >= 0:
            try:
                said = os.read(init.failures, _INT)
            except BlockingIOError:
                if not ended:
                    return
                said = b""
            if said:
                number = int.from_bytes(said, sys.byteorder, signed=True)
                error = cannot_execute(init.program, number) if number > 0 else cannot_fork(-number)
                self.failure = Failed(error.message, error.code)
                continue
            self._loop.forget(init.failures)
            os.close(init.failures)
            init.failures = -1
            if init.id < 0:
                self._on_started(self)

    def _take_joined(self) -> bool:
        """Whether the process that has just ended goes on as another, in the pid namespace that it has joined."""
        init = self._init
        if init is None or init.id < 0:
            return False
        pid = int.from_bytes(os.pread(init.id, _INT, 0), sys.byteorder)
        os.close(init.id)
        init.id = -1
        if pid:
            self.pid, self.pidfd = pid, os.pidfd_open(pid)  # our own child, so that nobody else can have its id
            self._loop.watch(self.pidfd, READ, lambda events: self._reap())
            if self._is_killed:
                self.kill()
        if init.failures < 0:
            self._on_started(self)
        return bool(pid)

    def open_terminal(self, master: int) -> None:
        """Begins to pump, by the master of the process's terminal."""
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
