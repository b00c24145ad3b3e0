"""Finding the program to execute, by the rules and with the messages of the runtime that Docker uses."""

import errno
import os
import stat
from typing import NoReturn

import msgspec

from wherry.runtime.errors import NOT_EXECUTABLE, NOT_FOUND, StartError, reason

_CODES = {errno.ENOENT: NOT_FOUND, errno.ENOTDIR: NOT_FOUND}


def find(name: str, search_path: str) -> str:
    """The path to execute ``name`` by. A name with a slash is taken as it is; others are looked for in ``search_path``.

    Raises StartError: 127 when there is none, 126 when it may not be executed.
    """
    if "/" in name:
        try:
            _check_executable(name)
        except OSError as error:
            what = f"stat {name}: {reason(error)}" if error.filename else reason(error)
            raise StartError(f"exec: {_quoted(name)}: {what}", _CODES.get(error.errno or 0, NOT_EXECUTABLE)) from None
        return name
    for directory in search_path.split(":") if search_path else ():
        candidate = os.path.join(directory or ".", name)
        try:
            _check_executable(candidate)
        except OSError:
            continue
        return candidate
    raise StartError(f"exec: {_quoted(name)}: executable file not found in $PATH", NOT_FOUND)


def execute(path: str, arguments: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """Becomes the program. Raises StartError: a script whose interpreter is missing is "not found", too."""
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        code = _CODES.get(error.errno or 0, NOT_EXECUTABLE)
        raise StartError(f"exec {path}: {reason(error)}", code) from None
    except ValueError:
        raise StartError(f"exec: {_quoted(path)}: arguments and environment must not contain NUL bytes") from None


def _check_executable(path: str) -> None:
    """Raises OSError; with its filename set when the path could not even be looked at."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise OSError(errno.EISDIR, "")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, "")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()
