"""Inside the worker: which files of a tree are meant by COPY's sources, and a digest of them.

The tree is a directory that somebody else has filled: a build's context, or an image. It is read by descriptors; a link
resolves inside of the tree.
"""

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wherry.common.ignore import PatternMatcher, Rule
from wherry.linux import files
from wherry.linux.syscalls import SyscallError
from wherry.storage.tar.writer import xattrs
from wherry.storage.worker.layer import Reported

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_WILD = re.compile(r"[*?\[\\]")


class Found(NamedTuple):
    """One source. ``path`` is relative to the tree and spelled as asked for; ``inner`` is what ``--parents`` keeps.

    ``real`` is where it lies when the links on the way are followed: what .dockerignore goes by.
    """

    path: str
    inner: str
    real: str
    facts: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.facts.st_mode)


class Entry(NamedTuple):
    """Something below a source: its path below it, and where it lies."""

    path: str
    directory: int
    name: str
    facts: os.stat_result


class Tree:
    """``root`` is a descriptor of it; ``ignored`` holds for its paths, ``excluded`` for those below each source.

    ``parents`` is COPY's: with it "**" in a source is any number of directories, without it a "*" like any other.
    ``follow``: a source that is a link means what it leads to.
    """

    def __init__(
        self,
        root: int,
        ignored: Iterable[Rule] = (),
        excluded: Iterable[Rule] = (),
        *,
        parents: bool = False,
        follow: bool = True,
    ) -> None:
        self._root = root
        self._ignored = PatternMatcher(ignored)
        self._excluded = PatternMatcher(excluded)
        self._parents = parents
        self._open = os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW

    def match(self, pattern: str) -> list[str]:
        """The paths that a pattern matches, or may, where its last name has no wildcards; links on the way followed."""
        return list(self._match("", _clean(pattern).split("/")))

    def find(self, pattern: str) -> list[Found]:
        """What a source stands for. Raises Reported for one without wildcards that is not there."""
        before, pivot, after = pattern.partition("/./")
        above, below = (_clean(before), _clean(after)) if pivot else ("", _clean(pattern))
        path = posixpath.join(above, below)
        if not _WILD.search(path):
            found = self._one(path, above)
            if found is None or self._is_ignored(found):
                reason = ": .dockerignore leaves it out" if found else ""
                raise Reported(f'"/{path}": not found{reason}', "missing")
            return [found]
        chosen: list[Found] = []
        for base in self._match("", above.split("/")) if above else ("",):
            for match in self._match(base, below.split("/")):
                found = self._one(match, base)
                if found is None:
                    self._check_link(match)
                elif not self._is_ignored(found) and not self._is_excluded(found):
                    chosen.append(found)
        return chosen

    def _check_link(self, path: str) -> None:
        """What a pattern matches is not there when its last names have no wildcards; or it is a link to nowhere."""
        directory, name = posixpath.split(path)
        if name in (each for each, _ in self._list(directory)) and not self._ignored.matches(path):
            raise Reported(f'"/{path}": not found: it is a link to what is not there', "missing")

    def _is_excluded(self, found: Found) -> bool:
        return not found.is_directory and self._excluded.matches(posixpath.basename(found.path))

    def _is_ignored(self, found: Found) -> bool:
        """A directory that is left out is not, as long as something in it may be taken back."""
        if not found.real or not self._ignored.matches(found.real):
            return False
        return not found.is_directory or self._ignored.matches_below(found.real)

    def _one(self, path: str, base: str) -> Found | None:
        try:
            fd = files.open_in(self._root, "/" + path, self._open)
        except SyscallError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            inner = path[len(base) :].lstrip("/") if base else path
            real = os.path.relpath(_place(fd), _place(self._root)) if self._ignored else path
            return Found(path, inner, "" if real == "." else real, os.fstat(fd))
        finally:
            os.close(fd)

    def _match(self, directory: str, names: list[str]) -> Iterator[str]:
        """The paths below ``directory`` that a pattern, parted at its slashes, matches, sorted."""
        name, *rest = names
        if name == "**" and self._parents:
            if rest:
                yield from self._match(directory, rest)
            for each, facts in self._list(directory):
                path = posixpath.join(directory, each)
                if stat.S_ISDIR(facts.st_mode):
                    yield from self._match(path, names)
                if not rest:
                    yield path
            return
        if not _WILD.search(name):
            path = posixpath.join(directory, name)
            if not rest:
                yield path
            else:
                yield from self._match(path, rest)
            return
        expression = translate(name)
        for each, _ in self._list(directory):
            if expression.fullmatch(each):
                path = posixpath.join(directory, each)
                if rest:
                    yield from self._match(path, rest)
                else:
                    yield path

    def _list(self, directory: str) -> list[tuple[str, os.stat_result]]:
        try:
            fd = files.open_in(self._root, "/" + directory, os.O_RDONLY | os.O_DIRECTORY)
        except SyscallError:
            return []
        try:
            return [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in sorted(os.listdir(fd))]
        finally:
            os.close(fd)

    def open(self, found: Found) -> int:
        """A descriptor of a source, to read."""
        flags = os.O_RDONLY | (os.O_DIRECTORY if found.is_directory else os.O_NONBLOCK)
        return files.open_in(self._root, "/" + found.path, flags)

    def read_link(self, found: Found) -> str:
        """Where a source leads that is a link itself."""
        fd = files.open_in(self._root, "/" + found.path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)

    def facts(self, path: str) -> os.stat_result:
        """What is known of a path in the tree, a last link followed."""
        fd = files.open_in(self._root, "/" + path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def walk(self, found: Found) -> Iterator[Entry]:
        """All that is below a source that is a directory, each directory before what is in it, sorted.

        A directory that is left out itself, but not all of what is in it, comes when the first of that does.
        """
        fd = self.open(found)
        try:
            yield from self._walk(fd, "", found.real)
        finally:
            os.close(fd)

    def _walk(self, fd: int, below: str, path: str) -> Iterator[Entry]:
        with os.scandir(fd) as scanned:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scanned)
        for name, is_directory in entries:
            inner = f"{below}/{name}" if below else name
            whole = f"{path}/{name}" if path else name
            left_out = self._ignored.matches(whole) or self._excluded.matches(inner)
            if not is_directory:
                if not left_out:
                    yield Entry(inner, fd, name, os.stat(name, dir_fd=fd, follow_symlinks=False))
                continue
            if left_out and (self._ignored.matches_below(whole) or self._excluded.matches_below(inner)):
                continue
            own = Entry(inner, fd, name, os.stat(name, dir_fd=fd, follow_symlinks=False))
            child = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
            try:
                below_it = self._walk(child, inner, whole)
                if left_out:
                    first = next(below_it, None)
                    if first is None:
                        continue
                    yield own
                    yield first
                else:
                    yield own
                yield from below_it
            finally:
                os.close(child)

    def digest(self, patterns: Iterable[str], *, owners: bool) -> str:
        """A digest of what the sources stand for: names, kinds, modes, contents, attributes, and ``owners``, not times.

        Of the names those count that are copied, wherever they came from.

        Raises Reported when a source is not there.
        """
        total = hashlib.sha256()
        for pattern in patterns:
            for found in self.find(pattern):
                name = found.inner if self._parents else "" if found.is_directory else posixpath.basename(found.path)
                total.update(b"\0source\0" + os.fsencode(name) + b"\0")
                self._add_facts(total, found.facts, owners)
                if found.is_directory:
                    for entry in self.walk(found):
                        total.update(b"\0" + os.fsencode(entry.path) + b"\0")
                        self._add_facts(total, entry.facts, owners)
                        _add_contents(total, entry)
                elif stat.S_ISLNK(found.facts.st_mode):
                    total.update(os.fsencode(self.read_link(found)))
                elif stat.S_ISREG(found.facts.st_mode):
                    fd = self.open(found)
                    try:
                        _add_file(total, fd)
                    finally:
                        os.close(fd)
        return f"sha256:{total.hexdigest()}"

    def _add_facts(self, total: "hashlib._Hash", facts: os.stat_result, owners: bool) -> None:
        total.update(b"%o" % facts.st_mode)
        if owners:
            total.update(b":%d:%d" % (facts.st_uid, facts.st_gid))
        if stat.S_ISREG(facts.st_mode):
            total.update(b" %d" % facts.st_size)
        elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
            total.update(b" %d" % facts.st_rdev)


