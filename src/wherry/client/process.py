"""A command's streams: of an exec, of a container that `run` started, of one that is attached to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wherry.client.streams import STDERR, STDOUT, Demultiplexer
from wherry.client.transport import APIError, ClientError, ConnectionLost, each, receive_into, send_all

if TYPE_CHECKING:
    from typing import IO, Self

    from wherry.client.client import AsyncClient
    from wherry.client.endpoint import Stream

    Input = bytes | str | os.PathLike[str] | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]

_BUFFER = 1 << 16
_PIECE = 1 << 20
_LAST_WORDS = 2.0  # seconds that the output of a command that was killed may take to end


class Result:
    """How a command ended. `exit_code`: 128 + n where signal n ended it; `stdout` and `stderr` are bytes."""

    def __init__(self, exit_code: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        self.exit_code = exit_code
        self.stdout = b"".join(data for stream, data in pieces if stream == STDOUT)
        self.stderr = b"".join(data for stream, data in pieces if stream == STDERR)
        self._pieces = pieces

    @property
    def output(self) -> str:
        """Both streams as text, in the order in which they came. What is no UTF-8 becomes �."""
        return b"".join(data for _, data in self._pieces).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<Result exit_code={self.exit_code} output={self.output[:60]!r}>"

    def checked(self, check: bool) -> Result:
        """Itself. Raises CommandFailed for an exit code other than 0, if `check`."""
        if check and self.exit_code:
            raise CommandFailed(self)
        return self


class CommandFailed(ClientError):
    """A command ended with an exit code other than 0, and `check` was asked for; `result` is all of it."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"the command ended with exit code {result.exit_code}: {result.output.strip()[-500:]}")
        self.result = result


class CommandTimedOut(ClientError, TimeoutError):
    """A command took longer than its `timeout` and was killed; `result` has what it said until then.

    >>> import wherry
    >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
    ...     try:
    ...         container.exec("sleep 60", timeout=0.5)
    ...     except wherry.CommandTimedOut as error:
    ...         print(error, error.result.exit_code)
    the command had not ended after 0.5 seconds and was killed 137
    """

    def __init__(self, result: Result, timeout: float, *, killed: bool = True) -> None:
        end = "was killed" if killed else "runs on: this engine cannot end an exec"
        super().__init__(f"the command had not ended after {timeout:g} seconds and {end}")
        self.result = result
        self.timeout = timeout


