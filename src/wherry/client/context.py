"""A build's context as a tar, piece by piece as it is read: a folder without what its .dockerignore leaves out."""

from __future__ import annotations

import os
import stat
import tarfile

from wherry.client.transport import ClientError
from wherry.common.ignore import InvalidPattern, PatternMatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What a Dockerfile that is no file of the folder is called in the tar; the engine hides it when it hears of it.
OUTSIDE = ".dockerfile.wherry"
_PIECE = 1 << 20
_IGNORE_FILE = ".dockerignore"
_DEFAULT = "Dockerfile"


def pack(
    directory: str, dockerfile: str = "", text: bytes | None = None, ignore_text: bytes | None = None
) -> Iterator[bytes]:
    """The Dockerfile ("" for the usual names) and .dockerignore are always in it: the engine needs them.

    `text` is a Dockerfile from elsewhere, to be found under that name, `ignore_text` the .dockerignore beside it.
    Raises ClientError for what cannot be read.
    """
    name = dockerfile or _DEFAULT
    ignore = _ignore_rules(directory, name, ignore_text)
    needed = (name, _DEFAULT.lower(), _IGNORE_FILE, f"{name}{_IGNORE_FILE}")
    linked: dict[tuple[int, int], str] = {}
    try:
        for path, member, facts in _walk(directory, "", ignore, needed):
            yield from _member(path, member, facts, linked)
    except OSError as error:
        raise ClientError(f"error reading the context: {error.filename}: {error.strerror}") from None
    for path, content in ((name, text), (f"{name}{_IGNORE_FILE}", ignore_text)):
        if content is not None:
            header = tarfile.TarInfo(path)
            header.size = len(content)
            yield header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _ignore_rules(directory: str, dockerfile: str, given: bytes | None) -> PatternMatcher:
    if given is not None:
        return _parse(given.decode(errors="replace"), "the .dockerignore beside the Dockerfile")
    for name in (f"{dockerfile}{_IGNORE_FILE}", _IGNORE_FILE):
        try:
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
                return _parse(file.read(), name)
        except OSError:
            continue
    return PatternMatcher()


def _parse(text: str, name: str) -> PatternMatcher:
    try:
        return PatternMatcher.parse(text, name)
    except InvalidPattern as error:
        raise ClientError(error.message) from None


def _walk(
    directory: str, below: str, ignore: PatternMatcher, needed: tuple[str, ...]
) -> Iterator[tuple[str, str, os.stat_result]]:
    with os.scandir(directory) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{below}{entry.name}"
        facts = entry.stat(follow_symlinks=False)
        left_out = ignore.matches(name) and name not in needed
        if stat.S_ISSOCK(facts.st_mode) or (left_out and not stat.S_ISDIR(facts.st_mode)):
            continue
        if not left_out:
            yield entry.path, name, facts
        if stat.S_ISDIR(facts.st_mode) and not (left_out and ignore.matches_below(name)):
            yield from _walk(entry.path, f"{name}/", ignore, needed)


def _member(path: str, name: str, facts: os.stat_result, linked: dict[tuple[int, int], str]) -> Iterator[bytes]:
    """`linked` are the first names of files that have several."""
    header = tarfile.TarInfo(name)
    header.mode, header.mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime)
    if stat.S_ISDIR(facts.st_mode):
        header.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(facts.st_mode):
        header.type, header.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISFIFO(facts.st_mode):
        header.type = tarfile.FIFOTYPE
    elif not stat.S_ISREG(facts.st_mode):
        return  # devices are of no use in a context
    elif facts.st_nlink > 1 and linked.setdefault((facts.st_dev, facts.st_ino), name) != name:
        header.type, header.linkname = tarfile.LNKTYPE, linked[facts.st_dev, facts.st_ino]
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
                raise ClientError(f"{path}: became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-header.size % tarfile.BLOCKSIZE)
