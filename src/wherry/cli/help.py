"""--help, laid out as docker's: usage, description, aliases, options in columns wrapped to the terminal."""

from __future__ import annotations

from wherry.cli.commands import COMMON, TOP, Entry, Group
from wherry.common.flag_help import options_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wherry.common.flags import Flag

PROGRAM = "wherry"
DESCRIPTION = "A container engine: builds, ships and runs containers"
_NAME_WIDTH = 11


def of_command(path: str, entry: Entry) -> str:
    """`path` is how the command was called: "wherry container stop"."""
    command = entry.load()
    parts = [f"Usage:  {command.usage(path, entry.usage)}", command.description or entry.short]
    if entry.aliases:
        parts.append(f"Aliases:\n  {entry.aliases}")
    options = options_of(command.flags)
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
        f"Global Options:\n{options_of(flags)}\n\n"
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
