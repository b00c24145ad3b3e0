"""`wherry export`."""

from __future__ import annotations

from wherry.cli import terminal
from wherry.cli.command import Command, CommandError, exactly
from wherry.cli.flags import string
from wherry.client.client import container_path
from wherry.client.streams import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.client.connection import Response


def run_export(session: Session, options: Options) -> None:
    path = options["output"]
    if not path:
        if terminal.is_terminal(terminal.STDOUT):
            raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        _copy(_archive(session, options), terminal.STDOUT)
        return
    from wherry.cli.output_file import OutputFile

    try:
        file = OutputFile(path)
    except ValueError as error:
        raise CommandError(f"failed to export container: {error}") from None
    with file as descriptor:
        _copy(_archive(session, options), descriptor)


def _archive(session: Session, options: Options) -> Response:
    return session.client.request("GET", container_path(options.arguments[0], "export"))


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
