"""Without an event loop: a limit of time, and two coroutines at once. See loops.py."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

from wherry.client.loops import Blocking, Expired, Wait

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable


class Timeout:
    def __init__(self, loop: Blocking, seconds: float | None) -> None:
        self._loop, self._seconds = loop, seconds
        self._outer: float | None = None
        self._own: float | None = None

    async def __aenter__(self) -> None:
        self._outer = self._loop.deadline
        if self._seconds is not None:
            self._own = time.monotonic() + self._seconds
            self._loop.deadline = self._own if self._outer is None else min(self._own, self._outer)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._loop.deadline = self._outer
        if kind is Expired and self._own is not None and (self._outer is None or self._own <= self._outer):
            raise TimeoutError from None


class Beside:
    """Two coroutines by turns: whichever can go on does, and they wait together."""

    def __init__(self, second: Coroutine[Any, Any, None], first: Coroutine[Any, Any, Any]) -> None:
        self._second, self._first = second, first

    def __await__(self) -> Generator[Wait, dict[int, int], Any]:
        waiting: dict[Coroutine[Any, Any, Any], Wait] = {}
        try:
            try:  # noqa: SIM105 - contextlib takes 4 ms to import
                waiting[self._second] = self._second.send(None)
            except StopIteration:
                pass
            waiting[self._first] = self._first.send(None)
            while True:
                ready: dict[int, int] = {}
                try:
                    ready = yield _together(waiting.values())
                except BaseException as error:
                    waiting[self._first] = self._first.throw(error)
                    continue
                for each, wait in list(waiting.items()):
                    found = {number: event for number, event in ready.items() if _is_for(wait, number, event)}
                    if not found:
                        continue
                    try:
                        waiting[each] = each.send(found)
                    except StopIteration:
                        if each is self._first:
                            raise
                        del waiting[each]
        except StopIteration as done:
            return done.value
        finally:
            self._second.close()
            self._first.close()


def _together(waits: Iterable[Wait]) -> Wait:
    events: dict[int, int] = {}
    for wait in waits:
        for descriptor, event in wait.events.items():
            events[descriptor] = events.get(descriptor, 0) | event
    deadlines = [wait.deadline for wait in waits if wait.deadline is not None]
    return Wait(events, min(deadlines, default=None))


def _is_for(wait: Wait, descriptor: int, event: int) -> bool:
    wanted = wait.events.get(descriptor, 0)
    return bool(wanted and event & (wanted | ~(select.POLLIN | select.POLLOUT)))
