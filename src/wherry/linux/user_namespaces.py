"""User namespaces: whose ids are whose, and making one for an ordinary user.

A user may map the own id alone. Those of /etc/subuid and /etc/subgid, which an administrator gives out, two programs
of the shadow project map, which are root's by their set-user-ID bit.
"""

import contextlib
import errno
import functools
import os
import pwd
import subprocess
from typing import NamedTuple

from wherry.linux import namespaces
from wherry.linux.syscalls import SyscallError

NO_SUCH_ID = (
    "the engine's user has no such ids. An administrator can give more: "
    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
)
_EVERY_ID = 0xFFFFFFFF


class Extent(NamedTuple):
    """``length`` ids from ``inside`` on are those from ``outside`` on of the namespace above."""

    inside: int
    outside: int
    length: int


class NamespaceRefused(Exception):
    """The kernel gives this user no user namespace; the text says why, and what to do."""


@functools.cache
def extents(file: str = "/proc/self/uid_map") -> tuple[Extent, ...]:
    with open(file, encoding="ascii") as lines:
        return tuple(Extent(*map(int, line.split())) for line in lines)


def is_initial() -> bool:
    """Whether this process is in the machine's first user namespace, where root may do everything."""
    return extents() == (Extent(0, 0, _EVERY_ID),)


def has(user: int, group: int) -> bool:
    """Whether something can belong to these."""
    return all(
        any(each.inside <= number < each.inside + each.length for each in extents(f"/proc/self/{kind}_map"))
        for kind, number in (("uid", user), ("gid", group))
    )


def remember() -> None:
    """Asks /proc for everything now: later what lies there may be somebody else's."""
    may_set_groups()
    has(0, 0)


def last_group() -> int:
    """The highest number of a group without a gap below it."""
    end = 0
    for extent in sorted(extents("/proc/self/gid_map")):
        end = extent.inside + extent.length if extent.inside == end else end
    return end - 1


def has_one_id() -> bool:
    """Whether nothing can belong to anybody but root."""
    return sum(extent.length for extent in extents()) == 1


@functools.cache
def may_set_groups() -> bool:
    """Not where the user's own group alone is mapped: to leave a group may be to gain what it is kept from."""
    try:
        with open("/proc/self/setgroups", encoding="ascii") as file:
            return file.read().strip() != "deny"
    except FileNotFoundError:
        return True


def subordinate(path: str, user: int) -> list[tuple[int, int]]:
    """The ranges (first, length) that a file like /etc/subuid gives to a user, by name or by number."""
    owners = {str(user)}
    with contextlib.suppress(KeyError):
        owners.add(pwd.getpwuid(user).pw_name)
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                owner, _, numbers = line.strip().partition(":")
                first, _, length = numbers.partition(":")
                if owner in owners and first.isdigit() and length.isdigit() and int(length):
                    found.append((int(first), int(length)))
    except FileNotFoundError:
        pass
    return found


def own_extents(owner: int, ranges: list[tuple[int, int]]) -> list[Extent]:
    """``owner`` as root, and the subordinate ids from 1 on."""
    found = [Extent(0, owner, 1)]
    for first, length in ranges:
        found.append(Extent(found[-1].inside + found[-1].length, first, length))
    return found


def leave(flags: int) -> str:
    """Makes this process, which has one thread, root of a new user namespace, with the user's subordinate ids, and
    takes it into other new namespaces (``flags``). What stands in the way of several ids, "" for nothing.

    Raises NamespaceRefused.
    """
    user, group = os.geteuid(), os.getegid()
    pid = os.getpid()
    waits, go = os.pipe()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:  # stays outside, from where alone ids can be mapped
        try:
            os.close(go)
            if os.read(waits, 1):
                os.write(tell, _map(pid, user, group).encode()[:4096] or b"\n")
        finally:
            os._exit(0)
    os.close(waits)
    os.close(tell)
    try:
        _unshare(namespaces.CLONE_NEWUSER | flags)
        os.write(go, b"!")
    finally:
        os.close(go)
        said = os.read(answer, 4096).decode()
        os.close(answer)
        os.waitpid(child, 0)
    extents.cache_clear()
    if not extents():
        raise NamespaceRefused(f"this user's ids cannot be mapped into a user namespace: {said.strip()}")
    return said.strip()


def _unshare(flags: int) -> None:
    try:
        namespaces.unshare(flags)
    except SyscallError as error:
        if error.errno == errno.ENOSPC:
            cure = "sysctl user.max_user_namespaces is too low: an administrator can raise it"
        elif error.errno == errno.EPERM:
            cure = (
                "an administrator can allow it: sysctl kernel.unprivileged_userns_clone=1, "
                "or kernel.apparmor_restrict_unprivileged_userns=0 where AppArmor restricts it"
            )
        else:
            cure = "this kernel has none"
        raise NamespaceRefused(f"no user namespace can be made ({error.strerror}): {cure}") from None


def _map(pid: int, user: int, group: int) -> str:
    """Writes the maps of a process. What stands in the way of several ids, or of any."""
    ranges = subordinate("/etc/subuid", user), subordinate("/etc/subgid", user)
    try:
        if not all(ranges):
            raise _NoRange("there are no ids of yours in /etc/subuid and /etc/subgid")
        _run("newuidmap", pid, own_extents(user, ranges[0]))
        _run("newgidmap", pid, own_extents(group, ranges[1]))
    except _NoRange as error:
        try:
            _map_one(pid, user, group)
        except OSError as failed:
            return f"{error}; {failed.strerror}"
        return str(error)
    return ""


class _NoRange(Exception):
    pass


def _run(program: str, pid: int, wanted: list[Extent]) -> None:
    words = [str(number) for extent in wanted for number in extent]
    try:
        ended = subprocess.run([program, str(pid), *words], capture_output=True, text=True, check=False)
    except OSError:
        raise _NoRange(f"{program} is not installed (Debian's package is uidmap)") from None
    if ended.returncode:
        raise _NoRange(f"{program}: {ended.stderr.strip()}")


def _map_one(pid: int, user: int, group: int) -> None:
    """Where newuidmap has done its work and newgidmap has not, the first of these is there."""
    for name, value in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
        try:
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(value)
        except PermissionError:
            if name != "uid_map":
                raise
