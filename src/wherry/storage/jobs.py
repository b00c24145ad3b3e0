"""Starts workers and talks to them: the engine's side of ``worker``.

    async with working({"kind": "commit", …}) as worker:
        done = await worker.finish()

Leaving the block, by an error or by the task's cancellation too, kills a worker that is not done yet; the kernel kills
it when the engine itself goes.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import msgspec

from wherry.model.errors import EngineError, InvalidParameter, NotFound

# The interpreter starts isolated (-I: no environment, no user's site, no current directory) and without site (-S),
# whose .pth files it would otherwise run; where wherry and its libraries are is what this process knows.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from wherry.storage.worker import main; main(int(sys.argv[1]))"
_CHUNK = 256 << 10
_LONGEST_EVENT = 64 << 20


class Full(EngineError):
    """The disk has no room."""


class Worker:
    """One running worker. ``events`` are what it reports; ``output`` is its bulk data."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        data_in: socket.socket | None,
        data_out: socket.socket | None,
    ) -> None:
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
                    raise EngineError(await self._died())
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

    async def finish(self, progress: Callable[[int], None] | None = None) -> Any:
        """Waits for the job's end; what it answered."""
        async for event in self.events():
            if "progress" in event and progress is not None:
                progress(event["progress"])
            if "done" in event:
                return event["done"]
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
                await loop.sock_sendall(self._in, chunk)
            self._in.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has said why it listens no more
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
        return f"the storage worker died ({await self._process.wait()})"

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # raised where it mattered
                await self._sending
        for sock in (self._control, self._in, self._out):
            if sock is not None:
                sock.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def working(
    job: dict[str, Any], *, input: AsyncIterable[bytes] | None = None, output: bool = False
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


async def run(job: dict[str, Any], *, input: AsyncIterable[bytes] | None = None) -> Any:
    """Does one job; what it answered."""
    async with working(job, input=input) as worker:
        return await worker.finish()


async def _start(job: dict[str, Any], *, takes: bool, gives: bool) -> Worker:
    control, theirs = socket.socketpair()
    ours: list[socket.socket | None] = []
    given: list[socket.socket] = [theirs]
    for wanted in (takes, gives):
        if wanted:
            near, far = socket.socketpair()
            _enlarge(near, far)
            ours.append(near)
            given.append(far)
        else:
            ours.append(None)
    data_in, data_out = ours
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _BOOT, str(theirs.fileno()), *_module_paths()),
            stdin=given[1].fileno() if takes else asyncio.subprocess.DEVNULL,
            stdout=given[-1].fileno() if gives else asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # a Ctrl-C at the engine's terminal is the engine's to handle
        )
    except BaseException:
        for sock in (control, data_in, data_out):
            if sock is not None:
                sock.close()
        raise
    finally:
        for sock in given:
            sock.close()
    for sock in (control, data_in, data_out):
        if sock is not None:
            sock.setblocking(False)
    worker = Worker(process, control, data_in, data_out)
    try:
        await asyncio.get_running_loop().sock_sendall(control, msgspec.json.encode(job) + b"\n")
    except BaseException:
        await worker.close()
        raise
    return worker


def _module_paths() -> list[str]:
    """Where modules are, without the current directory, which ``python -m`` has put first."""
    return [path for path in sys.path if os.path.isabs(path)]


def _enlarge(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


def _error(event: dict[str, Any]) -> EngineError:
    kinds: dict[str, type[EngineError]] = {"invalid": InvalidParameter, "missing": NotFound, "full": Full}
    return kinds.get(event["kind"], EngineError)(event["error"])
