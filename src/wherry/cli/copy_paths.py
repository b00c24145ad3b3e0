"""Where a copy comes from and where it goes: docker's rules, which are those of cp(1) with a few of its own.

A trailing slash, or `/.`, says that a path is a directory, and of a link that its target is meant; `dir/.` is what is
in a directory, without the directory itself.
"""

from __future__ import annotations

import os
import posixpath
import stat

from wherry.cli.session import CommandError, reason
from wherry.common.values import quoted

_LINKS_AT_MOST = 10


class Place:
    """One end of a copy. `name`: what the top of the archive is called instead of the path's last component."""

    __slots__ = ("exists", "is_directory", "name", "path")

    def __init__(self, path: str, *, exists: bool = True, is_directory: bool = False, name: str = "") -> None:
        self.path, self.exists, self.is_directory, self.name = path, exists, is_directory, name


def base(path: str) -> str:
    """The last component; "." of an empty path, "/" of the root."""
    if not path:
        return "."
    return posixpath.basename(path.rstrip("/")) or "/"


def is_current(path: str) -> bool:
    """Whether it ends in a `.`, so that a directory's content is meant."""
    return base(path) == "."


def clean(path: str) -> str:
    found = posixpath.normpath(path)
    return found[1:] if found.startswith("//") else found


def split(path: str) -> tuple[str, str]:
    """The directory and the entry in it: ("/a", "b") of /a/b/, ("/a/b", ".") of /a/b/."""
    cleaned = clean(path)
    if is_current(path):
        return cleaned, "."
    return posixpath.dirname(cleaned) or ".", base(cleaned)


def keep_ending(cleaned: str, original: str) -> str:
    """Gives a cleaned path the ending back that it had: `/`, `/.`."""
    if not is_current(cleaned) and is_current(original):
        cleaned = cleaned.rstrip("/") + "/."
    if not cleaned.endswith("/") and original.endswith("/"):
        cleaned += "/"
    return cleaned


def absolute(path: str) -> str:
    return keep_ending(clean(os.path.abspath(path)), path)


def renamed(path: str, resolved: str) -> tuple[str, str]:
    """A link's target with the link's ending, and the name to copy it under, "" when that is the target's own."""
    resolved = keep_ending(resolved, path)
    return resolved, base(path) if base(path) != base(resolved) else ""


def local_source(path: str, *, follow: bool) -> Place:
    """Raises CommandError when it is not there."""
    try:
        if follow:
            resolved, name = renamed(path, os.path.realpath(path, strict=True))
        else:
            directory, _, last = path.rpartition("/")
            parent = os.path.realpath(directory or "/", strict=True)
            resolved = f"{parent.rstrip('/')}/{last}"
            name = base(path) if path.endswith("/") and base(path) != base(resolved) else ""
        found = os.lstat(resolved)
    except NotADirectoryError:
        raise CommandError("not a directory") from None
    except OSError as error:
        raise CommandError(f"lstat {error.filename or path}: {reason(error)}") from None
    return Place(resolved, is_directory=stat.S_ISDIR(found.st_mode), name=name)


def local_destination(path: str) -> Place:
    """A link stands for its target, also for one that is not there yet. Raises CommandError."""
    found = _lstat(path)
    original, links = path, 0
    while found is not None and stat.S_ISLNK(found.st_mode):
        links += 1
        if links > _LINKS_AT_MOST:
            raise CommandError(f"too many symlinks in {original}")
        path = posixpath.join(split(path)[0], os.readlink(path))
        found = _lstat(path)
    if found is not None:
        return Place(path, is_directory=stat.S_ISDIR(found.st_mode))
    parent = split(path)[0]
    try:
        mode = os.stat(parent).st_mode
    except OSError as error:
        raise CommandError(f"stat {parent}: {reason(error)}") from None
    if not stat.S_ISDIR(mode):
        raise CommandError("not a directory")
    return Place(path, exists=False)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"lstat {path}: {reason(error)}") from None


def check_output(path: str) -> None:
    """Raises CommandError, in docker's words, for a place that nothing can be written to."""
    directory = posixpath.dirname(clean(path))
    if directory and not os.path.exists(directory):
        raise CommandError(f"invalid output path: directory {quoted(directory)} does not exist")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandError(f"stat {path}: {reason(error)}") from None
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        return
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    what = ": got a device" if device else ""
    raise CommandError(f"invalid output path: {quoted(path)} must be a directory or a regular file{what}")


def arrange(source: Place, destination: Place) -> tuple[str, str, str]:
    """Where the archive of `source` is to be unpacked, and the top name in it to replace, and by what ("", "": none).

    Raises CommandError for what cannot be: a directory in place of a file, a file in a directory that is not there.
    """
    directory, target = split(destination.path)
    if destination.exists and destination.is_directory:
        return destination.path, "", ""
    if destination.exists and source.is_directory:
        raise CommandError("cannot copy directory")
    asserts_directory = destination.path.endswith("/") or is_current(destination.path)
    if not destination.exists and not source.is_directory and asserts_directory:
        raise CommandError("no such directory")
    return directory, source.name or split(source.path)[1], target


def rename(name: str, old: str, new: str) -> str:
    """The name of an archive's member, with its beginning `old` replaced."""
    if not old:
        return name
    if old == "/":
        return new + name
    if name == old or name.startswith(old + "/"):
        return new + name[len(old) :]
    return name
