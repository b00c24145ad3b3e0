"""Tar archives out of the engine and into it: save, export, load, import; and a volume's content."""

from __future__ import annotations

import os
import sys

from wherry.cli import terminal
from wherry.cli.build_progress import Working
from wherry.cli.session import CommandError, OutputFile, Session, command, reason
from wherry.client.client import container_path
from wherry.client.streams import pass_on, read_pieces
from wherry.common import flags, platforms
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.blocking import Response

_OUTPUT = flags.string("output", "o", "Write to a file, instead of STDOUT")


@command(_OUTPUT, flags.platform("Save only the given platform variant."))
def run_save(session: Session, options: Options) -> None:
    platform = platforms.parse_json(options["platform"], "invalid platform: ")
    if "" in options.arguments:
        raise CommandError("Error response from daemon: invalid reference format")
    write(session, "/images/get", options["output"], "save image", names=options.arguments, platform=platform)


@command(_OUTPUT)
def run_export(session: Session, options: Options) -> None:
    write(session, container_path(options.arguments[0], "export"), options["output"], "export container")


def write(session: Session, path: str, output: str, what: str, **query: Any) -> None:
    """Writes what the engine has at `path` to a file, whole or not at all, or to standard output where that is "".

    Raises CommandError for a terminal, and for a place that no file can be put at.
    """
    if not output:
        if terminal.is_terminal(terminal.STDOUT):
            raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        with Working("Writing", terminal.STDOUT):
            pass_on(session.client.request("GET", path, query=query), terminal.STDOUT)
        return
    try:
        file = OutputFile(output)
    except ValueError as error:
        raise CommandError(f"failed to {what}: {error}") from None
    with file as descriptor, Working("Writing", descriptor):
        pass_on(session.client.request("GET", path, query=query), descriptor)


@command(
    flags.string("input", "i", "Read from tar archive file, instead of STDIN"),
    flags.platform("Load only the given platform variant."),
    flags.switch("quiet", "q", "Suppress the load output"),
)
def run_load(session: Session, options: Options) -> None:
    path, platform = options["input"], platforms.parse_json(options["platform"], "invalid platform: ")
    if not path and terminal.is_terminal(terminal.STDIN):
        raise CommandError("requested load from stdin, but stdin is empty")
    quiet = options["quiet"] or not terminal.is_terminal(terminal.STDOUT)
    _show(send(session, "/images/load", path or "-", quiet=int(quiet), platform=platform))


@command(
    flags.strings("change", "c", "Apply Dockerfile instruction to the created image"),
    flags.string("message", "m", "Set commit message for imported image"),
    flags.string("platform", "", "Set platform if server is multi-platform capable"),
    arguments=(1, None),
)
def run_import(session: Session, options: Options) -> None:
    from wherry.common.reference import parse

    source, name, *_ = [*options.arguments, ""]
    if name:
        parse(name)
    query = {
        "fromSrc": source if _is_remote(source) else "-",
        "repo": name,
        "message": options["message"],
        "platform": options["platform"],
        "changes": options["change"],
    }
    _show(send(session, "/images/create", source, telling="Importing", **query))


def send(session: Session, path: str, archive: str, *, telling: str = "", **query: Any) -> Response:
    """POSTs an archive: a file, or "-" for standard input. Of an address nothing is sent: the engine fetches it.

    ``telling`` is how the work is called on a terminal, where the engine's answer does not tell of it.
    """
    descriptor = terminal.STDIN
    if archive != "-":
        try:
            descriptor = os.open(os.devnull if _is_remote(archive) else archive, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CommandError(f"open {archive}: {reason(error)}") from None
    headers = {"Content-Type": "application/x-tar"}
    data, size = read_pieces(descriptor), _size(descriptor)
    with Working(telling, descriptor):
        return session.client.request("POST", path, query=query, data=data, size=size, headers=headers)


def _is_remote(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _size(descriptor: int) -> int | None:
    """How much there is to read from a file; None from a pipe."""
    import stat

    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return None
    return max(found.st_size - os.lseek(descriptor, 0, os.SEEK_CUR), 0)


def _show(response: Response) -> None:
    """The engine's progress; an answer that is no JSON is shown as it is."""
    from wherry.cli.registry import show_progress

    if response.headers.get("content-type", "").startswith("application/json"):
        show_progress(response.values(), sys.stdout)
    else:
        sys.stdout.write(response.read().decode("utf-8", "surrogateescape"))
