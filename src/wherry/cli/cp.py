"""`cp`: files between a container and here."""

from __future__ import annotations

import posixpath
import sys
import time

from wherry.cli import terminal
from wherry.cli.session import CommandError, Session, command
from wherry.client.streams import pass_on, read_pieces
from wherry.client.transport import APIError
from wherry.common import flags
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wherry.cli.copy_paths import Place

REDRAW = 0.075  # seconds between two states of the progress, as docker's


@command(
    flags.switch("archive", "a", "Archive mode (copy all uid/gid information)"),
    flags.switch("follow-link", "L", "Always follow symlinks in SRC_PATH"),
    flags.switch(
        "quiet",
        "q",
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    ),
    also="wherry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    description="""Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.""",
)
def run_cp(session: Session, options: Options) -> None:
    source, destination = options.arguments
    if not source:
        raise CommandError("source can not be empty")
    if not destination:
        raise CommandError("destination can not be empty")
    from_container, source = split_argument(source)
    to_container, destination = split_argument(destination)
    if from_container and to_container:
        raise CommandError("copying between containers is not supported")
    if from_container:
        _copy_out(session, options, from_container, source, destination)
    elif to_container:
        _copy_in(session, options, source, to_container, destination)
    else:
        raise CommandError("must specify at least one container source")


def split_argument(text: str) -> tuple[str, str]:
    """The container, "" for none, and the path. What begins with / or . is a local path, whatever colons it has."""
    container, colon, path = text.partition(":")
    if text.startswith("/") or not colon or container.startswith("."):
        return "", text
    return container, path


def _copy_out(session: Session, options: Options, container: str, path: str, destination: str) -> None:
    from wherry.cli import copy_paths
    from wherry.client.nouns import containers as nouns

    if destination != "-":
        destination = copy_paths.absolute(destination)
        copy_paths.check_output(destination)
    name = ""
    if options["follow-link"]:
        path, name = _followed(session, container, path)
    found, response = session.client.containers.get_archive(container, path)
    if destination == "-":
        sys.stdout.flush()
        pass_on(response, terminal.STDOUT)
        return
    source = copy_paths.Place(path, is_directory=bool(found["mode"] & nouns.DIRECTORY), name=name)
    directory, old, new = copy_paths.arrange(source, copy_paths.local_destination(destination))
    if name and not old:  # the link's name goes before its target's, even where nothing else is renamed
        old, new = copy_paths.split(path)[1], name
    elif name:
        old = copy_paths.split(path)[1]
    from wherry.cli.tar import Unpacker

    with _Progress(options, "Copying from container - ") as progress:
        Unpacker(directory, old, new, keep_owners=options["archive"]).unpack(progress.counting(response.piece))
        while response.piece():
            pass  # the padding behind the archive's end
    progress.tell(destination)


def _followed(session: Session, container: str, path: str) -> tuple[str, str]:
    """What a link of a container leads to, and the name to copy that under."""
    from wherry.cli import copy_paths
    from wherry.client.nouns import containers as nouns

    try:
        found = session.client.containers.stat_path(container, path)
    except APIError:
        return path, ""  # what is wrong is told when it is fetched
    if not found["mode"] & nouns.SYMLINK:
        return path, ""
    return copy_paths.renamed(path, posixpath.join(copy_paths.split(path)[0], found["linkTarget"]))


def _copy_in(session: Session, options: Options, path: str, container: str, destination: str) -> None:
    from wherry.cli import copy_paths

    keep_owners = options["archive"]
    if path != "-":
        path = copy_paths.absolute(path)
    place = _destination(session, container, destination)
    if path == "-":
        if not place.is_directory:
            raise CommandError(f'destination "{container}:{destination}" must be a directory')
        data = read_pieces(terminal.STDIN)
        session.client.containers.put_archive(container, place.path, data, keep_owners=keep_owners)
        return
    source = copy_paths.local_source(path, follow=options["follow-link"])
    directory, old, new = copy_paths.arrange(source, place)
    from wherry.client.pack import pack

    top = new if old else source.name or copy_paths.split(source.path)[1]
    with _Progress(options, "Copying to container - ") as progress:
        pieces = progress.passing(pack(source.path, top))
        session.client.containers.put_archive(container, directory, pieces, keep_owners=keep_owners)
    progress.tell(f"{container}:{place.path}")


def _destination(session: Session, container: str, path: str) -> Place:
    """A place of a container; a link stands for its target. What cannot be looked at is taken not to be there."""
    from wherry.cli import copy_paths
    from wherry.client.nouns import containers as nouns

    resolved = path
    try:
        found = session.client.containers.stat_path(container, path)
        if found["mode"] & nouns.SYMLINK:
            resolved = posixpath.join(copy_paths.split(path)[0], found["linkTarget"])
            found = session.client.containers.stat_path(container, resolved)
    except APIError:
        return copy_paths.Place(resolved, exists=False)
    mode = found["mode"]
    if mode & (nouns.DEVICE | nouns.IRREGULAR):
        what = "a device" if mode & nouns.DEVICE else "an irregular file"
        raise CommandError(f'destination "{container}:{path}" must be a directory or a regular file: got {what}')
    return copy_paths.Place(resolved, is_directory=bool(mode & nouns.DIRECTORY))


class _Progress:
    """How much has been copied, on a terminal; the line is gone when the copy ends."""

    def __init__(self, options: Options, header: str) -> None:
        chosen = options["quiet"] if options.changed("quiet") else not terminal.is_terminal(terminal.STDOUT)
        self._quiet: bool = chosen
        self._draws = not chosen and terminal.is_terminal(terminal.STDERR)
        self._header = header
        self._copied = 0
        self._drawn = 0.0

    def __enter__(self) -> _Progress:
        if self._draws:
            self._write("\x1b[?25l")
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self._draws:
            self._write("\r\x1b[2K\x1b[?25h")

    def tell(self, place: str) -> None:
        """The line that stays."""
        if not self._quiet:
            self._write(f"Successfully copied {self._size()} to {place}\n")

    def counting(self, source: Callable[[], memoryview]) -> Callable[[], memoryview]:
        def take() -> memoryview:
            piece = source()
            self._count(len(piece))
            return piece

        return take

    def passing(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for piece in pieces:
            yield piece
            self._count(len(piece))

    def _count(self, size: int) -> None:
        self._copied += size
        if self._draws and time.monotonic() - self._drawn >= REDRAW:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._write(f"\r\x1b[2K{self._header}{self._size()}")

    def _size(self) -> str:
        from wherry.common.sizes import human_size

        return human_size(self._copied, 3)

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
