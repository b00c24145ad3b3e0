"""A build's context as a tar, piece by piece as it is read: a folder without what its .dockerignore leaves out."""

from __future__ import annotations

import os
import stat

from wherry.client.pack import Packer
from wherry.client.transport import ClientError
from wherry.common.ignore import InvalidPattern, PatternMatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.client.pack import Pieces

# What a Dockerfile that is no file of the folder is called in the tar; the engine hides it when it hears of it.
OUTSIDE = ".dockerfile.wherry"
_IGNORE_FILE = ".dockerignore"
_DEFAULT = "Dockerfile"


def pack(directory: str, dockerfile: str = "", text: bytes | None = None, ignore_text: bytes | None = None) -> Pieces:
    """The Dockerfile ("" for the usual names) and .dockerignore are always in it: the engine needs them.

    `text` is a Dockerfile from elsewhere, to be found under that name, `ignore_text` the .dockerignore beside it.
    Raises ClientError for what cannot be read.
    """
    name = dockerfile or _DEFAULT
    ignore = _ignore_rules(directory, name, ignore_text)
    needed = (name, _DEFAULT.lower(), _IGNORE_FILE, f"{name}{_IGNORE_FILE}")
    packer = Packer()
    try:
        for path, member, facts in _walk(directory, "", ignore, needed):
            yield from packer.member(path, member, facts)
    except OSError as error:
        raise ClientError(f"error reading the context: {error.filename}: {error.strerror}") from None
    for path, content in ((name, text), (f"{name}{_IGNORE_FILE}", ignore_text)):
        if content is not None:
            yield from packer.text(path, content)
    yield packer.end()


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
        if not left_out:
            yield entry.path, name, facts
        if stat.S_ISDIR(facts.st_mode) and not (left_out and ignore.matches_below(name)):
            yield from _walk(entry.path, f"{name}/", ignore, needed)
