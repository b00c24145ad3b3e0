"""`wherry export`."""

from __future__ import annotations

import os

from wherry.cli import terminal
from wherry.cli.command import Command, CommandError, exactly
from wherry.cli.flags import string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.client.connection import Response


def run_export(session: Session, options: Options) -> None:
    from wherry.client.client import container_path

    path = options["output"]
    if not path and terminal.is_terminal(terminal.STDOUT):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if path and os.path.isdir(path):
        raise CommandError(f"failed to export container: cannot write to a directory: {path}")
    response = session.client.request("GET", container_path(options.arguments[0], "export"))
    if path:
        save(response, path)
    else:
        copy(response, terminal.STDOUT)


def copy(response: Response, descriptor: int) -> None:
    """The whole body, written as it comes."""
    from wherry.client.streams import write_all

    while piece := response.piece():
        write_all(descriptor, [piece])


def save(response: Response, path: str) -> None:
    """The body as a file that is there whole, or not at all. Raises CommandError."""
    beside = f"{path}.{os.getpid()}.part"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"failed to export container: open {path}: {(error.strerror or '').lower()}") from None
    try:
        copy(response, descriptor)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    finally:
        os.close(descriptor)


EXPORT = Command(
    "export [OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    run_export,
    flags=[string("output", "o", "Write to a file, instead of STDOUT")],
    arguments=exactly(1),
    aliases="wherry container export, wherry export",
)
