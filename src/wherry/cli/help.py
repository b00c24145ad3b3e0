"""--help, laid out as docker's: usage, description, aliases, options in columns wrapped to the terminal."""

from __future__ import annotations

import os

from wherry.cli.commands import COMMON, TOP, Entry, Group
from wherry.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM = "wherry"
DESCRIPTION = "A container engine: builds, ships and runs containers"

# Where a flag's type and its default are shown, the default must not be what "nothing" means for the type.
_NAME_WIDTH = 11


def of_command(path: str, entry: Entry) -> str:
    """`path` is how the command was called: "wherry container stop"."""
    command = entry.load()
    parts = [f"Usage:  {command.usage(path, entry.usage)}", command.description or entry.short]
    if entry.aliases:
        parts.append(f"Aliases:\n  {entry.aliases}")
    options = _options(command.flags)
    if options:
        parts.append(f"Options:\n{options}")
    return "\n\n".join(parts) + "\n"


def of_group(path: str, group: Group) -> str:
    return (
        f"Usage:  {path} COMMAND\n\n{group.short}\n\n"
        f"Commands:\n{_listing(group.commands)}\n\n"
        f"Run '{path} COMMAND --help' for more information on a command.\n"
    )


def of_program(flags: Iterable[Flag]) -> str:
    common = {name: TOP[name] for name in COMMON if name in TOP}
    groups = {name: entry for name, entry in TOP.items() if isinstance(entry, Group)}
    rest = {name: entry for name, entry in TOP.items() if name not in common and name not in groups}
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\n{DESCRIPTION}\n\n"
        f"Common Commands:\n{_listing(common, in_order=True)}\n\n"
        f"Management Commands:\n{_listing(groups)}\n\n"
        f"Commands:\n{_listing(rest)}\n\n"
        f"Global Options:\n{_options(flags)}\n\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )


def _listing(entries: Mapping[str, Entry | Group], *, in_order: bool = False) -> str:
    names = list(entries) if in_order else sorted(entries)
    shown = [(name, entries[name]) for name in names]
    return "\n".join(
        f"  {name:<{_NAME_WIDTH}} {entry.short}"
        for name, entry in shown
        if not (isinstance(entry, Entry) and entry.hidden)
    )


def _options(flags: Iterable[Flag]) -> str:
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
