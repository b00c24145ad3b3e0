"""What an overlay's upper directory changes in the directories below it, in the words of ``docker diff``.

Docker compares two trees, and so the answer is about what a user sees, not about what was copied up: a file counts as
changed when its type, mode, owner, size or time differ (a time without fraction of a second matches any fraction), and
a directory when its mode or owner do, or when something in it counts. Of what is deleted, only the top is named.

The upper directory belongs to a container that may be running, so it is walked by descriptors without following links.
The layers below are ours and never change: plain paths will do.
"""

import os
import stat
from collections.abc import Iterator

from wherry.model.errors import EngineError
from wherry.storage import placeholders
from wherry.storage.unpack import OVERLAY_OPAQUE

CHANGED, ADDED, DELETED = 0, 1, 2

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 256
_CAPABILITY = "security.capability"

Changes = list[tuple[int, str]]


def compare(upper: str, lowers: list[str]) -> Changes:
    """(kind, path) of each change, every directory before what is in it, in the order of the names.

    ``lowers`` are the directories below, the highest first.
    """
    fd = os.open(upper, _OPEN)
    try:
        return _Comparison().directory(fd, lowers, "", replaces=False)
    finally:
        os.close(fd)


def size(upper: str) -> int:
    """The bytes of the files below ``upper``, those with several names once, as they appear (holes count)."""
    seen: set[int] = set()
    total = 0
    for facts in _walk(os.open(upper, _OPEN), 0):
        if facts.st_nlink > 1:
            if facts.st_ino in seen:
                continue
            seen.add(facts.st_ino)
        total += facts.st_size
    return total


def _walk(fd: int, depth: int) -> Iterator[os.stat_result]:
    """What lstat says of everything below ``fd`` but the directories. Takes over the descriptor."""
    _check_depth(depth)
    try:
        for name in os.listdir(fd):
            facts = _lstat(name, fd)
            if facts is None:
                continue
            if not stat.S_ISDIR(facts.st_mode):
                yield facts
            elif (child := _open(name, fd)) is not None:
                yield from _walk(child, depth + 1)
    finally:
        os.close(fd)


class _Comparison:
    def directory(self, fd: int, lowers: list[str], path: str, *, replaces: bool) -> Changes:
        """The changes in one directory. ``replaces``: nothing of ``lowers`` shines through, it is compared only."""
        _check_depth(path.count("/"))
        found: Changes = []
        names = set(os.listdir(fd))
        everything = names | _names(lowers) if replaces else names
        for name in sorted(everything, key=os.fsencode):
            found += self._name(fd, name, lowers, f"{path}/{name}", replaces=replaces)
        return found

    def _name(self, fd: int, name: str, lowers: list[str], path: str, *, replaces: bool) -> Changes:
        old, old_directories = _look_up(lowers, name)
        new = _lstat(name, fd)
        if new is None or _is_whiteout(new):
            return [(DELETED, path)] if old is not None else []
        below: Changes = []
        if stat.S_ISDIR(new.st_mode):
            child = _open(name, fd)
            if child is None:
                return []
            try:
                if old is None and placeholders.is_directory(path[1:], child):
                    return []
                hides = replaces or _is_opaque(child)
                below = self.directory(child, old_directories, path, replaces=hides)
            finally:
                os.close(child)
        if old is None and placeholders.is_file(path[1:], new):
            return []
        if old is None:
            return [(ADDED, path), *below]
        if below or _differ(old, new) or self._capabilities_differ(fd, name, new, lowers):
            return [(CHANGED, path), *below]
        return []

    def _capabilities_differ(self, fd: int, name: str, new: os.stat_result, lowers: list[str]) -> bool:
        if not stat.S_ISREG(new.st_mode):
            return False
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            return False  # gone since lstat
        try:
            return _capability(file) != _capability(_first(lowers, name))
        finally:
            os.close(file)


def _look_up(lowers: list[str], name: str) -> tuple[os.stat_result | None, list[str]]:
    """What overlayfs shows of ``name`` from these directories; for a directory, those that it is merged from."""
    found: os.stat_result | None = None
    merged: list[str] = []
    for lower in lowers:
        path = f"{lower}/{name}"
        facts = _lstat(path)
        if facts is None:
            continue
        if _is_whiteout(facts):
            break
        if found is None:
            found = facts
        if not stat.S_ISDIR(facts.st_mode):
            break
        merged.append(path)
        if _is_opaque(path):
            break
    return found, merged if found is not None and stat.S_ISDIR(found.st_mode) else []


def _names(lowers: list[str]) -> set[str]:
    return {name for lower in lowers for name in os.listdir(lower)}


def _first(lowers: list[str], name: str) -> str:
    return next(path for path in (f"{lower}/{name}" for lower in lowers) if os.path.lexists(path))


def _differ(old: os.stat_result, new: os.stat_result) -> bool:
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return True
    if stat.S_ISDIR(new.st_mode):
        return False
    return old.st_size != new.st_size or not _same_time(old.st_mtime_ns, new.st_mtime_ns)


def _same_time(a: int, b: int) -> bool:
    """Layers carry whole seconds, so that a fraction that is missing says nothing."""
    second = 1_000_000_000
    return a == b or (a // second == b // second and (a % second == 0 or b % second == 0))


def _is_whiteout(facts: os.stat_result) -> bool:
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def _is_opaque(directory: int | str) -> bool:
    try:
        return os.getxattr(directory, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False


def _capability(file: int | str) -> bytes:
    try:
        return os.getxattr(file, _CAPABILITY)
    except OSError:
        return b""


def _lstat(name: str, directory: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _open(name: str, directory: int) -> int | None:
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return None  # replaced since lstat


def _check_depth(depth: int) -> None:
    if depth > _DEPTH:
        raise EngineError(f"the container has directories nested deeper than {_DEPTH}")
