"""A build's progress, on standard error: a log of its steps here, and in ``live`` the lines of a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time

from wherry.cli import terminal
from wherry.common.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event
    from typing import Any, TextIO

_KEPT = 2000  # lines of output that are kept for the case that the step fails
_LONGEST = 1 << 16  # characters of a line; what is longer becomes several


class Step:
    def __init__(self, event: dict[str, Any], total: int) -> None:
        self.number: int = event["step"]
        self.stage: int = event["stage"]
        self.stage_name: str = event["name"]
        self.text = printable(" ".join(str(event["text"]).split()))
        self.begun = time.monotonic()
        self.seconds: float | None = None
        self.cached = False
        self.failed = False
        self.lines: list[str] = []
        self.rest = ""  # of a line that has not ended

    def print(self, text: str) -> list[str]:
        """Takes output; the lines that are whole."""
        *whole, rest = (self.rest + text).split("\n")
        lines = [_left(line) for line in whole]
        self.rest = _left(rest[:-1]) + "\r" if rest.endswith("\r") else _left(rest)
        while len(self.rest) > _LONGEST:
            lines.append(self.rest[:_LONGEST])
            self.rest = self.rest[_LONGEST:]
        self.lines += lines
        del self.lines[:-_KEPT]
        return lines

    @property
    def took(self) -> float:
        return self.seconds if self.seconds is not None else time.monotonic() - self.begun


def _left(line: str) -> str:
    """What a terminal would have left of a line that went back to its beginning."""
    return line.rstrip("\r").rpartition("\r")[2]


class Progress:
    """Takes the engine's events. The subclasses show them."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.steps: dict[int, Step] = {}
        self.total = 0
        self.begun = time.monotonic()

    def take(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "planned":
            self.total = event["total"]
        elif kind == "begun":
            self.steps[event["step"]] = Step(event, self.total)
            self.on_begun(self.steps[event["step"]])
        elif kind == "printed":
            step = self.steps[event["step"]]
            self.on_lines(step, step.print(event["text"]))
        elif kind == "done":
            step = self.steps[event["step"]]
            step.seconds, step.cached = event["seconds"], event["cached"]
            if step.rest:
                self.on_lines(step, step.print("\n"))
            self.on_done(step)
        elif kind == "failed" and event["step"] in self.steps:
            step = self.steps[event["step"]]
            step.failed, step.seconds = True, step.took
            if step.rest:
                self.on_lines(step, step.print("\n"))
            self.on_done(step)
        elif kind == "pulled":
            self.on_pulled(event["message"])
        elif kind == "checked" or (kind == "warned" and not event.get("of_checks")):
            self.on_warned(event["text"])

    def label(self, step: Step) -> str:
        many = len({each.stage for each in self.steps.values()}) > 1 or not step.stage_name.startswith("stage-")
        stage = f"{step.stage_name} " if many else ""
        return f"[{stage}{step.number}/{self.total}] {step.text}"

    def close(self, failed: bool) -> None:
        """Shows the output of the step that failed, once more, below everything else."""
        for step in self.steps.values():
            if step.failed and failed and step.lines:
                self.out.write(f"------\n > {self.label(step)}:\n")
                self.out.write("".join(f"{line}\n" for line in step.lines[-50:]))
                self.out.write("------\n")
        self.out.flush()

    def on_begun(self, step: Step) -> None: ...

    def on_lines(self, step: Step, lines: list[str]) -> None: ...

    def on_done(self, step: Step) -> None: ...

    def on_pulled(self, message: dict[str, Any]) -> None: ...

    def on_warned(self, text: str) -> None: ...


class Plain(Progress):
    """A line an event, each with its step's number."""

    def on_begun(self, step: Step) -> None:
        self._write(f"#{step.number} {self.label(step)}\n")

    def on_lines(self, step: Step, lines: list[str]) -> None:
        at = time.monotonic() - step.begun
        self._write("".join(f"#{step.number} {at:.3f} {line}\n" for line in lines))

    def on_done(self, step: Step) -> None:
        state = "CACHED" if step.cached else f"ERROR {step.took:.1f}s" if step.failed else f"DONE {step.took:.1f}s"
        self._write(f"#{step.number} {state}\n\n")

    def on_pulled(self, message: dict[str, Any]) -> None:
        if not message.get("progressDetail"):
            name = f"{message['id']}: " if message.get("id") else ""
            self._write(f"{name}{message.get('status', '')}\n")

    def on_warned(self, text: str) -> None:
        self._write(f"WARNING: {text}\n")

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


class Silent(Progress):
    """Keeps what it hears, for the case of a failure."""


def printable(line: str) -> str:
    """A line without what would move the cursor."""
    return "".join(char if char.isprintable() else " " for char in line)


def choose(kind: str, quiet: bool) -> Progress:
    """`kind` is auto, plain, tty, rawjson or quiet."""
    if quiet or kind == "quiet":
        return Silent(sys.stderr)
    if kind == "tty" or (kind == "auto" and terminal.is_terminal(terminal.STDERR)):
        return Live(sys.stderr)
    return Plain(sys.stderr)


# A build's progress on a terminal.

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
            # To the line's beginning first: the terminal may have written ^C where the cursor was.
            self.out.write(f"\r\x1b[{self._drawn}A\x1b[J")
        self._drawn = 0

    def _draw(self, *, last: bool = False, failed: bool = False) -> None:
        rows, columns = terminal.size(terminal.STDERR)
        rows, columns = rows or 24, columns or 80
        lines = self._lines(columns, last=last)
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

    def _lines(self, columns: int, *, last: bool) -> list[str]:
        lines = []
        for step in sorted(self.steps.values(), key=lambda step: step.number):
            state = "CACHED " if step.cached else "ERROR " if step.failed else ""
            if last and step.seconds is None:
                state = "CANCELED "
            time_text = f"{step.took:.1f}s"
            room = columns - len(time_text) - 2
            text = f" => {state}{self.label(step)}"
            text = text if len(text) <= room else text[: room - 1] + "…"
            colour = _RED if step.failed else _BLUE if step.seconds is not None else ""
            lines.append(self._paint(f"{text:<{room}} {time_text}", colour))
            if step.seconds is None and not last:
                shown = [*step.lines[-_TAIL:], *([step.rest] if step.rest else [])][-_TAIL:]
                lines += [self._paint(f" => => # {printable(line)}"[: columns - 1], _DIM) for line in shown]
        if self._pulling and not last:
            lines.append(self._paint(f" => => {self._pulling}"[: columns - 1], _DIM))
        return lines

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_PLAIN}" if colour and self._colour else text


# A line on the terminal while work goes on of which the engine tells nothing before its end.

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
