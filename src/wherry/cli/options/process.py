"""What a container's process is given: environment, labels, limits, restarts, security."""

from __future__ import annotations

import os

from wherry.common import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_BLANKS = " \t"


def environment(text: str) -> str:
    """-e NAME=value, or NAME alone, which takes its value from here, if it has one."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def label(text: str) -> str:
    key = text.partition("=")[0].lstrip(_BLANKS)
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if any(blank in key for blank in _BLANKS):
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def read_files(paths: Sequence[str], given: Sequence[str], lookup: Callable[[str], str | None] | None) -> list[str]:
    """The lines of --env-file or --label-file, and then what was given itself, which is stronger by being last.

    `lookup` finds the value of a name that stands alone; without a value it is left out. Raises ValueError.
    """
    found: list[str] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            reason = (error.strerror or "").lower()
            if isinstance(error, IsADirectoryError):
                raise ValueError(f"invalid env file ({path}): read {path}: {reason}") from None
            raise ValueError(f"open {path}: {reason}") from None
        try:
            found += _pairs(data, lookup)
        except ValueError as error:
            raise ValueError(f"invalid env file ({path}): {error}") from None
    return [*found, *given]


def _pairs(data: bytes, lookup: Callable[[str], str | None] | None) -> list[str]:
    pairs = []
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, raw in enumerate(lines, 1):
        raw = raw.removesuffix(b"\r")
        try:
            line = raw.decode().lstrip()
        except UnicodeDecodeError:
            raise ValueError(f"invalid utf8 bytes at line {number}: [{' '.join(map(str, raw))}]") from None
        if not line or line[0] == "#":
            continue
        name, equals, _ = line.partition("=")
        if not name:
            raise ValueError(f"no variable name on line '{line}'")
        if any(blank in name for blank in _BLANKS):
            raise ValueError(f"variable '{name}' contains whitespaces")
        if equals:
            pairs.append(line)
        elif lookup and (value := lookup(name)) is not None:
            pairs.append(f"{name}={value}")
    return pairs


_SYSCTLS = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def sysctl(text: str) -> str:
    """Only those that a namespace has its own of."""
    name, equals, _ = text.partition("=")
    if equals and name and (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def restart_policy(text: str) -> dict[str, Any]:
    """--restart on-failure:3 as the API's RestartPolicy."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    retries = 0
    if count:
        try:
            retries = values.parse_int(count, function="Atoi")
        except ValueError:
            raise ValueError("invalid restart policy format: maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": retries}


def attached(text: str) -> str:
    stream = text.lower()
    if stream not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return stream


def security_options(given: Sequence[str]) -> list[str]:
    """--security-opt; a seccomp profile in a file is sent as what is in it."""
    found = []
    for option in given:
        key, separator, value = option.partition("=")
        if not separator and key != "no-new-privileges":
            key, separator, value = option.partition(":")
        if not value and key != "no-new-privileges":
            raise ValueError(f"Invalid --security-opt: {values.quoted(option)}")
        if key == "seccomp" and value not in ("builtin", "unconfined"):
            option = "seccomp=" + _seccomp_profile(value)
        found.append(option)
    return found


def _seccomp_profile(path: str) -> str:
    from wherry.client.c_modules import dumps, loads

    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        reason = f"open {path}: {(error.strerror or '').lower()}"
        raise ValueError(f"opening seccomp profile ({path}) failed: {reason}") from None
    try:
        return dumps(loads(text)).decode()
    except ValueError as error:
        raise ValueError(f"compacting json for seccomp profile ({path}) failed: {error}") from None