def _add_contents(total: "hashlib._Hash", entry: Entry) -> None:
    if stat.S_ISLNK(entry.facts.st_mode):
        total.update(os.fsencode(os.readlink(entry.name, dir_fd=entry.directory)))
    elif stat.S_ISREG(entry.facts.st_mode):
        fd = os.open(entry.name, _OPEN_FILE, dir_fd=entry.directory)
        try:
            _add_file(total, fd)
        finally:
            os.close(fd)


def _add_file(total: "hashlib._Hash", fd: int) -> None:
    while data := os.read(fd, _CHUNK):
        total.update(data)
    for name, value in sorted(xattrs(fd).items()):
        total.update(b"\0" + name.encode("utf-8", "surrogateescape") + b"=" + value)


def _place(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _clean(path: str) -> str:
    """Relative to the tree's root, which ".." does not lead out of."""
    clean = posixpath.normpath("/" + path).lstrip("/")
    return "" if clean == "." else clean


def translate(pattern: str) -> re.Pattern[str]:
    """A name's pattern as Go's filepath.Match has it. Raises Reported for one that is none.

    What follows a star is taken where it comes first, and never looked for again: that is enough, and takes no longer
    than the name is.
    """
    parts: list[str] = []
    after_star = False
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            parts.append(")(?>.*?" if after_star else "(?>.*?")
            after_star = True
        elif char == "?":
            parts.append(".")
        elif char == "\\":
            if at == len(pattern):
                raise Reported(f"syntax error in pattern {pattern}", "invalid")
            parts.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise Reported(f"syntax error in pattern {pattern}", "invalid")
            inside = pattern[at:end]
            negated = inside.startswith("^")
            members = "".join(char if char == "-" else re.escape(char) for char in inside[negated:])
            parts.append(f"[{'^' if negated else ''}{members}]")
            at = end + 1
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts) + (r"\Z)" if after_star else ""), re.DOTALL)
