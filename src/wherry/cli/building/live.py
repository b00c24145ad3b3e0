"""A build's progress on a terminal."""

from __future__ import annotations

import os
import threading
import time

from wherry.cli import terminal
from wherry.cli.building.display import Progress, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from wherry.cli.building.display import Step

_TAIL = 6  # lines of output that a running step shows
_REFRESH = 0.1  # seconds
_BLUE, _RED, _DIM, _PLAIN = "\x1b[34m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Live(Progress):
    """A line a step, drawn again and again until the step is done; then it stays as it is."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._drawn = 0  # lines, of which the cursor is below the last
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pulling = ""
        self._colour = "NO_COLOR" not in os.environ
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def take(self, event: dict[str, Any]) -> None:
        with self._lock:
            super().take(event)

    def on_pulled(self, message: dict[str, Any]) -> None:
        name = f"{message['id']}: " if message.get("id") else ""
        self._pulling = f"{name}{message.get('status', '')} {message.get('progress', '')}".strip()

    def on_begun(self, step: Step) -> None:
        self._pulling = ""

    def on_warned(self, text: str) -> None:
        self._erase()
        self.out.write(f"WARNING: {text}\n")

    def close(self, failed: bool) -> None:
        self._ended.set()
        self._clock.join()
        with self._lock:
            self._draw(last=True, failed=failed)
            super().close(failed)

    def _tick(self) -> None:
        while not self._ended.wait(_REFRESH):
            with self._lock:
                self._draw()

    def _erase(self) -> None:
        if self._drawn:
            self.out.write(f"\x1b[{self._drawn}A\x1b[J")
        self._drawn = 0

    def _draw(self, *, last: bool = False, failed: bool = False) -> None:
        rows, columns = terminal.size(terminal.STDERR)
        rows, columns = rows or 24, columns or 80
        lines = self._lines(columns)
        if not last and len(lines) > rows - 2:
            lines = lines[-(rows - 2) :]
        done = sum(step.seconds is not None for step in self.steps.values())
        ended = ("ERROR" if failed else "FINISHED") if last else ""
        took = time.monotonic() - self.begun
        self._erase()
        self.out.write(f"[+] Building {took:.1f}s ({done}/{self.total}) {ended}\n")
        self.out.write("".join(f"{line}\n" for line in lines))
        self.out.flush()
        self._drawn = 0 if last else len(lines) + 1

    def _lines(self, columns: int) -> list[str]:
        lines = []
        for step in sorted(self.steps.values(), key=lambda step: step.number):
            state = "CACHED " if step.cached else "ERROR " if step.failed else ""
            time_text = f"{step.took:.1f}s"
            room = columns - len(time_text) - 2
            text = f" => {state}{self.label(step)}"
            text = text if len(text) <= room else text[: room - 1] + "…"
            colour = _RED if step.failed else _BLUE if step.seconds is not None else ""
            lines.append(self._paint(f"{text:<{room}} {time_text}", colour))
            if step.seconds is None:
                shown = [*step.lines[-_TAIL:], *([step.rest] if step.rest else [])][-_TAIL:]
                lines += [self._paint(f" => => # {printable(line)}"[: columns - 1], _DIM) for line in shown]
        if self._pulling:
            lines.append(self._paint(f" => => {self._pulling}"[: columns - 1], _DIM))
        return lines

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if colour and self._colour else text
