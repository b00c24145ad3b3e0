"""Waiting under asyncio, also with uvloop: what loops.py is for a program without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from wherry.client.endpoint import Host, Stream

T = TypeVar("T")

# So many short requests are under way at once; streams (attach, exec, logs, wait) are not counted, as they may wait for
# each other.
AT_ONCE = 64
_END = object()


class Asyncio:
    blocking = False

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._work: set[asyncio.Task[Any]] = set()  # asyncio itself holds its tasks weakly

    async def readable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(descriptor, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)

    async def writable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(descriptor, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)

    async def connect(self, host: Host) -> Stream:
        if host.scheme == "unix":
            try:
                return host.connect(wait=False)
            except BlockingIOError:
                pass  # so many connect at this moment that the engine has not taken all of them
        connecting = asyncio.get_running_loop().run_in_executor(None, host.connect)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close)
            raise

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

    async def iterate(self, items: Iterable[T]) -> AsyncIterator[T]:
        iterator = iter(items)
        while (item := await self.call(next, iterator, _END)) is not _END:
            yield item

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)

    async def beside(self, second: Coroutine[Any, Any, None], first: Coroutine[Any, Any, T]) -> T:
        tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[1].done() and not tasks[0].done():
                tasks[1].result()
            return await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._begin(work))

    async def acquire(self, make: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> T:
        making = self._begin(make)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if not making.cancelled():
                await self.finish(_undo(making, undo))
            raise

    def slot(self) -> asyncio.Semaphore:
        return self._slots

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _close(connecting: asyncio.Future[Stream]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


async def _undo(making: asyncio.Task[T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> None:
    try:
        made = await making
    except Exception:
        return  # there is nothing to undo
    await undo(made)
