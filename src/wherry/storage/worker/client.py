"""Starts workers and talks to them: the engine's side of ``worker``.

    async with working(jobs.Commit(…)) as worker:
        done = await worker.finish()

Leaving the block, by an error or by the task's cancellation too, kills a worker that is not done yet; the kernel kills
it when the engine itself goes.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.storage.worker.jobs import Job

# A warm process that workers are forked from: to start an interpreter with all that a job needs takes 80 ms and more,
# to fork one that has it already about 2.
#
# It is started for the first job, and again when it has gone. It knows nothing of the engine, holds no file of
# anybody's, and dies with the engine; a worker that it has forked dies with it.

# The interpreter starts isolated (-I: no environment, no user's site, no current directory) and without site (-S),
# whose .pth files it would otherwise run; where wherry and its libraries are is what this process knows.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from wherry.storage.worker.server import serve; serve(int(sys.argv[1]))"
)


class Child:
    """A forked worker, by its pidfd: the process id may be another's once it has ended."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    @property
    def ended(self) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> None:
        await _readable(self._pidfd)

    def close(self) -> None:
        os.close(self._pidfd)


class ForkServer:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    async def fork(self, stdin: int, stdout: int) -> tuple[Child, socket.socket]:
        """A new worker with these, and the socket that it is spoken with. Raises EngineError when there can be none."""
        for _ in range(ATTEMPTS):  # it may never have been there, have gone, or go with the request in its hands
            control, theirs = socket.socketpair()
            control.setblocking(False)
            try:
                with theirs:
                    self._forward((theirs.fileno(), stdin, stdout))
                # The other end is the worker's alone by now, or on its way to it: it ends with the worker.
                await _readable(control.fileno())
                _, fds, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_DONTWAIT)
                if fds:
                    return Child(fds[0]), control
            except ConnectionResetError:  # it has died with something of ours unread
                control.close()
            except BaseException:
                control.close()
                raise
            else:
                control.close()
        raise EngineError("a storage worker could not be started: the engine's log has the reason")

    def _forward(self, given: tuple[int, int, int]) -> None:
        try:
            self._ask(given)
        except OSError:
            self._start()
            self._ask(given)

    def _ask(self, given: tuple[int, int, int]) -> None:
        if self._socket is None:
            raise ConnectionError
        socket.send_fds(self._socket, [b"f"], given)

    def _start(self) -> None:
        self._discard()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), *_module_paths()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the engine's terminal is the engine's to handle
            )

    def _discard(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None


def _module_paths() -> list[str]:
    """Where modules are, without the current directory, which ``python -m`` has put first."""
    return [path for path in sys.path if os.path.isabs(path)]


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


_fork_server = ForkServer()
ATTEMPTS = 3  # at what a worker may die over that does no harm a second time
_CHUNK = 256 << 10
_LONGEST_EVENT = 64 << 20


class Full(EngineError):
    """The disk has no room."""


class WorkerDied(EngineError):
    """It was killed: by somebody, or for want of memory."""


class Worker:
    """One running worker. ``events`` are what it reports; ``output`` is its bulk data."""

    def __init__(
        self,
        job: Job,
        process: Child,
        control: socket.socket,
        data_in: socket.socket | None,
        data_out: socket.socket | None,
    ) -> None:
        self._job = job
        self._process = process
        self._control = control
        self._in = data_in
        self._out = data_out
        self._sending: asyncio.Task[None] | None = None
        self._pending = b""

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Everything that the worker reports; the last one has "done". Raises an EngineError for its error."""
        loop = asyncio.get_running_loop()
        while True:
            while b"\n" not in self._pending:
                try:
                    data = await loop.sock_recv(self._control, _CHUNK)
                except ConnectionResetError:
                    data = b""
                if not data:
                    raise WorkerDied(await self._died())
                self._pending += data
                if len(self._pending) > _LONGEST_EVENT:
                    raise EngineError("the storage worker talks too much")
            line, _, self._pending = self._pending.partition(b"\n")
            event: dict[str, Any] = msgspec.json.decode(line)
            if "error" in event:
                raise _error(event)
            yield event
            if "done" in event:
                await self._sent()
                return

    async def ask(self, job: Job) -> Any:
        """One more job, after one that can be followed by others; what it answered."""
        self._job = job
        await self.tell(job)
        return await self.finish()

    async def tell(self, job: Job) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._control, msgspec.json.encode(job) + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerDied(await self._died()) from None

    async def finish(self, progress: Callable[[int], None] | None = None) -> Any:
        """Waits for the job's end; what it answered."""
        async for event in self.events():
            if "progress" in event and progress is not None:
                progress(event["progress"])
            if "done" in event:
                return msgspec.convert(event["done"], self._job.Answer)
        raise AssertionError("events end with the answer or an error")

    async def output(self) -> AsyncIterator[bytes]:
        """The worker's standard output. Raises its error at the end, if it had one."""
        assert self._out is not None
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._out, _CHUNK):
            yield data
        await self.finish()

    def send(self, stream: AsyncIterable[bytes]) -> None:
        """Feeds ``stream`` to the worker's standard input, from now on."""
        self._sending = asyncio.create_task(self._send(stream))

    async def _send(self, stream: AsyncIterable[bytes]) -> None:
        assert self._in is not None
        loop = asyncio.get_running_loop()
        try:
            async for chunk in stream:
                try:
                    await loop.sock_sendall(self._in, chunk)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the worker listens no more, and says why on its other line
            with contextlib.suppress(OSError):
                self._in.shutdown(socket.SHUT_WR)
        except BaseException:
            # The stream itself broke: what there is of it must not pass for the whole.
            self._process.kill()
            raise

    async def _sent(self) -> None:
        """What the sender met, if it has ended."""
        if self._sending is not None and self._sending.done():
            await self._sending

    async def _died(self) -> str:
        if self._sending is not None and self._sending.done():
            await self._sending
        return "the storage worker was killed before it was done: try again"

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # raised where it mattered
                await self._sending
        for sock in (self._control, self._in, self._out):
            if sock is not None:
                sock.close()
        self._process.kill()
        await self._process.wait()
        self._process.close()


