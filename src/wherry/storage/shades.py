"""Inside the worker: a context is mounted without what .dockerignore leaves out.

Its files stay where they are. A shade is a directory of whiteouts that lies above the context in an overlay, with those
directories that hold a whiteout, which look like the context's own.
"""

import os
import stat

from wherry.storage.layering import Report
from wherry.storage.selection import Exclusions, Patterns

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Of a directory: the names that are hidden wholly (None), and the directories that are so in part.
Hidden = dict[str, "Hidden | None"]


def shade(report: Report, *, directory: str, path: str, ignored: Patterns, place: str) -> bool:
    """Makes the shade of a context's ``directory`` in the empty directory ``place``; False when nothing is hidden.

    ``path`` is the directory's own path in the context, which the rules are about.
    """
    root = os.open(directory, _DIRECTORY)
    try:
        hidden, _ = _find_hidden(root, path, Exclusions(ignored))
        if hidden:
            _make(root, os.open(place, _DIRECTORY), hidden)
    finally:
        os.close(root)
    return bool(hidden)


def _find_hidden(directory: int, path: str, rules: Exclusions) -> tuple[Hidden, bool]:
    """What of a directory is left out, and whether anything else is in it."""
    hidden: Hidden = {}
    keeps = False
    with os.scandir(directory) as scanned:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scanned]
    for name, is_directory in entries:
        whole = f"{path}/{name}" if path else name
        left_out = rules.leave_out(whole)
        if not is_directory or (left_out and rules.leave_out_all(whole)):
            if left_out:
                hidden[name] = None
            keeps = keeps or not left_out
            continue
        child = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            below, keeps_below = _find_hidden(child, whole, rules)
        finally:
            os.close(child)
        if left_out and not keeps_below:
            hidden[name] = None
            continue
        keeps = True
        if below:
            hidden[name] = below
    return hidden, keeps


def _make(source: int, target: int, hidden: Hidden) -> None:
    """Fills ``target``, which it closes, and makes it look like ``source``."""
    for name, below in hidden.items():
        if below is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=target)
            continue
        os.mkdir(name, 0o700, dir_fd=target)
        child = os.open(name, _DIRECTORY, dir_fd=source)
        try:
            _make(child, os.open(name, _DIRECTORY, dir_fd=target), below)
        finally:
            os.close(child)
    facts = os.fstat(source)
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.close(target)