class AsyncProcess:
    """A command that is under way. Iterating over it gives what it prints, as bytes, as it comes.

    As a context it is ended with the block, if it has not ended before; `tty` says whether it has a terminal.

    >>> import wherry
    >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
    ...     with container.exec(["cat"], stream=True, stdin=True) as process:
    ...         process.write("hello")
    ...         process.close_stdin()
    ...         print(b"".join(process), process.wait())
    b'hello' 0
    """

    id: str
    tty: bool

    def __init__(
        self,
        client: AsyncClient,
        id: str,
        stream: Stream | None,
        early: bytes = b"",
        *,
        tty: bool = False,
        kill: Callable[[str], Awaitable[object]],
        resize: Callable[[int, int], Awaitable[object]],
        ending: Callable[[], Awaitable[int]],
        leave: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`ending` waits for the exit code; `leave` is done once nobody holds it any more."""
        self.id, self.tty = id, tty
        self._loop = client.loop
        self._stream: Stream | None = None
        self._ready: list[tuple[int, bytes]] = []
        self._split = Demultiplexer(lambda number, buffers: self._ready.append((number, b"".join(buffers))))
        self._kill, self._resize, self._ending, self._leave = kill, resize, ending, leave
        self._code: int | None = None
        self._ended = True
        self.said: list[tuple[int, bytes]] = []
        if stream is not None:
            self.join(stream, early)

    def join(self, stream: Stream, early: bytes) -> None:
        """Gives it its streams, and what has come of them already."""
        stream.setblocking(False)
        self._stream, self._ended = stream, False
        self._take(memoryview(early))

    def __repr__(self) -> str:
        return f"<AsyncProcess {self.id[:12]}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it, if it has not ended, and lets go of its streams."""
        await self._loop.finish(self._close())

    async def _close(self) -> None:
        try:
            if self._code is None and self._leave is None:
                with suppress(APIError):  # Docker's engine cannot
                    await self.kill()
        finally:
            self._detach()
            leave, self._leave = self._leave, None
            if leave is not None:
                await leave()

    def _detach(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._ended = True

    async def kill(self, signal: str = "KILL") -> None:
        """Sends it a signal; one that has ended gets none. Raises APIError where the engine cannot: Docker's has no way
        to end an exec."""
        try:
            await self._kill(signal)
        except APIError as error:
            # 409: it has ended. 404 with a container's name, too; but Docker says so of a path that it does not have
            if error.status not in (404, 409) or "page not found" in error.message:
                raise

    async def resize(self, rows: int, columns: int) -> None:
        """Gives its terminal a size."""
        await self._resize(rows, columns)

    async def wait(self, timeout: float | None = None) -> int:
        """Waits for its end, reading what it still says; the exit code. Raises TimeoutError, and then it goes on."""
        async with self._loop.timeout(timeout):
            async for stream, data in self.frames():
                self.said.append((stream, data))
            if self._code is None:
                self._code = await self._ending()
            return self._code

    async def write(self, data: bytes | str) -> None:
        """Sends it input. Raises BrokenPipeError when it reads no more."""
        if self._stream is None:
            raise BrokenPipeError("the command's input is closed")
        await send_all(self._loop, self._stream, data.encode() if isinstance(data, str) else data)

    async def close_stdin(self) -> None:
        """Ends its input; what it says is still read."""
        if self._stream is not None:
            with suppress(OSError):  # it has ended already
                self._stream.shutdown(1)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for _, data in self.frames():
            yield data

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """What it prints, with 1 for standard output and 2 for standard error; a terminal's is all 1."""
        buffer = bytearray(_BUFFER)
        while True:
            while self._ready:
                yield self._ready.pop(0)
            if self._ended or self._stream is None:
                return
            try:
                count = await receive_into(self._loop, self._stream, buffer)
            except OSError as error:
                raise ConnectionLost(f"error during connect: {error.strerror}") from error
            self._ended = not count
            self._take(memoryview(buffer)[:count])

    def _take(self, data: memoryview) -> None:
        if self.tty and data:
            self._ready.append((STDOUT, bytes(data)))
        elif data:
            self._split.feed(data)

    async def communicate(
        self,
        input: Input | None = None,
        *,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
    ) -> Result:
        """Feeds it, reads it, and waits for its end; who is cancelled, and who waits too long, ends it.

        `output` is given what it says as it comes. Raises CommandTimedOut.
        """
        reading = self._read(output)
        try:
            async with self._loop.timeout(timeout):
                await (reading if input is None else self._loop.beside(self._feed(input), reading))
                self._code = await self._ending()
        except TimeoutError:
            if timeout is None:
                raise
            killed = await self._loop.finish(self._end(output))
            raise CommandTimedOut(Result(self._code or 137, self.said), timeout, killed=killed) from None
        finally:
            reading.close()
            await self.close()
        return Result(self._code, self.said)

    async def _read(self, output: Callable[[bytes], object] | None) -> None:
        async for stream, data in self.frames():
            self.said.append((stream, data))
            if output is not None:
                output(data)

    async def _end(self, output: Callable[[bytes], object] | None) -> bool:
        """Kills it, and hears its last words. False when the engine cannot."""
        try:
            await self.kill()
        except APIError:
            return False
        try:
            async with self._loop.timeout(_LAST_WORDS):
                await self._read(output)
                self._code = await self._ending()
        except TimeoutError:
            pass  # somebody else still holds its streams
        return True

    async def _feed(self, input: Input) -> None:
        try:
            async for piece in pieces_of(self._loop, input):
                if self._stream is None:
                    return
                await send_all(self._loop, self._stream, piece)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has ended without having read all of it
        await self.close_stdin()


async def pieces_of(loop: Any, data: Input) -> AsyncIterator[bytes | memoryview]:
    """The pieces of what somebody gives as bytes: from memory, a path, a file, or something that is iterated over."""
    if isinstance(data, str):
        yield data.encode()
    elif isinstance(data, bytes | bytearray | memoryview):
        yield data
    elif isinstance(data, os.PathLike):
        with await loop.call(open, data, "rb") as file:
            async for piece in loop.iterate(iter(lambda: file.read(_PIECE), b"")):
                yield piece
    elif hasattr(data, "read"):
        async for piece in loop.iterate(iter(lambda: data.read(_PIECE), b"")):
            yield piece
    else:
        async for piece in each(data):
            yield piece.encode() if isinstance(piece, str) else piece
