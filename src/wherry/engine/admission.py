"""Admission: how many of a kind of work are under way at a time, while the others wait for their turn.

Whoever asks for five thousand starts at once is to get them, one after the other as fast as the machine can, and
whoever only asks how it goes is not to wait for them. So no more are begun than keep the processors busy.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from wherry.common.errors import Unavailable

_PATIENCE = 1.0  # seconds: what takes longer waits for something else than a processor, for a volume's server say
_TOLD_EVERY = 1.0  # seconds

Turn = asyncio.Future[None]


class Standing(NamedTuple):
    waiting: int
    under_way: int
    limit: int


def default_limit() -> int:
    """While one waits for the kernel, another one has its processor."""
    return max(4, 2 * len(os.sched_getaffinity(0)))


class Admission:
    """A place is had from ``async with admission.place()`` to its end. Who came first goes on first."""

    def __init__(self, limit: int, tell: Callable[[Standing], None] = lambda standing: None) -> None:
        """``tell`` is called every second while some wait, and once when nobody does any more."""
        self._limit = limit
        self.tell = tell
        self._under_way: set[Turn] = set()
        self._waiting: dict[asyncio.Task[Any] | None, Turn] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def standing(self) -> Standing:
        return Standing(len(self._waiting), len(self._under_way), self._limit)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises Unavailable when the engine ends before one is free. Who is cancelled waits no longer."""
        loop = asyncio.get_running_loop()
        turn: Turn = loop.create_future()
        if len(self._under_way) < self._limit:
            self._under_way.add(turn)
        else:
            await self._wait(turn)
        patience = loop.call_later(_PATIENCE, self._leave, turn)
        try:
            yield
        finally:
            patience.cancel()
            self._leave(turn)

    async def _wait(self, turn: Turn) -> None:
        if self._closed:
            raise Unavailable("the engine is being stopped")
        task = asyncio.current_task()
        self._waiting[task] = turn
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TOLD_EVERY, self._tell_again)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(task, None)
            self._leave(turn)  # it may just have been given the place
            raise

    def _leave(self, turn: Turn) -> None:
        """Gives the place to the next one."""
        if turn not in self._under_way:
            return
        self._under_way.remove(turn)
        if self._waiting:
            following = self._waiting.pop(next(iter(self._waiting)))
            self._under_way.add(following)
            if not following.done():  # one that is cancelled gives it on by itself
                following.set_result(None)

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Cancels a task if it waits here: nobody is left who would hear of it."""
        if task in self._waiting:
            task.cancel()

    def close(self) -> None:
        """From now on nobody waits."""
        self._closed = True
        for turn in self._waiting.values():
            if not turn.done():
                turn.set_exception(Unavailable("the engine is being stopped"))
        self._waiting.clear()
        if self._telling is not None:
            self._telling.cancel()

    def _tell_again(self) -> None:
        self.tell(self.standing)
        self._telling = None
        if self._waiting:
            self._telling = asyncio.get_running_loop().call_later(_TOLD_EVERY, self._tell_again)
