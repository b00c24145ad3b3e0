"""Where an ordinary user's engine keeps what it has, and the client looks for it: by the XDG base directories."""

from __future__ import annotations

import os
import stat

MODE = 0o700
SOCKET = "wherry.sock"


class NotPrivate(Exception):
    """A directory that is to be the user's alone is not; the text says which and what to do."""


def data_root() -> str:
    """What outlives a restart of the machine."""
    return f"{_base('XDG_DATA_HOME', '.local/share')}/wherry"


def config_file() -> str:
    return f"{_base('XDG_CONFIG_HOME', '.config')}/wherry/daemon.json"


def exec_root(user: int) -> str:
    """What does not outlive it: where ``user``, a number, has no runtime directory, a folder in /tmp.

    Anybody may have made that one before. Raises NotPrivate where it is not this process's user's alone.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return os.path.join(runtime, "wherry")
    runtime = f"/run/user/{user}"
    if os.path.isdir(runtime):
        return f"{runtime}/wherry"
    fallback = f"/tmp/wherry-{user}"
    _check_private(fallback)
    return fallback


def _check_private(directory: str) -> None:
    """Raises NotPrivate for one that is there and that somebody else has made, or may write to."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise NotPrivate(
            f"{directory} is not a folder of yours alone: remove it, or set XDG_RUNTIME_DIR to a folder that is"
        )


def _base(variable: str, otherwise: str) -> str:
    """The specification has a path that is not absolute ignored."""
    found = os.environ.get(variable, "")
    return found if os.path.isabs(found) else os.path.join(os.path.expanduser("~"), otherwise)
