"""Waiting, for a program without an event loop: what all of this package's coroutines await ends here.

The package is written once, as coroutines that wait by a `Loop` and by nothing else. Under asyncio that is
asyncio_loop.py. Here it is `Blocking`, whose coroutines `run` carries to their end: each time that one would have to
wait, it says for which descriptors, and poll(2) waits for them.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
    from contextlib import AbstractAsyncContextManager
    from typing import Any, Protocol, TypeVar

    from wherry.client.endpoint import Host, Stream
    from wherry.client.together import Timeout

    T = TypeVar("T")

    class Loop(Protocol):
        """How to wait. `blocking`: whether streams that are given away block."""

        blocking: bool

        async def readable(self, descriptor: int) -> None: ...
        async def writable(self, descriptor: int) -> None: ...
        async def connect(self, host: Host) -> Stream:
            """A new stream to the engine, as `Host.connect` makes it."""

        async def call(self, function: Callable[..., T], *arguments: Any) -> T:
            """Calls what blocks."""

        def iterate(self, items: Iterable[T]) -> AsyncIterator[T]:
            """Items whose making blocks, as files do."""

        def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
            """Raises TimeoutError in what takes longer; None is no limit."""

        async def beside(self, second: Coroutine[Any, Any, None], first: Coroutine[Any, Any, T]) -> T:
            """Awaits both at once, up to the end of the first, and gives its result. What either raises ends both."""

        async def finish(self, work: Coroutine[Any, Any, T]) -> T:
            """Awaits what goes on to its end even if the one who awaits is cancelled."""

        async def acquire(self, make: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> T:
            """Awaits what makes something. Who is cancelled meanwhile would not know of it: then it is undone."""

        def slot(self) -> AbstractAsyncContextManager[object]:
            """One of the requests that are under way at once."""


class Expired(BaseException):
    """Ends what has waited for too long: the TimeoutError of a `Blocking.timeout`, which is no error of a socket's."""


class Wait:
    """Awaited, it gives the descriptors of which one can be read or written. `events` are poll's, by descriptor."""

    __slots__ = ("deadline", "events")

    def __init__(self, events: dict[int, int], deadline: float | None) -> None:
        self.events, self.deadline = events, deadline

    def __await__(self) -> Generator[Wait, dict[int, int], dict[int, int]]:
        return (yield self)

    def poll(self) -> dict[int, int]:
        """Waits. Nothing is ready when the deadline has come."""
        poll = select.poll()
        for descriptor, events in self.events.items():
            poll.register(descriptor, events)
        if self.deadline is None:
            return dict(poll.poll())
        import time

        return dict(poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Carries a coroutine that waits by `Blocking` to its end, and gives its result."""
    try:
        wait: Wait = work.send(None)
        while True:
            try:
                ready = wait.poll()
            except BaseException as error:  # Ctrl-C: what the coroutine holds is let go of
                wait = work.throw(error)
                continue
            wait = work.send(ready) if ready else work.throw(Expired())
    except StopIteration as done:
        value: T = done.value
        return value


class Blocking:
    blocking = True

    def __init__(self) -> None:
        self.deadline: float | None = None

    async def readable(self, descriptor: int) -> None:
        await Wait({descriptor: select.POLLIN}, self.deadline)

    async def writable(self, descriptor: int) -> None:
        await Wait({descriptor: select.POLLOUT}, self.deadline)

    async def connect(self, host: Host) -> Stream:
        return host.connect()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)

    async def iterate(self, items: Iterable[T]) -> AsyncIterator[T]:
        for item in items:
            yield item

    def timeout(self, seconds: float | None) -> Timeout:
        from wherry.client.together import Timeout

        return Timeout(self, seconds)

    async def beside(self, second: Coroutine[Any, Any, None], first: Coroutine[Any, Any, T]) -> T:
        from wherry.client.together import Beside

        result: T = await Beside(second, first)
        return result

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def acquire(self, make: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> T:
        return await make

    def slot(self) -> Blocking:
        return self  # there is only one at a time

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass
