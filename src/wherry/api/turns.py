"""Turns of the event loop: a request that changes something is begun in each.

When thousands come at once, who only asks is answered in between.
"""

import asyncio
from collections import deque
from collections.abc import Callable

LOOKS = (b"GET ", b"HEAD ")
"""How requests begin that wait for no turn."""


class Turns:
    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_taken = False

    @property
    def is_free(self) -> bool:
        return not self._is_taken

    def take(self) -> bool:
        """Whether this turn was to be had, and nobody has waited longer."""
        if self._is_taken:
            return False
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)
        return True

    def wait(self, go_on: Callable[[], None]) -> None:
        """``go_on`` is called in a turn that is to be had, and takes it or leaves it."""
        self._waiting.append(go_on)

    def _next(self) -> None:
        self._is_taken = False
        while self._waiting and not self._is_taken:
            self._waiting.popleft()()
