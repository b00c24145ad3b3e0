"""The monitor's event loop: descriptors and what to call when they are ready. asyncio would cost 4 MB a container."""

import select
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANG_UP = select.EPOLLHUP | select.EPOLLERR

Callback = Callable[[int], None]


class Loop:
    """epoll and a table. A callback gets the events; HANG_UP is told to everybody."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Begins to watch, or changes what is watched."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stops watching; call it before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, *, wait: bool = True) -> None:
        """Waits until something is ready, unless told not to, and calls what belongs to it."""
        ready = [(fd, events, self._callbacks[fd]) for fd, events in self._epoll.poll(-1 if wait else 0)]
        for fd, events, callback in ready:
            # An earlier callback of this turn may have closed the descriptor, and its number may be another's by now.
            if self._callbacks.get(fd) is callback:
                callback(events)
