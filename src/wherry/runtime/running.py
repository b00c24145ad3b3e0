"""One process of the container as its monitor sees it: forked, started, attached to, resized, ended."""

import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from wherry.linux import process, terminal
from wherry.linux.cgroups import Cgroup
from wherry.runtime.log import Writer
from wherry.runtime.loop import READ, Loop
from wherry.runtime.protocol import Console, Failed, Notice, Streams, decode_word, receive
from wherry.runtime.spec import Process
from wherry.runtime.streams import Buffer, Stdio

Become = Callable[[tuple[int, int, int], int], NoReturn]
"""What the forked child does: it is given its streams and its end of the channel."""


class Running:
    """Made before the fork, so that clients can be attached before there is anything to miss."""

    def __init__(self, loop: Loop, buffer: Buffer, log: Writer | None, wanted: Process, exec_id: str = "") -> None:
        self.exec_id = exec_id
        self.pid = 0
        self.pidfd = -1
        self.warnings: list[str] = []
        self.failure: Failed | None = None
        self.code: int | None = None
        self.signal: int | None = None
        self._loop = loop
        self._wanted = wanted
        self._master = -1
        self._size = wanted.console_size
        self._channel: socket.socket | None = None
        self._on_started: Callable[[Running], None] = lambda running: None
        self._on_exited: Callable[[Running], None] = lambda running: None
        self.stdio = Stdio(loop, buffer, log, tty=wanted.tty, close_input=wanted.stdin_once)

    def fork(
        self,
        become: Become,
        cgroup: Cgroup | None,
        on_started: Callable[["Running"], None],
        on_exited: Callable[["Running"], None],
    ) -> None:
        """Forks. ``on_started`` is called when the program runs, or has failed to (``failure``), then ``on_exited``."""
        self._on_started, self._on_exited = on_started, on_exited
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        outer, inner = (-1, -1, -1), (-1, -1, -1)
        if not self._wanted.tty:
            outer, inner = _make_pipes(stdin=self._wanted.stdin)
        target = cgroup.clone_target() if cgroup is not None else None
        self.pid, self.pidfd = process.fork(cgroup=target)
        if self.pid == 0:
            become(inner, theirs.fileno())
        for fd in (*inner, -1 if target is None else target):
            if fd >= 0:
                os.close(fd)
        theirs.close()
        self._channel = ours
        ours.setblocking(False)
        self._loop.watch(ours.fileno(), READ, lambda events: self._hear())
        self._loop.watch(self.pidfd, READ, lambda events: self._reap())
        if not self._wanted.tty:
            self.stdio.open(outer[1], outer[2], outer[0])

    def attach(self, connection: socket.socket, streams: Streams) -> None:
        self.stdio.attach(connection, streams)

    def resize(self, rows: int, columns: int) -> None:
        """Remembered when the terminal is not there yet."""
        self._size = (rows, columns)
        if self._master >= 0:
            terminal.set_size(self._master, rows, columns)

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    @property
    def has_terminal(self) -> bool:
        return self._wanted.tty

    def _hear(self) -> None:
        """What the process says while it is being started; the end of the line is its program's execution."""
        while self._channel is not None:
            try:
                packet, descriptors = receive(self._channel)
            except BlockingIOError:
                return
            if not packet:
                self._loop.forget(self._channel.fileno())
                self._channel.close()
                self._channel = None
                self._on_started(self)
                return
            word = decode_word.decode(packet)
            if isinstance(word, Console):
                self._open_terminal(descriptors[0])
            elif isinstance(word, Notice):
                self.warnings.append(word.text)
            else:
                self.failure = word

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
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
            self._on_started(self)
        self._on_exited(self)


def _make_pipes(*, stdin: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(our ends, the process's ends), each of stdin, stdout and stderr; -1 where there is none."""
    output, error = os.pipe(), os.pipe()
    input = os.pipe() if stdin else (-1, -1)
    return (input[1], output[0], error[0]), (input[0], output[1], error[1])
