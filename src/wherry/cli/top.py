"""`wherry top`."""

from __future__ import annotations

from wherry.cli.command import Command, at_least

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options

WIDTH, GAP = 20, 3  # of a column at least, and between two


def run_top(session: Session, options: Options) -> None:
    from wherry.client.client import container_path

    container, *arguments = options.arguments
    found = session.client.get(container_path(container, "top"), ps_args=" ".join(arguments) or None)
    print(columns([found["Titles"], *(found["Processes"] or ())]))


def columns(rows: list[list[str]]) -> str:
    """Rows in columns; the last one is as wide as it is."""
    count = max((len(row) for row in rows), default=0)
    widths = [
        max(WIDTH, max((len(row[number]) for row in rows if number < len(row) - 1), default=0) + GAP)
        for number in range(count)
    ]
    return "\n".join(
        "".join(cell.ljust(widths[number]) for number, cell in enumerate(row[:-1])) + (row[-1] if row else "")
        for row in rows
    )


TOP = Command(
    "top CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    run_top,
    arguments=at_least(1),
    aliases="wherry container top, wherry top",
    interspersed=False,
)
