"""`save`: images as a tar archive that `load` reads."""

from __future__ import annotations

from wherry.cli import flags, terminal
from wherry.cli.command import Command, CommandError, at_least

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.client.connection import Response


def run_save(session: Session, options: Options) -> None:
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
        raise CommandError(f"failed to save image: {error}") from None
    with file as descriptor:
        _copy(_archive(session, options), descriptor)


def _archive(session: Session, options: Options) -> Response:
    return session.client.request("GET", "/images/get", query={"names": options.arguments})


def _copy(response: Response, descriptor: int) -> None:
    from wherry.client.streams import write_all

    while piece := response.piece():
        write_all(descriptor, [piece])


SAVE = Command(
    "save [OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    run_save,
    flags=[flags.string("output", "o", "Write to a file, instead of STDOUT")],
    arguments=at_least(1),
    aliases="wherry image save, wherry save",
)
