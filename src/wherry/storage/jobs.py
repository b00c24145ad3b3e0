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
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import msgspec

from wherry.model.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.storage.nursery import Child, Nursery

_nursery = Nursery()
_CHUNK = 256 << 10
_LONGEST_EVENT = 64 << 20


class Full(EngineError):
    """The disk has no room."""


class Worker:
    """One running worker. ``events`` are what it reports; ``output`` is its bulk data."""

    def __init__(
        self,
        process: Child,
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

    async def ask(self, job: dict[str, Any]) -> Any:
        """One more job, after one that can be followed by others; what it answered."""
        await asyncio.get_running_loop().sock_sendall(self._control, msgspec.json.encode(job) + b"\n")
        return await self.finish()

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
        return "the storage worker died before it was done"

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
    data_in, stdin = _stream(takes)
    data_out, stdout = _stream(gives)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    ours = [sock for sock in (control, data_in, data_out) if sock is not None]
    try:
        for sock in ours:
            sock.setblocking(False)
        given = (theirs.fileno(), stdin.fileno() if stdin else nothing, stdout.fileno() if stdout else nothing)
        process = await _nursery.fork(control, given)
    except BaseException:
        for sock in ours:
            sock.close()
        raise
    finally:
        os.close(nothing)
        for far in (theirs, stdin, stdout):
            if far is not None:
                far.close()
    worker = Worker(process, control, data_in, data_out)
    try:
        await asyncio.get_running_loop().sock_sendall(control, msgspec.json.encode(job) + b"\n")
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
