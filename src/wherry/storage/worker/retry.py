"""What is done once more where a worker was killed over it."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from wherry.storage.worker.client import ATTEMPTS, WorkerDied, run
from wherry.storage.worker.jobs import Job

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
