"""The data root's own folders, which nobody but root passes through.

A container's root is the host's: a set-user-ID program that it leaves in a volume would make any user of the host root
(CVE-2021-41091), and what may be read by all in there would be read by all. Below the folders that are closed here,
files have the modes that containers and images gave them.
"""

import os
import stat
from collections.abc import Iterator

from wherry.common.errors import EngineError

MODE = 0o710
"""Of the data root: its group, root's, may pass through, as with Docker."""

_FILE_MODE = 0o600
_OF_EACH = ("containers", "volumes")
"""Whose folders are the engine's own, too."""


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
