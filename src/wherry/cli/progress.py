"""The progress of long work (pull, load, import, push, build), which the engine tells as a stream of JSON messages.

On a terminal each thing that is worked on has a line of its own, with a bar; in a pipe there is a line a step.
"""

from __future__ import annotations

import os
import time

from wherry.cli import terminal
from wherry.client.errors import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

BAR = 50
# The widths from which on there is room for the bar, and for the speed and the time that is left.
ROOM_FOR_BAR, ROOM_FOR_TIME = 115, 50
SOONEST = 0.5  # seconds after which a speed means something


def show(messages: Iterable[dict[str, Any]], out: TextIO | None) -> None:
    """Shows the messages as they come, None nowhere. Raises WorkFailed with the engine's text."""
    drawer = _Drawer(out) if out else None
    for message in checked(messages):
        if drawer and message.get("aux") is None:
            drawer.draw(message)
    if out:
        out.flush()


class _Drawer:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: dict[str, int] = {}  # the line of each thing that is worked on, from the first
        self._begun: dict[str, tuple[float, int]] = {}  # by the text of each step: since when, and the bytes then
        try:
            descriptor = out.fileno()
        except (OSError, ValueError):
            descriptor = -1
        self._terminal = descriptor >= 0 and terminal.is_terminal(descriptor)
        self._descriptor = descriptor

    def draw(self, message: dict[str, Any]) -> None:
        name, detail = message.get("id", ""), message.get("progressDetail")
        up = 0
        if name and (detail is not None or message.get("progress")):
            if name not in self._lines:
                self._lines[name] = len(self._lines)
                self._write("\n" if self._terminal else "")
            up = len(self._lines) - self._lines[name]
        else:
            # Other output moves everything; what was drawn before stays as it is.
            self._lines.clear()
        if not self._terminal:
            self._plain(message, name, detail)
            return
        self._write(f"\x1b[{up}A" if up else "")
        self._write(self._text(message, name, detail))
        self._write(f"\x1b[{up}B" if name and up else "")
        self._out.flush()

    def _plain(self, message: dict[str, Any], name: str, detail: dict[str, Any] | None) -> None:
        if detail and (detail.get("current", 0) > 0 or detail.get("total", 0) > 0):
            return  # only a terminal can show how far it is
        self._write(self._text(message, name, None))

    def _text(self, message: dict[str, Any], name: str, detail: dict[str, Any] | None) -> str:
        if message.get("stream"):
            return str(message["stream"])
        text = (f"{name}: " if name else "") + str(message.get("status", ""))
        if detail is None:
            return text + "\n"
        return f"\x1b[2K\r{text} {self._bar(text, detail)}\r"

    def _bar(self, text: str, detail: dict[str, Any]) -> str:
        from wherry.cli.formatting import human_size

        current, total, units = detail.get("current", 0), detail.get("total", 0), detail.get("units", "")
        if current <= 0 and total <= 0:
            return ""
        shown = f"{current} {units}" if units else f"{human_size(current):>8}"
        if total <= 0:
            return shown
        width = os.get_terminal_size(self._descriptor).columns
        filled = min(BAR, int(current / total * BAR))
        bar = f"[{'=' * filled}>{' ' * (BAR - filled)}] " if width > ROOM_FOR_BAR else ""
        if current <= total:
            shown = f"{current}/{total} {units}" if units else f"{human_size(current):>8}/{human_size(total)}"
        speed = 0.0 if units else self._speed(text, current)
        if width > ROOM_FOR_TIME and speed and current < total:
            shown += f" {human_size(int(speed))}/s {round((total - current) / speed)}s"
        return bar + ("" if detail.get("hidecounts") else shown)

    def _speed(self, what: str, current: int) -> float:
        """Bytes a second since this step of this thing began, or began anew; 0 while there is none to tell."""
        now = time.monotonic()
        since, at_first = self._begun.setdefault(what, (now, current))
        if current < at_first:
            self._begun[what] = now, current
        return (current - at_first) / (now - since) if now - since >= SOONEST else 0.0

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
