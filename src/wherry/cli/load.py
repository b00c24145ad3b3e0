"""`load` and `import`: images from tar archives, which are sent to the engine as they are read."""

from __future__ import annotations

import os
import sys

from wherry.cli import flags, terminal
from wherry.cli.command import NONE, Command, CommandError, at_least
from wherry.cli.output_file import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.client.connection import Response

PIECE = 1 << 20


def run_load(session: Session, options: Options) -> None:
    path = options["input"]
    if not path and terminal.is_terminal(terminal.STDIN):
        raise CommandError("requested load from stdin, but stdin is empty")
    source = open_archive(path) if path else terminal.STDIN
    quiet = options["quiet"] or not terminal.is_terminal(terminal.STDOUT)
    response = session.client.request(
        "POST",
        "/images/load",
        query={"quiet": quiet},
        data=pieces(source),
        size=size_of(source),
        headers={"Content-Type": "application/x-tar"},
    )
    _show(response)


def run_import(session: Session, options: Options) -> None:
    source, *names = options.arguments
    name = names[0] if names else ""
    _check_name(name)
    remote = source.startswith(("http://", "https://"))
    archive = open_archive(source)
    query = {
        "fromSrc": source if remote else "-",
        "repo": name or None,
        "message": options["message"] or None,
        "platform": options["platform"] or None,
        "changes": options["change"],
    }
    response = session.client.request(
        "POST",
        "/images/create",
        query=query,
        data=pieces(archive),
        size=size_of(archive),
        headers={"Content-Type": "application/x-tar"},
    )
    _show(response)


def _check_name(name: str) -> None:
    from wherry.cli.reference import parse

    if name:
        try:
            parse(name)
        except ValueError as error:
            raise CommandError(str(error)) from None


def open_archive(path: str) -> int:
    """A descriptor to read a file from; "-" is standard input."""
    if path == "-":
        return terminal.STDIN
    if path.startswith(("http://", "https://")):
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # the engine fetches it itself
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandError(f"open {path}: {reason(error)}") from None


def size_of(descriptor: int) -> int | None:
    """How much there is to read from a file; None from a pipe."""
    import stat

    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return None
    return max(found.st_size - os.lseek(descriptor, 0, os.SEEK_CUR), 0)


def pieces(descriptor: int) -> Iterator[memoryview]:
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        yield view[:count]


def _show(response: Response) -> None:
    """The engine's progress; an answer that is no JSON is shown as it is."""
    from wherry.cli import progress

    if response.headers.get("content-type", "").startswith("application/json"):
        progress.show(response.values(), sys.stdout)
    else:
        sys.stdout.write(response.read().decode("utf-8", "surrogateescape"))


LOAD = Command(
    "load [OPTIONS]",
    "Load an image from a tar archive or STDIN",
    run_load,
    flags=[
        flags.string("input", "i", "Read from tar archive file, instead of STDIN"),
        flags.switch("quiet", "q", "Suppress the load output"),
    ],
    arguments=NONE,
    aliases="wherry image load, wherry load",
)
IMPORT = Command(
    "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    run_import,
    flags=[
        flags.strings("change", "c", "Apply Dockerfile instruction to the created image"),
        flags.string("message", "m", "Set commit message for imported image"),
        flags.string("platform", "", "Set platform if server is multi-platform capable"),
    ],
    arguments=at_least(1),
    aliases="wherry image import, wherry import",
)
