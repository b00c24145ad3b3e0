"""`wherry export`."""

from __future__ import annotations

from wherry.cli import terminal
from wherry.cli.command import Command, CommandError, exactly
from wherry.cli.flags import string
from wherry.client.client import container_path
from wherry.client.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.client.connection import Response


def run_export(session: Session, options: Options) -> None:
    path = container_path(options.arguments[0], "export")
    save(lambda: session.client.request("GET", path), options["output"], "container")


def save(archive: Callable[[], Response], path: str, what: str) -> None:
    """Writes the body of a response to the file `path`, whole or not at all, or to standard output where that is "".

    Raises CommandError for a terminal, and for a place that no file can be put at.
    """
    if not path:
        if terminal.is_terminal(terminal.STDOUT):
            raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        _copy(archive(), terminal.STDOUT)
        return
    from wherry.cli.output_file import OutputFile

    try:
        file = OutputFile(path)
    except ValueError as error:
        raise CommandError(f"failed to export {what}: {error}") from None
    with file as descriptor:
        _copy(archive(), descriptor)


def _copy(response: Response, descriptor: int) -> None:
    """The whole body, written as it comes."""
    while piece := response.piece():
        write_all(descriptor, [piece])


EXPORT = Command(
    "export [OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    run_export,
    flags=[string("output", "o", "Write to a file, instead of STDOUT")],
    arguments=exactly(1),
    aliases="wherry container export, wherry export",
)
