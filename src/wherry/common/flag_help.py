"""Flags as --help shows them: in columns wrapped to the terminal, laid out as docker's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.common.flags import Flag


def options_of(flags: Iterable[Flag]) -> str:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden or flag.deprecated:
            continue
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind:
            left += f" {flag.kind}"
        rows.append((left, flag.usage + (f" (default {flag.show})" if flag.show else "")))
    if not rows:
        return ""
    column = max(len(left) for left, _ in rows) + 3
    width = _terminal_width() - 1
    return "\n".join(f"{left:<{column}}{_wrapped(text, column, width)}".rstrip() for left, text in rows)


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(0).columns or 80
    except OSError:
        return 80


def _wrapped(text: str, indent: int, width: int) -> str:
    """Text wrapped to `width`, its first line already indented; a last line of a few letters is not left alone."""
    room = width - indent
    slop = 5
    lines = []
    if room < 24:
        indent, room = 16, width - 16
        if room < 24:
            return text.replace("\n", " ")
        lines.append("")
    while text:
        line, text = _first_line(text, room - slop, slop)
        lines += line.split("\n")
    return ("\n" + " " * indent).join(lines)


def _first_line(text: str, room: int, slop: int) -> tuple[str, str]:
    if room + slop > len(text):
        return text, ""
    window = text[:room]
    cut = max(window.rfind(" "), window.rfind("\t"), window.rfind("\n"))
    if cut <= 0:
        return text, ""
    newline = window.rfind("\n")
    if 0 < newline < cut:
        cut = newline
    return text[:cut], text[cut + 1 :]
