"""The user's terminal: raw while a container has it, and as it was again whatever happens; its size."""

from __future__ import annotations

import os
import termios

from wherry.cli.session import CommandError
from wherry.client.c_modules import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STDIN, STDOUT, STDERR = 0, 1, 2


def is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size(descriptor: int = STDOUT) -> tuple[int, int]:
    """Rows and columns, (0, 0) where there is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


class RawTerminal:
    """A context in which the terminal at `descriptor` hands on every key as it is typed and draws nothing itself.

    The keys that would end, stop or background this program go to the container like any other.
    """

    def __init__(self, descriptor: int = STDIN) -> None:
        self._descriptor = descriptor
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        self._saved = termios.tcgetattr(self._descriptor)
        self.make_raw()
        return self

    def make_raw(self) -> None:
        """Also for after this program was stopped: the shell has made the terminal its own meanwhile."""
        if self._saved is None:
            return
        import tty

        tty.setraw(self._descriptor, termios.TCSANOW)

    def restore(self) -> None:
        saved, self._saved = self._saved, None
        if saved is None:
            return
        try:  # noqa: SIM105 - contextlib takes 4 ms to import
            # Not TCSAFLUSH: what was typed ahead belongs to the shell.
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, saved)
        except termios.error:
            pass  # the terminal is gone

    def __exit__(self, *_: object) -> None:
        self.restore()


# Signals to this program, as events in a poll loop: for the container, for the terminal, or to end here.

# What docker hands on: everything, except what is this process's own affair. Stopping in the background (TTIN, TTOU)
# and a broken pipe are; the faults (SEGV, BUS, FPE, ILL, TRAP, SYS) are this program's when it has them.
FORWARDED = tuple(
    name
    for name in (
        "HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM", "CONT", "TSTP",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",
    )
    if hasattr(signals, "SIG" + name)
)  # fmt: skip
ENDING = ("HUP", "INT", "QUIT", "TERM")

# So many of INT or TERM end this program, whatever it waits for.
PATIENCE = 3


class Terminated(CommandError):
    """A signal ends this program, with the exit code that a shell gives one that it has ended."""

    def __init__(self, number: int) -> None:
        super().__init__("", 128 + number)


class SignalWatch:
    """A context in which signals are kept for `take()`; `fileno()` is readable when there are any.

    `names` are those that are caught. The third INT or TERM ends the program at once, through `last_resort`, which
    puts the terminal back first: an engine that does not answer can always be left.
    """

    def __init__(self, names: tuple[str, ...], last_resort: Callable[[], None]) -> None:
        self._numbers = {getattr(signals, "SIG" + name): name for name in names}
        self._last_resort = last_resort
        self._before: dict[int, Any] = {}
        self._endings = 0
        self._read = self._write = -1
        self._wakeup_before = -1

    def __enter__(self) -> SignalWatch:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._wakeup_before = signals.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signals.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signals.signal(number, signals.SIG_DFL if handler is None else handler)
        signals.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, _: object) -> None:
        if number in (signals.SIGINT, signals.SIGTERM):
            self._endings += 1
            if self._endings == PATIENCE:
                self._last_resort()
                os.write(STDERR, b"\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n")
                os._exit(1)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[tuple[int, str]]:
        """The signals that came, number and name, in order."""
        try:
            numbers = os.read(self._read, 4096)
        except BlockingIOError:
            return []
        return [(number, self._numbers[number]) for number in numbers if number in self._numbers]