@contextlib.asynccontextmanager
async def working(
    job: Job, *, input: AsyncIterable[bytes] | None = None, output: bool = False
) -> AsyncIterator[Worker]:
    """Starts a worker for ``job``. ``input`` becomes its standard input; ``output`` asks for its standard output."""
    worker = await _start(job, takes=input is not None, gives=output)
    try:
        if input is not None:
            worker.send(input)
        yield worker
    finally:
        # Shielded: a cancelled task still has to end its worker before what it was working on is taken away.
        await asyncio.shield(worker.close())


async def run(job: Job, *, input: AsyncIterable[bytes] | None = None) -> Any:
    """Does one job; what it answered, which is the job's ``Answer``."""
    async with working(job, input=input) as worker:
        return await worker.finish()


async def _start(job: Job, *, takes: bool, gives: bool) -> Worker:
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(WorkerDied):  # before it knew of its job
            return await _start_one(job, takes=takes, gives=gives)
    return await _start_one(job, takes=takes, gives=gives)


async def _start_one(job: Job, *, takes: bool, gives: bool) -> Worker:
    data_in, stdin = _stream(takes)
    data_out, stdout = _stream(gives)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    ours = [sock for sock in (data_in, data_out) if sock is not None]
    try:
        for sock in ours:
            sock.setblocking(False)
        process, control = await _fork_server.fork(
            stdin.fileno() if stdin else nothing, stdout.fileno() if stdout else nothing
        )
    except BaseException:
        for sock in ours:
            sock.close()
        raise
    finally:
        os.close(nothing)
        for far in (stdin, stdout):
            if far is not None:
                far.close()
    worker = Worker(job, process, control, data_in, data_out)
    try:
        await worker.tell(job)
    except BaseException:
        await worker.close()
        raise
    return worker


def _stream(wanted: bool) -> tuple[socket.socket, socket.socket] | tuple[None, None]:
    """Both ends of a stream for bulk data."""
    if not wanted:
        return None, None
    near, far = socket.socketpair()
    _enlarge(near, far)
    return near, far


def _enlarge(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


def _error(event: dict[str, Any]) -> EngineError:
    kinds: dict[str, type[EngineError]] = {
        "invalid": InvalidParameter,
        "missing": NotFound,
        "full": Full,
        "conflict": Conflict,
    }
    return kinds.get(event["kind"], EngineError)(event["error"])


# What is done once more where a worker was killed over it.

_REPLAYED = 1 << 20  # bytes of a stream that are kept

_Done = TypeVar("_Done")


async def again(work: Callable[[], Awaitable[_Done]]) -> _Done:
    """Does what can be begun anew."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(WorkerDied):
            return await work()
    return await work()


async def run_replayed(write_job: Callable[[], Job], stream: AsyncIterable[bytes]) -> Any:
    """Does a job that can be begun anew as long as not much of its input has been read."""
    replayed = _Replayed(stream)
    try:
        for _ in range(ATTEMPTS - 1):
            try:
                return await run(write_job(), input=replayed)
            except WorkerDied:
                if not replayed.is_whole:
                    raise
        return await run(write_job(), input=replayed)
    finally:
        replayed.close()


class _Replayed:
    """A stream that can be read from its beginning again."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = aiter(stream)
        self._next: asyncio.Task[bytes | None] | None = None
        self._read: list[bytes] = []
        self._size = 0

    @property
    def is_whole(self) -> bool:
        return self._size <= _REPLAYED

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in list(self._read):
            yield chunk
        while (following := await self._following()) is not None:
            yield following

    async def _following(self) -> bytes | None:
        """Shielded: a reader who is cancelled must not cancel the stream, of which the next one needs the rest."""
        if self._next is None:
            self._next = asyncio.create_task(self._take())
        chunk = await asyncio.shield(self._next)
        if chunk is not None:
            self._next = None
        return chunk

    async def _take(self) -> bytes | None:
        chunk = await anext(self._stream, None)
        if chunk is not None:
            self._size += len(chunk)
            if self.is_whole:
                self._read.append(chunk)
            else:
                self._read.clear()
        return chunk

    def close(self) -> None:
        if self._next is not None and not self._next.cancel() and not self._next.cancelled():
            self._next.exception()  # of a stream that broke, which who read from it has been told
