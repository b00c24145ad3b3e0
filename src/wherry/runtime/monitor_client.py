"""The daemon's side of a monitor: a container that runs, as an object.

monitor = await launcher.start(spec)
exit = await monitor.exited
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from wherry.linux.cgroups import Hierarchies
from wherry.runtime import ipc
from wherry.runtime.ipc import EXIT, SOCKET, StartError, Streams
from wherry.runtime.spec import Interface, Process

__all__ = ["Exec", "Exit", "Monitor", "StartError", "connect"]

log = logging.getLogger("wherry.runtime")

MONITOR_DIED = "the monitor of the container ended unexpectedly, so the container was ended too"
_KILLED = 128 + signal.SIGKILL

_decode_exited = msgspec.json.Decoder(ipc.Exited).decode

_Expected = TypeVar("_Expected", bound=msgspec.Struct)


class Exit(msgspec.Struct, frozen=True):
    """How a container ended. ``code`` is 128 + n for signal n; ``at`` in nanoseconds since the epoch."""

    code: int
    at: int
    oom: bool = False
    error: str = ""
    signal: int | None = None


class MonitorGone(StartError):
    """The monitor ended without an answer: its container has ended, or does so now."""


class _Target:
    """A process by its pidfd, which never comes to mean another one."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def signal(self, number: int) -> None:
        """Sends it a signal. One that has ended gets none, and that is no error."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether the process is gone, which its monitor may not have told yet."""
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Exec(_Target):
    """A process that exec started. ``exited`` gives its exit code."""

    def __init__(self, pid: int, pidfd: int, warnings: tuple[str, ...], exited: "asyncio.Future[int]") -> None:
        super().__init__(pid, pidfd)
        self.warnings = warnings
        self.exited = exited
        exited.add_done_callback(lambda future: self.close())

    def signal_group(self, number: int) -> None:
        """Sends it a signal, and what it has started and not set apart: it leads a process group of its own."""
        if self._pidfd >= 0 and not self.has_ended():  # so it keeps its number, which is its group's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Monitor(_Target):
    """A container that runs, by the connection to its monitor.

    ``pid`` is that of its first process in this pid namespace; ``started_at`` in nanoseconds since the epoch;
    ``warnings`` what the machine refused; ``exited`` is set once. Made by ``Launcher.start`` and ``connect``.
    """

    def __init__(self, connection: socket.socket, exec_dir: str) -> None:
        super().__init__(0, -1)
        self.monitor_pid = 0
        self.started_at = 0
        self.warnings: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self._connection = connection
        self._exec_dir = exec_dir
        self._cgroup = ""
        self._number = 0
        self._waiting: dict[int, asyncio.Future[tuple[ipc.Answer, list[int]]]] = {}
        self._sending = asyncio.Lock()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._execs: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[str, int] = {}
        self._resolver: tuple[socket.socket, socket.socket] | None = None
        self._on_oom: Callable[[], None] | None = None
        self.oom_told = False
        connection.setblocking(False)
        self._loop.add_reader(connection, self._hear)

    async def started(self) -> None:
        """Waits for the container's start, of which the monitor tells by itself. Raises StartError, MonitorGone."""
        answer, descriptors = await self._expect(0)
        assert isinstance(answer, ipc.Started)
        self._take(answer, descriptors)

    async def ask_status(self) -> None:
        """Learns who it is, from a monitor that another daemon started."""
        self._take(*await self._ask(ipc.Status(self._next()), ipc.Started))

    async def attach(self, stdin: bool, stdout: bool, stderr: bool, exec_id: str = "") -> socket.socket:
        """A non-blocking stream socket: output in frames of 8 bytes and data (raw for a terminal), and raw input.

        Shutting it down for writing ends the process's input where the spec says ``stdin_once``. It ends when the
        process's streams have ended. Raises StartError when there is no such process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            try:
                request = ipc.Attach(self._next(), Streams(stdin, stdout, stderr), exec_id)
                await self._ask(request, ipc.Reply, (theirs.fileno(),))
            except BaseException:
                ours.close()
                raise
        return ours

    async def exec(
        self, exec_id: str, process: Process, streams: tuple[bool, bool, bool] | None = None
    ) -> tuple[Exec, socket.socket | None]:
        """Starts one more process in the container, with a stream attached to (stdin, stdout, stderr) of it.

        Raises StartError.
        """
        memfd = ipc.to_memfd("process", msgspec.msgpack.encode(process))
        ours: socket.socket | None = None
        theirs: socket.socket | None = None
        try:
            descriptors = [memfd]
            if streams is not None:
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                descriptors.append(theirs.fileno())
            attached = () if streams is None else (Streams(*streams),)
            ended = self._execs[exec_id] = self._loop.create_future()
            answer, received = await self._ask(
                ipc.Exec(self._next(), exec_id, attached), ipc.ExecStarted, tuple(descriptors)
            )
        except BaseException:
            self._execs.pop(exec_id, None)
            if ours is not None:
                ours.close()
            raise
        finally:
            os.close(memfd)
            if theirs is not None:
                theirs.close()
        return Exec(answer.pid, received[0] if received else -1, answer.warnings, ended), ours

    async def resize(self, rows: int, columns: int, exec_id: str = "") -> None:
        """Sets the terminal's size; without one, nothing happens."""
        await self._ask(ipc.Resize(self._next(), rows, columns, exec_id), ipc.Reply)

    async def connect(self, interface: Interface, *, resolver: bool) -> None:
        """Makes a network interface in the container; ``resolver`` opens the name service's sockets, see
        ``take_resolver``. Raises StartError."""
        _, descriptors = await self._ask(ipc.Connect(self._next(), interface, resolver), ipc.Reply)
        if descriptors:
            self._keep_resolver(descriptors)

    async def disconnect(self, name: str, routes: tuple[tuple[str, str], ...]) -> None:
        """Removes an interface. ``routes``: the default gateways from then on, each with its interface's name."""
        await self._ask(ipc.Disconnect(self._next(), name, routes), ipc.Reply)

    def take_resolver(self) -> tuple[socket.socket, socket.socket] | None:
        """The sockets of UDP and of TCP at which the container asks for names, which become the caller's; None when
        there are none, or they were taken."""
        taken, self._resolver = self._resolver, None
        return taken

    def on_oom(self, call: Callable[[], None]) -> None:
        """Has it called whenever the container runs out of memory; then ``oom_told`` is true."""
        self._on_oom = call

    def exec_exited(self, exec_id: str) -> "asyncio.Future[int] | None":
        """The end of an exec session, also of one that an earlier daemon started; None when it is not known."""
        if exec_id in self._ended:
            done: asyncio.Future[int] = self._loop.create_future()
            done.set_result(self._ended[exec_id])
            return done
        return self._execs.get(exec_id)

    def close(self) -> None:
        """Lets go of it; the container runs on."""
        self._disconnect(MonitorGone("the connection to the monitor was closed"))
        for each in self.take_resolver() or ():
            each.close()
        super().close()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _take(self, answer: ipc.Started, descriptors: list[int]) -> None:
        self.pid, self.monitor_pid, self.started_at = answer.pid, answer.monitor_pid, answer.at
        self.warnings, self._cgroup, self._ended = answer.warnings, answer.cgroup, answer.ended
        self._execs.update({exec_id: self._loop.create_future() for exec_id in answer.execs})
        if answer.resolver:
            self._keep_resolver(descriptors[-2:])
            del descriptors[-2:]
        self._pidfd = descriptors[0] if descriptors else -1

    def _keep_resolver(self, descriptors: list[int]) -> None:
        udp, tcp = (socket.socket(fileno=fd) for fd in descriptors)
        udp.setblocking(False)
        tcp.setblocking(False)
        for each in self.take_resolver() or ():
            each.close()
        self._resolver = udp, tcp

    def _expect(self, number: int) -> "asyncio.Future[tuple[ipc.Answer, list[int]]]":
        future = self._waiting[number] = self._loop.create_future()
        return future

    async def _ask(
        self, request: ipc.Request, expected: type[_Expected], descriptors: tuple[int, ...] = ()
    ) -> tuple[_Expected, list[int]]:
        future = self._expect(request.number)
        try:
            async with self._sending:  # one after the other: they arrive in the order in which they were sent
                await self._send(request, descriptors)
        except OSError as error:
            del self._waiting[request.number]
            raise MonitorGone(f"the container's monitor does not answer: {error.strerror}") from error
        answer, received = await future
        assert isinstance(answer, expected)
        return answer, received

    async def _send(self, request: ipc.Request, descriptors: tuple[int, ...]) -> None:
        """Waits while the monitor has not read what was sent before. Raises OSError."""
        while True:
            try:
                ipc.send(self._connection, request, descriptors)
                return
            except BlockingIOError:
                writable = self._loop.create_future()
                self._loop.add_writer(self._connection, _tell, writable)
                try:
                    await asyncio.wait((writable, self._closed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if self._connection.fileno() >= 0:
                        self._loop.remove_writer(self._connection)

    def _hear(self) -> None:
        while self._connection.fileno() >= 0:
            try:
                packet, descriptors = ipc.receive(self._connection)
            except BlockingIOError:
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:
                self._lost()
                return
            self._dispatch(ipc.decode_answer.decode(packet), descriptors)

    def _dispatch(self, answer: ipc.Answer, descriptors: list[int]) -> None:
        if isinstance(answer, ipc.Exited):
            self._end(Exit(answer.code, answer.at, answer.oom, answer.error or "", answer.signal))
        elif isinstance(answer, ipc.OutOfMemory):
            if self._on_oom is not None:
                self.oom_told = True
                self._on_oom()
        elif isinstance(answer, ipc.Warned):
            log.warning("container %.12s: %s", os.path.basename(self._exec_dir), answer.text)
        elif isinstance(answer, ipc.ExecExited):
            ended = self._execs.pop(answer.exec_id, None)
            if ended is not None and not ended.done():
                ended.set_result(answer.code)
        else:
            waiting = self._waiting.pop(answer.number, None)
            if waiting is None or waiting.done():
                for fd in descriptors:
                    os.close(fd)
            elif isinstance(answer, ipc.Failed):
                waiting.set_exception(StartError(answer.message, answer.code))
            else:
                waiting.set_result((answer, descriptors))

    def _end(self, exit: Exit) -> None:
        for ended in self._execs.values():
            if not ended.done():
                ended.set_result(_KILLED)
        self._execs.clear()
        if not self.exited.done():
            self.exited.set_result(exit)

    def _lost(self) -> None:
        """The monitor is gone. It has said how the container ended, or written it down, or was killed itself."""
        self._disconnect(MonitorGone("the container's monitor ended unexpectedly"))
        if not self.pid or self.exited.done():
            return
        recorded = _read_exit(self._exec_dir)
        if recorded is not None:
            self._end(recorded)
            return
        self.kill()
        task = self._loop.create_task(asyncio.to_thread(end_cgroup, self._cgroup))
        task.add_done_callback(lambda done: self._end(Exit(_KILLED, time.time_ns(), error=MONITOR_DIED)))

    def _disconnect(self, reason: MonitorGone) -> None:
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()
            self._closed.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(reason)
        self._waiting.clear()


def _tell(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def connect(exec_dir: str) -> Monitor | Exit | None:
    """What became of a container that an earlier daemon started.

    Its Monitor when it runs; how it ended; or None when that is not known: there was none, or its monitor was killed
    (which ends its first process, but what else is in its cgroup is the caller's to end).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        directory = os.open(exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        connection.close()
        return None
    try:
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")  # a socket's path may not be longer than 107 bytes
    except OSError:
        connection.close()
        return _read_exit(exec_dir)
    finally:
        os.close(directory)
    monitor = Monitor(connection, exec_dir)
    try:
        await monitor.ask_status()
    except StartError:
        monitor.close()
        return _read_exit(exec_dir)
    return monitor


def _read_exit(exec_dir: str) -> Exit | None:
    try:
        with open(f"{exec_dir}/{EXIT}", "rb") as file:
            exited = _decode_exited(file.read())
    except (OSError, msgspec.DecodeError):
        return None
    return Exit(exited.code, exited.at, exited.oom, exited.error or "", exited.signal)


def end_cgroup(path: str) -> None:
    """Ends what a monitor that is gone has left of its container."""
    if not path:
        return
    with contextlib.suppress(OSError):
        cgroup = Hierarchies.usable().open(path)
        if cgroup.exists():
            cgroup.end()
