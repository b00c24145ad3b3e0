"""The data root's own folders, which nobody but root passes through.

A container's root is the host's: a set-user-ID program that it leaves in a volume would make any user of the host root
(CVE-2021-41091), and what may be read by all in there would be read by all. Below the folders that are closed here,
files have the modes that containers and images gave them.
"""

import os
import stat
from collections.abc import Iterator

from wherry.common.errors import EngineError
from wherry.linux import user_namespaces

MODE = 0o710 if user_namespaces.is_initial() else 0o700
"""Of the data root: its group may pass through where that is root's, as with Docker."""

_FILE_MODE = 0o600
_OF_EACH = ("containers", "volumes")
"""Whose folders are the engine's own, too."""


_MARK = "user-namespace"
"""The file in a data root that an engine in a user namespace has made: its layers are written as overlayfs wants them
there, and its files belong to other ids than root's engine would give them."""


def claim(root: str) -> None:
    """Raises EngineError for a data root of the other kind, before anything in it is touched."""
    inside = not user_namespaces.is_initial()
    if os.stat(root).st_uid != os.geteuid() and inside:
        raise EngineError(f"the data root {root} belongs to somebody else: use another --data-root")
    if os.path.exists(f"{root}/state.db") and os.path.exists(f"{root}/{_MARK}") != inside:
        maker, reader = ("root", "an ordinary user") if inside else ("an ordinary user", "root")
        raise EngineError(
            f"the data root {root} was made by an engine of {maker}'s, and one of {reader}'s cannot use it: "
            "use another --data-root"
        )
    if inside:
        with open(f"{root}/{_MARK}", "a", encoding="ascii"):
            pass


def close_to_others(root: str) -> None:
    """Takes from everybody but root what an earlier version, an administrator or a copy has let them do.

    Raises EngineError where that cannot be done.
    """
    try:
        _limit(root, os.stat(root), MODE)
        for entry in _entries(root):
            _limit(entry.path, entry.stat(follow_symlinks=False), MODE if entry.is_dir() else _FILE_MODE)
        for name in _OF_EACH:
            for entry in _entries(f"{root}/{name}"):
                if entry.is_dir():
                    _limit(entry.path, entry.stat(), MODE)
    except OSError as error:
        raise EngineError(
            f"the data root must be root's alone, and {error.filename} cannot be made so: {error.strerror}. "
            "Use a --data-root on a file system with owners and modes"
        ) from None


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    """What is in it, but for links: those are an administrator's, to another disk."""
    try:
        with os.scandir(directory) as entries:
            yield from (entry for entry in entries if not entry.is_symlink())
    except FileNotFoundError:
        return


def _limit(path: str, facts: os.stat_result, mode: int) -> None:
    user, group = os.geteuid(), os.getegid()
    if (facts.st_uid, facts.st_gid) != (user, group):
        os.chown(path, user, group)
    if stat.S_IMODE(facts.st_mode) & ~mode:
        os.chmod(path, stat.S_IMODE(facts.st_mode) & mode)
