"""A line on the terminal while work goes on of which the engine tells nothing before its end."""

from __future__ import annotations

import os
import sys
import time

from wherry.cli import terminal
from wherry.cli.formatting import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event

_SOONEST, _BETWEEN = 0.5, 0.2  # seconds before there is a line, and before it is a new one
_CLEAR = "\r\x1b[K"


class Working:
    """``with Working("Saving", descriptor):`` tells for how long, and how far into a file, the block has come.

    On standard error where that is a terminal, from half a second on; the line is taken away at the end. What is
    called "" is not told of.
    """

    def __init__(self, what: str, descriptor: int = -1) -> None:
        self._what = what
        self._descriptor = descriptor

    def __enter__(self) -> None:
        if not self._what or not terminal.is_terminal(terminal.STDERR):
            self._thread = None
            return
        from threading import Event, Thread

        self._done = Event()
        self._thread = Thread(target=self._tell, args=(self._done,), daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        if self._thread is not None:
            self._done.set()
            self._thread.join()

    def _tell(self, done: Event) -> None:
        begun = time.monotonic()
        if done.wait(_SOONEST):
            return
        while not done.wait(_BETWEEN):
            sys.stderr.write(f"{_CLEAR}{self._what} … {self._far()}{time.monotonic() - begun:.0f}s")
            sys.stderr.flush()
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()

    def _far(self) -> str:
        try:
            return f"{human_size(os.lseek(self._descriptor, 0, os.SEEK_CUR))} "
        except OSError:  # of a pipe there is nothing to tell
            return ""
