"""What is built from: a folder, a tar on standard input, an address that the engine fetches itself.

A folder on the engine's own machine is named instead of sent, where the engine may trust this user: it runs as the same
one. Otherwise it is sent as a tar, without what .dockerignore leaves out.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tarfile

from wherry.cli.building.ignore import Ignore
from wherry.cli.command import CommandError
from wherry.cli.output_file import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.client.client import Client

_GIT = re.compile(r"(?:git://|git@|ssh://|(?:https?://)?github\.com/|https?://[^#?]+\.git(?:[#?]|$))")
_PIECE = 1 << 20
_IGNORE_FILE = ".dockerignore"
_OUTSIDE = ".dockerfile.wherry"  # what a Dockerfile from outside is called in a tar


class Context:
    """`data` is the body of the request, None for none; `query` and `headers` are what the request says of it."""

    def __init__(
        self,
        data: Iterable[bytes | memoryview] | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.query = query or {}
        self.headers = headers or {}


def find(client: Client, path: str, dockerfile: str) -> Context:
    """The context that the command line names, with its Dockerfile ("" for the usual one, "-" on standard input).

    Raises CommandError.
    """
    if path == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return Context(_pieces(0), {"dockerfile": dockerfile} if dockerfile else {})
    if _GIT.match(path) or path.startswith(("http://", "https://")):
        if dockerfile == "-":
            raise CommandError("a Dockerfile on standard input needs a folder as its context")
        return Context(None, {"remote": path} | ({"dockerfile": dockerfile} if dockerfile else {}))
    directory = os.path.realpath(path)
    if not os.path.isdir(directory):
        raise CommandError(f'unable to prepare context: path "{path}" not found')
    name, text = _dockerfile(directory, dockerfile)
    if _is_on_this_machine(client):
        return _named(directory, name, text)
    if text is not None:
        name = _OUTSIDE
    return Context(_pack(directory, name, text), {"dockerfile": name} if name else {})


def _dockerfile(directory: str, dockerfile: str) -> tuple[str, bytes | None]:
    """The Dockerfile's name in the context, or its text, when it is not in there."""
    if not dockerfile:
        return "", None
    if dockerfile == "-":
        return "Dockerfile", sys.stdin.buffer.read()
    path = os.path.realpath(dockerfile)
    if not os.path.isfile(path) and os.path.isfile(os.path.join(directory, dockerfile)):
        path = os.path.realpath(os.path.join(directory, dockerfile))
    relative = os.path.relpath(path, directory)
    if not relative.startswith("../") and os.path.exists(path):
        return relative, None
    try:
        with open(path, "rb") as file:
            return os.path.basename(path), file.read()
    except OSError as error:
        raise CommandError(f"unable to evaluate Dockerfile path: open {dockerfile}: {reason(error)}") from None


def _is_on_this_machine(client: Client) -> bool:
    """Whether the engine listens on a unix socket that is this user's own."""
    if client.host.scheme != "unix":
        return False
    try:
        return os.stat(client.host.path).st_uid == os.geteuid()
    except OSError:
        return os.geteuid() == 0  # it is about to be started


def _named(directory: str, name: str, text: bytes | None) -> Context:
    facts = os.stat(directory)
    headers = {
        "X-Wherry-Context": _base64(os.fsencode(directory)),
        "X-Wherry-Context-Identity": f"{facts.st_dev}:{facts.st_ino}",
    }
    if text is not None:
        headers["X-Wherry-Dockerfile"] = _base64(text)
    return Context(None, {"dockerfile": name} if name else {}, headers)


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _PIECE):
        yield piece


def _pack(directory: str, dockerfile: str, text: bytes | None) -> Iterator[bytes]:
    """A tar of the folder. The Dockerfile and .dockerignore are always in it: the engine needs them."""
    ignore = _ignore_rules(directory, dockerfile)
    needed = (dockerfile or "Dockerfile", "dockerfile", _IGNORE_FILE, f"{dockerfile or 'Dockerfile'}{_IGNORE_FILE}")
    try:
        for path, name, facts in _walk(directory, "", ignore, needed):
            yield from _member(path, name, facts)
    except OSError as error:
        raise CommandError(f"error reading the context: {error.filename}: {reason(error)}") from None
    if text is not None:
        header = tarfile.TarInfo(dockerfile)
        header.size = len(text)
        yield header.tobuf(tarfile.PAX_FORMAT) + text + bytes(-len(text) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _ignore_rules(directory: str, dockerfile: str) -> Ignore:
    for name in (f"{dockerfile or 'Dockerfile'}{_IGNORE_FILE}", _IGNORE_FILE):
        try:
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
                return Ignore(file.read())
        except OSError:
            continue
        except ValueError as error:
            raise CommandError(f"{name}: {error}") from None
    return Ignore("")


def _walk(
    directory: str, below: str, ignore: Ignore, needed: tuple[str, ...]
) -> Iterator[tuple[str, str, os.stat_result]]:
    with os.scandir(directory) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{below}{entry.name}"
        facts = entry.stat(follow_symlinks=False)
        left_out = ignore.leave_out(name) and name not in needed
        if stat.S_ISSOCK(facts.st_mode) or (left_out and not stat.S_ISDIR(facts.st_mode)):
            continue
        if not left_out:
            yield entry.path, name, facts
        if stat.S_ISDIR(facts.st_mode) and not (left_out and ignore.leave_out_all(name)):
            yield from _walk(entry.path, f"{name}/", ignore, needed)


def _member(path: str, name: str, facts: os.stat_result) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.mode, header.mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime)
    if stat.S_ISDIR(facts.st_mode):
        header.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(facts.st_mode):
        header.type, header.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif not stat.S_ISREG(facts.st_mode):
        return  # devices and pipes are of no use in a context
    else:
        header.size = facts.st_size
    yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if not header.size:
        return
    with open(path, "rb", buffering=0) as file:
        left = header.size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise CommandError(f"{path}: became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-header.size % tarfile.BLOCKSIZE)
