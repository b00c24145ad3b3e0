"""A build's progress, on standard error: a log of its steps here, and in ``live`` the lines of a terminal."""

from __future__ import annotations

import sys
import time

from wherry.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        elif kind == "warned":
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
        from wherry.cli.building.live import Live

        return Live(sys.stderr)
    return Plain(sys.stderr)
