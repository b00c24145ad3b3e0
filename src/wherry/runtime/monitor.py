"""The monitor: one process a container, which starts it, owns its streams and its log, and records how it ended.

It outlives the daemon: whoever connects to ``monitor.sock`` in the container's exec directory can ask and command, and
is told how it ends; when nobody listens, the file ``exit`` beside it says so. Of the launcher that it is forked from it
keeps nothing but memory.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from wherry.linux import namespaces
from wherry.linux.cgroups import Cgroup, CgroupError, Hierarchies
from wherry.linux.syscalls import SyscallError
from wherry.runtime import init, outside
from wherry.runtime.execute import run_exec
from wherry.runtime.ipc import (
    EXIT,
    HANG_UP,
    READ,
    SOCKET,
    Attach,
    Connect,
    Disconnect,
    Exec,
    ExecExited,
    ExecStarted,
    Exited,
    Failed,
    Loop,
    OutOfMemory,
    Reply,
    Request,
    Resize,
    Started,
    StartError,
    Status,
    Streams,
    Warned,
    decode_request,
    encode,
    is_open,
    is_readable,
    receive,
    send,
)
from wherry.runtime.logging.sink import Sink, open_log
from wherry.runtime.network import NetworkSetup
from wherry.runtime.running import Child, Running, fork
from wherry.runtime.spec import Process, Spec
from wherry.runtime.stdio import Buffer

_decode_process = msgspec.msgpack.Decoder(Process).decode

_NICE = 15  # for what is still to be written when the container has ended: it is in nobody's way
_UNREAD_AT_MOST = 1 << 22  # bytes of answers: a thousand execs may begin and end while the daemon is at something else
_ENDED_AT_MOST = 1000  # exec sessions whose exit codes are kept for a daemon that comes back


class StartOrder(NamedTuple):
    """``content`` is the memfd of the encoded ``spec``, ``daemon`` the connection to who asks."""

    spec: Spec
    content: int
    daemon: socket.socket
    clients: list[tuple[socket.socket, Streams]]


class Monitor:
    """``serve`` returns when the container has ended and everything is delivered."""

    def __init__(self, hierarchies: Hierarchies | None, on_started: Callable[[Running], None]) -> None:
        self._hierarchies = hierarchies
        self._on_started = on_started
        self._loop = Loop()
        self._buffer = Buffer()
        self._connections: dict[socket.socket, None] = {}
        self._directory = -1
        self._listener: socket.socket | None = None
        self._cgroup: Cgroup | None = None
        self._log: Sink | None = None
        self._first: Running | None = None
        self._network_setup: NetworkSetup | None = None
        self._execs: dict[str, Running] = {}
        self._lingering: list[Running] = []
        self._ended: dict[str, int] = {}
        self._oom_event = -1
        self._oom_kills = 0
        self._started_at = 0
        self._exited: Exited | None = None

    def start(self, order: StartOrder, ready: Child | None) -> None:
        """Starts the container that is ordered; ``ready`` is a child that was forked ahead.

        What the child needs comes first, the rest is done while it builds the root. Raises OSError, StartError.
        """
        self._spec, self._daemon = order.spec, order.daemon
        spec, hierarchies = order.spec, self._hierarchies
        try:
            has_cgroup = bool(spec.cgroup) and hierarchies is not None
            if hierarchies is not None and hierarchies.unified is not None and has_cgroup:
                self._cgroup = _make_cgroup(hierarchies, spec)  # the child is to be born in it
            child = self._child(ready)
            first = self._first = Running(self._loop, self._buffer, spec.process, owner=outside.root(spec))
            first.begin(
                child,
                order.content,
                self._first_started,
                self._first_exited,
                on_separated=self._connect_to_networks,
            )
            if hierarchies is not None and self._cgroup is None and has_cgroup:
                self._cgroup = _make_cgroup(hierarchies, spec)
            if spec.uids:
                with outside.made_for(spec, child.pid) as made:
                    first.go(made)
            else:
                first.go()
            first.stdio.log = self._log = open_log(spec.log, self._loop, self._warn)
            for connection, streams in order.clients:
                first.attach(connection, streams)
            if self._cgroup is not None and spec.resources.memory:
                self._watch_memory(self._cgroup)
            self._connect(self._daemon)
            self._listen()
            self._check_is_wanted()
        except (OSError, StartError):
            if self._first is not None:
                self._first.kill()
            self._clean_up()
            raise

    def _child(self, ready: Child | None) -> Child:
        """The one that is to become the container's first process, in the pid namespace that the spec wants."""
        if ready is not None:
            if init.fits(self._spec) and ready.is_alive():
                return ready
            ready.discard()
        wanted = next((each for each in self._spec.namespaces if each.kind == "pid"), None)
        flags = namespaces.CLONE_NEWPID if wanted is not None and wanted.pid is None else 0
        if self._spec.uids:
            flags |= namespaces.CLONE_NEWUSER
            os.chdir(self._spec.exec_dir)  # where it will still be when it may not go there any more
        try:
            return fork(lambda channel: init.run(channel, self._hierarchies), self._cgroup, flags=flags)
        except SyscallError as error:
            raise StartError(outside.cannot_fork(error)) from None
        finally:
            os.chdir("/")

    def serve(self) -> None:
        while not self._is_done:
            delay = self._log.delay if self._log is not None else None
            self._loop.turn(delay)
            if delay is not None and self._log is not None and self._log.delay == 0:
                self._log.work()
        if self._log is not None:
            if self._log.delay is not None:
                os.nice(_NICE)
            self._log.close()
        self._clean_up()

    @property
    def _is_done(self) -> bool:
        everyone = (*self._execs.values(), *self._lingering, *((self._first,) if self._first else ()))
        return self._exited is not None and not any(running.stdio.delivering for running in everyone)

    def _listen(self) -> None:
        """Listens by way of the directory's descriptor: a socket's path may not be longer than 107 bytes."""
        self._directory = os.open(self._spec.exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for left in (SOCKET, EXIT):  # of an earlier run of this container
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left, dir_fd=self._directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"/proc/self/fd/{self._directory}/{SOCKET}")
        listener.listen()
        listener.setblocking(False)
        self._listener = listener
        self._loop.watch(listener.fileno(), READ, lambda events: self._accept(listener))

    def _check_is_wanted(self) -> None:
        """Raises StartError when the daemon is gone and no other one has come: it may have looked for this container
        before there was somewhere to connect to, and would never know that it runs."""
        if not is_open(self._daemon) and self._listener is not None and not is_readable(self._listener):
            raise StartError("the engine that asked for it is gone")

    def _watch_memory(self, cgroup: Cgroup) -> None:
        """Where the machine has no room for it, what is killed is found when the container ends."""
        with contextlib.suppress(OSError):
            self._oom_event = event = cgroup.oom_event_fd()
            self._loop.watch(event, READ, lambda events: self._check_memory(cgroup))

    def _check_memory(self, cgroup: Cgroup) -> None:
        os.read(self._oom_event, 4096)
        if cgroup.has_run_out(self._oom_kills):
            self._oom_kills = cgroup.oom_kills()
            self._tell_all(OutOfMemory())

    @property
    def _owns_pid_namespace(self) -> bool:
        return any(namespace.kind == "pid" and namespace.pid is None for namespace in self._spec.namespaces)

    def _connect_to_networks(self, namespace: int) -> None:
        """While the first process builds its root."""
        first, spec = self._first, self._spec
        assert first is not None
        self._network_setup = NetworkSetup(namespace, spec.bridge_namespace)
        try:
            self._network_setup.set_up(spec.interfaces, resolver=spec.resolver)
        except (OSError, StartError) as error:
            first.failure = Failed(f"failed to set up container networking: {describe(error)}")
            first.kill()
            return
        if spec.interfaces or spec.resolver:
            first.connected()

    def _first_started(self, first: Running) -> None:
        self._on_started(first)
        if first.failure is not None:
            return
        self._started_at = time.time_ns()
        self._tell_status(self._daemon, 0)

    def _tell_status(self, connection: socket.socket, number: int) -> None:
        pidfd = self._first.pidfd if self._first is not None else -1
        resolver = self._network_setup.resolver if self._network_setup is not None else ()
        self._answer(connection, self._status(number), (*((pidfd,) if pidfd >= 0 else ()), *resolver))

    def _status(self, number: int) -> Started:
        first = self._first
        return Started(
            pid=first.pid if first is not None else 0,
            monitor_pid=os.getpid(),
            at=self._started_at,
            cgroup=self._spec.cgroup if self._cgroup is not None else "",
            warnings=tuple(first.warnings) if first is not None else (),
            execs={exec_id: running.pid for exec_id, running in self._execs.items()},
            ended=self._ended,
            resolver=self._network_setup is not None and bool(self._network_setup.resolver),
            number=number,
        )

    def _first_exited(self, first: Running) -> None:
        for running in (first, *self._execs.values(), *self._lingering):
            running.stdio.drain()
        if self._log is not None:
            self._log.settle()
        if self._oom_event >= 0:
            self._loop.forget(self._oom_event)  # which the removal of the cgroup would wake
        error = None
        oom = False
        if self._cgroup is not None:
            try:
                if not self._owns_pid_namespace:  # otherwise the kernel has ended all others with it
                    self._cgroup.kill()
                oom = self._cgroup.oom_kills() > 0
                self._cgroup.remove()
            except OSError as failed:
                error = str(failed)
        if first.failure is not None:
            self._exited = Exited(first.failure.code, time.time_ns(), error=first.failure.message)
            self._stop_listening()
            self._answer(self._daemon, first.failure)
            self._leave_networks()
            return
        self._exited = Exited(first.code or 0, time.time_ns(), first.signal, oom, error)
        self._write_exit(self._exited)
        # Before anybody hears of it: the directory may then be another run's, with a socket of its own.
        self._stop_listening()
        self._tell_all(self._exited)
        self._leave_networks()

    def _leave_networks(self) -> None:
        if self._network_setup is not None:
            self._network_setup.remove()

    def _write_exit(self, exited: Exited) -> None:
        """Whole or not at all. What cannot be written is at least told to who listens."""
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fd = os.open(f"{EXIT}.new", flags, 0o600, dir_fd=self._directory)
            try:
                os.write(fd, encode(exited))
            finally:
                os.close(fd)
            os.rename(f"{EXIT}.new", EXIT, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def _clean_up(self) -> None:
        if self._cgroup is not None and self._exited is None:
            with contextlib.suppress(OSError):
                self._cgroup.remove()
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                os.unlink(SOCKET, dir_fd=self._directory)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        self._connect(connection)

    def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # SO_SNDBUFFORCE, past the system's limit; without it that is what there is
            connection.setsockopt(socket.SOL_SOCKET, 32, _UNREAD_AT_MOST)
        self._connections[connection] = None
        self._loop.watch(connection.fileno(), READ, lambda events: self._hear(connection, events))

    def _disconnect(self, connection: socket.socket) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._loop.forget(connection.fileno())
            connection.close()

    def _hear(self, connection: socket.socket, events: int) -> None:
        if not events & READ:
            if events & HANG_UP:
                self._disconnect(connection)
            return
        try:
            packet, descriptors = receive(connection)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._disconnect(connection)
            return
        try:
            request = decode_request.decode(packet)
        except msgspec.DecodeError as error:
            for fd in descriptors:
                os.close(fd)
            self._answer(connection, Failed(f"the monitor does not understand the request: {error}"))
            return
        try:
            self._obey(connection, request, descriptors)
        except StartError as error:
            self._answer(connection, Failed(error.message, error.code, request.number))
        except Exception as error:  # whatever one request does, the container and its other clients must not suffer
            self._answer(connection, Failed(describe(error), number=request.number))

    def _obey(self, connection: socket.socket, request: Request, descriptors: list[int]) -> None:
        if isinstance(request, Status):
            self._tell_status(connection, request.number)
            if self._exited is not None:
                self._answer(connection, self._exited)
        elif isinstance(request, Attach):
            client = socket.socket(fileno=descriptors[0])
            self._find(request.exec_id, client).attach(client, request.streams)
            self._answer(connection, Reply(request.number))
        elif isinstance(request, Resize):
            running = self._find(request.exec_id)
            if running.has_terminal:
                running.resize(request.rows, request.columns)
            self._answer(connection, Reply(request.number))
        elif isinstance(request, Connect | Disconnect):
            self._change_networks(connection, request)
        else:
            self._exec(connection, request, descriptors)

    def _change_networks(self, connection: socket.socket, request: Connect | Disconnect) -> None:
        network_setup = self._network_setup
        if network_setup is None or self._exited is not None:
            raise StartError("the container has no network namespace of its own that could be changed")
        if isinstance(request, Disconnect):
            network_setup.disconnect(request.name, request.routes)
            self._answer(connection, Reply(request.number))
            return
        network_setup.connect(request.interface)
        if request.resolver:
            network_setup.open_resolver()
        resolver = network_setup.resolver if request.resolver else ()
        self._answer(connection, Reply(request.number, bool(resolver)), resolver)

    def _find(self, exec_id: str, client: socket.socket | None = None) -> Running:
        running = self._execs.get(exec_id) if exec_id else self._first
        if running is None:
            if client is not None:
                client.close()
            raise StartError(f"there is no exec session {exec_id} that runs")
        return running

    def _exec(self, connection: socket.socket, request: Exec, descriptors: list[int]) -> None:
        content = descriptors[0]
        wanted = _decode_process(os.pread(content, os.fstat(content).st_size, 0))
        clients = [socket.socket(fileno=fd) for fd in descriptors[1:]]
        first = self._first
        if first is None or first.pidfd < 0 or not self._started_at or request.exec_id in self._execs:
            for client in clients:
                client.close()
            os.close(content)
            raise StartError("the container does not run" if request.exec_id not in self._execs else "it runs already")
        running = Running(self._loop, self._buffer, wanted, request.exec_id, outside.root(self._spec))
        for client, streams in zip(clients, request.streams, strict=True):
            running.attach(client, streams)

        def started(running: Running) -> None:
            if running.failure is not None:
                return
            pidfd = (running.pidfd,) if running.pidfd >= 0 else ()
            self._answer(connection, ExecStarted(request.number, running.pid, tuple(running.warnings)), pidfd)

        def exited(running: Running) -> None:
            del self._execs[running.exec_id]
            if running.failure is not None:
                running.stdio.drain()
                failure = running.failure
                self._answer(connection, Failed(failure.message, failure.code, request.number))
                return
            if running.stdio.reading or running.stdio.delivering:
                self._lingering.append(running)
            self._remember(running.exec_id, running.code or 0)
            self._tell_all(ExecExited(running.exec_id, running.code or 0))

        self._execs[request.exec_id] = running
        self._lingering = [old for old in self._lingering if old.stdio.reading or old.stdio.delivering]
        try:
            child = fork(lambda channel: run_exec(channel, self._cgroup), self._cgroup)
            try:
                running.begin(child, content, started, exited, joined=first.pidfd)
            except OSError:
                child.discard()  # unreaped it would keep the container from ending
                raise
        except OSError:
            del self._execs[request.exec_id]
            running.stdio.drain()
            raise
        finally:
            os.close(content)

    def _remember(self, exec_id: str, code: int) -> None:
        self._ended[exec_id] = code
        if len(self._ended) > _ENDED_AT_MOST:
            del self._ended[next(iter(self._ended))]

    def _warn(self, text: str) -> None:
        self._tell_all(Warned(text))

    def _tell_all(self, message: Exited | ExecExited | OutOfMemory | Warned) -> None:
        for connection in list(self._connections):
            self._answer(connection, message)

    def _answer(self, connection: socket.socket, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> None:
        """A daemon that does not read is one that hangs: it will find the exit file when it comes to itself."""
        try:
            send(connection, message, descriptors)
        except OSError:
            self._disconnect(connection)


def _make_cgroup(hierarchies: Hierarchies, spec: Spec) -> Cgroup:
    """What is in one of that name already is the container's of before, and nobody's any more."""
    try:
        return hierarchies.create(spec.cgroup, spec.resources)
    except CgroupError as error:
        if error.errno != errno.EEXIST:
            raise
    hierarchies.open(spec.cgroup).end()
    return hierarchies.create(spec.cgroup, spec.resources)


def describe(error: BaseException) -> str:
    if isinstance(error, StartError):
        return error.message
    if isinstance(error, SyscallError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return f"internal error of the monitor: {type(error).__name__}: {error}"
