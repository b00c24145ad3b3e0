"""Where a path of an overlay lies in the directories that it is made of, without mounting it."""

import os
import posixpath
import stat

from wherry.common.errors import InvalidParameter
from wherry.storage.tar.unpack import OVERLAY_OPAQUE

_LINKS_AT_MOST = 40  # the kernel's own MAXSYMLINKS


def find_merged(folders: list[str], path: str) -> list[str] | str:
    """What an overlay of these folders, the highest first, has at ``path``, links followed inside of it.

    The folders that a directory is merged from, or the path of a file; [] when there is nothing. The folders must not
    change meanwhile. Raises InvalidParameter for links that go round in a circle.
    """
    here, done = folders, ""
    names = [name for name in path.split("/") if name not in ("", ".")]
    links = 0
    while names:
        name = names.pop(0)
        if name == "..":
            names = [part for part in posixpath.dirname(done).split("/") if part] + names
            here, done = folders, ""
            continue
        facts, place, directories = look_up_merged(here, name)
        if facts is None:
            return []
        if stat.S_ISLNK(facts.st_mode):
            links += 1
            if links > _LINKS_AT_MOST:
                raise InvalidParameter(f"{path}: too many levels of symbolic links")
            target = posixpath.join(done or "/", os.readlink(place))
            names = [part for part in target.split("/") if part not in ("", ".")] + names
            here, done = folders, ""
        elif stat.S_ISDIR(facts.st_mode):
            here, done = directories, f"{done}/{name}"
        else:
            return [] if names else place
    return here


def look_up_merged(folders: list[str], name: str) -> tuple[os.stat_result | None, str, list[str]]:
    """One name: what lstat says of it, where it lies, and for a directory what it is merged from."""
    found: os.stat_result | None = None
    place = ""
    merged: list[str] = []
    for folder in folders:
        path = f"{folder}/{name}"
        try:
            facts = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if is_whiteout(facts):
            break
        if found is None:
            found, place = facts, path
        if not stat.S_ISDIR(facts.st_mode):
            break
        if not stat.S_ISDIR(found.st_mode):
            break
        merged.append(path)
        if is_opaque(path):
            break
    return found, place, merged


def is_whiteout(facts: os.stat_result) -> bool:
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def is_opaque(directory: int | str) -> bool:
    try:
        return os.getxattr(directory, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False
