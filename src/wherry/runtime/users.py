"""Who a process runs as: names and numbers looked up in the container's own /etc/passwd and /etc/group.

The rules and the messages are Docker's. It is done by the process that is already inside, after the root was changed,
so that a link in the image leads nowhere else. The files are the image's and not to be trusted: one may be a fifo that
nobody writes to, or have no end.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from wherry.runtime.errors import StartError

PASSWD = "/etc/passwd"
GROUP = "/etc/group"

_ID_AT_MOST = 2**31 - 1
_DIGITS_AT_MOST = 20  # of a 64-bit number; Python refuses to read thousands
_FILE_AT_MOST = 16 << 20
_LINE_AT_MOST = 1 << 20  # a group of a hundred thousand members
_CHUNK = 1 << 16
_BLANK = b" \t\r\n"


class Identity(NamedTuple):
    """``groups`` are all groups, the primary one among them, as setgroups takes them."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def look_up(user: str, extra_groups: tuple[str, ...] = (), *, passwd: str = PASSWD, group: str = GROUP) -> Identity:
    """``user`` is "", "name", "uid", or either with ":group" or ":gid"; "" is root.

    Raises StartError with Docker's message when a name is not there.
    """
    name, _, group_name = user.partition(":")
    found = _find_user(name, passwd)
    uid, gid, home = (found.uid, found.gid, found.home) if found else (_number(name) or 0, 0, "")
    if found is None and name and _number(name) is None:
        raise StartError(f"unable to find user {name}: no matching entries in passwd file")
    member_of: list[int] = []
    if group_name:
        gid = _find_group(group_name, group)
    elif found:
        member_of = [number for _, number, members in _groups(group) if found.name in members]
    further = [_find_group(extra, group, by_number_too=True) for extra in extra_groups]
    _check_range(uid, gid, *further)
    return Identity(uid, gid, tuple(dict.fromkeys((gid, *member_of, *further))), home or "/")


def _find_user(name: str, path: str) -> _User | None:
    number = 0 if not name else _number(name)
    for fields in _records(path):
        if len(fields) < 3:
            continue
        uid = _leading_number(fields[2])
        if uid == number if number is not None else fields[0] == name:
            home = fields[5] if len(fields) > 5 else ""
            return _User(fields[0], uid, _leading_number(fields[3]) if len(fields) > 3 else 0, home)
    return None


def _find_group(name: str, path: str, *, by_number_too: bool = False) -> int:
    number = _number(name)
    for group_name, gid, _ in _groups(path):
        if gid == number or (group_name == name and (number is None or by_number_too)):
            return gid
    if number is None:
        raise StartError(f"unable to find group {name}: no matching entries in group file")
    return number


def _groups(path: str) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _records(path):
        if len(fields) >= 3:
            yield fields[0], _leading_number(fields[2]), fields[3].split(",") if len(fields) > 3 else []


def _number(text: str) -> int | None:
    sign = text[:1] in ("-", "+")
    digits = text[sign:]
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_AT_MOST else None


def _leading_number(text: str) -> int:
    number = _number(text)
    return 0 if number is None else number


def _check_range(*ids: int) -> None:
    if any(not 0 <= id <= _ID_AT_MOST for id in ids):
        raise StartError(f"uids and gids must be in range 0-{_ID_AT_MOST}")


def _records(path: str) -> Iterator[list[str]]:
    """The lines' fields, read a chunk at a time. Nothing when there is no such file."""
    fd = _open(path)
    if fd is None:
        return
    try:
        rest, total = b"", 0
        while chunk := os.read(fd, _CHUNK):
            total += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            if total > _FILE_AT_MOST or len(rest) > _LINE_AT_MOST:
                raise StartError(f"{path} in the container is too large to look up users in")
            for line in lines:
                if line := line.strip(_BLANK):
                    yield line.decode(errors="surrogateescape").split(":")
        if rest := rest.strip(_BLANK):
            yield rest.decode(errors="surrogateescape").split(":")
    finally:
        os.close(fd)


def _open(path: str) -> int | None:
    """A descriptor of a regular file; None for anything else. A fifo would wait, a device might act."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):  # it may have been swapped since
        return fd
    os.close(fd)
    return None
