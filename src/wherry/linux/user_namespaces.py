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
from collections.abc import Iterator, Sequence
from ctypes import c_int, c_uint, c_ulong
from typing import NamedTuple

from wherry.linux import namespaces, process
from wherry.linux.syscalls import SyscallError, check, function

NO_SUCH_ID = (
    "the user namespace has no such ids. A container gets more with --userns=auto:size=N, an ordinary user's engine "
    "from an administrator: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
)
_EVERY_ID = 0xFFFFFFFF
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4

_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_setfsuid = function("setfsuid", c_uint)
_setfsgid = function("setfsgid", c_uint)


class Extent(NamedTuple):
    """``length`` ids from ``inside`` on are those from ``outside`` on of the namespace above."""

    inside: int
    outside: int
    length: int


class NamespaceRefused(Exception):
    """The kernel gives this user no user namespace; the text says why, and what to do."""


_known: dict[str, tuple[Extent, ...]] = {}


def extents(file: str = "/proc/self/uid_map") -> tuple[Extent, ...]:
    """A map of this process's, which is asked for once."""
    if file not in _known:
        _known[file] = _read(file)
    return _known[file]


def _read(file: str) -> tuple[Extent, ...]:
    with open(file, encoding="ascii") as lines:
        return tuple(Extent(*map(int, line.split())) for line in lines)


def learn(pid: int | str) -> None:
    """Takes the ids of another process, whose user namespace this one is about to enter, for its own."""
    for kind in ("uid", "gid"):
        _known[f"/proc/self/{kind}_map"] = _read(f"/proc/{pid}/{kind}_map")


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


def last_group(wanted: Sequence[Extent] = ()) -> int:
    """The highest number of a group without a gap below it, by a map or by this process's own."""
    end = 0
    for extent in sorted(wanted or extents("/proc/self/gid_map")):
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


def outside(number: int, wanted: Sequence[Extent]) -> int:
    """Who an id inside is outside, by a map; -1 for nobody."""
    for extent in wanted:
        if extent.inside <= number < extent.inside + extent.length:
            return extent.outside + number - extent.inside
    return -1


def covers(wanted: Sequence[Extent], number: int) -> bool:
    """Whether an id is one of those inside."""
    return outside(number, wanted) >= 0


def write_maps(pid: int, uids: Sequence[Extent], gids: Sequence[Extent]) -> None:
    """Maps the ids of the new user namespace that a process of ours is in, once and for all. For root outside of it."""
    for name, wanted in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {length}\n" for inside, outside, length in wanted)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise SyscallError(error.errno or 0, "map ids", name, text.replace("\n", ", ").rstrip(", ")) from None
        finally:
            os.close(fd)


def become_root() -> None:
    """Takes the ids of root in the user namespace that this process has entered, where it was nobody until now.

    It stays undumpable and dies with its parent, as those that enter one do: a change of credentials resets both.
    """
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.set_dumpable(False)
    process.die_with_parent()


@contextlib.contextmanager
def made(uids: Sequence[Extent], gids: Sequence[Extent]) -> Iterator[int]:
    """A descriptor of a new one with these ids, in which nobody will be. For root of this one."""
    waits, release = os.pipe()
    pid, pidfd = process.fork(namespaces.CLONE_NEWUSER)
    if pid == 0:
        os.close(release)
        os.read(waits, 1)
        os._exit(0)
    try:
        known = namespaces.pid_of(pidfd)  # by this /proc, which may be that of another pid namespace
        write_maps(known, uids, gids)
        found = os.open(f"/proc/{known}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield found
        finally:
            os.close(found)
    finally:
        os.close(release)
        os.close(waits)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


@contextlib.contextmanager
def creating_as(user: int, group: int) -> Iterator[None]:
    """What this process makes meanwhile belongs to these, and it may do all that it may as root."""
    bits = check(_prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0), "get the secure bits")
    check(_prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "set the secure bits")
    was = _setfsuid(user), _setfsgid(group)
    try:
        yield
    finally:
        _setfsuid(was[0])
        _setfsgid(was[1])
        check(_prctl(_PR_SET_SECUREBITS, bits, 0, 0, 0), "set the secure bits")


def subordinate(path: str, user: int | str) -> list[tuple[int, int]]:
    """The ranges (first, length) that a file like /etc/subuid gives to a user, by name or by number."""
    owners = {str(user)}
    if isinstance(user, int):
        with contextlib.suppress(KeyError):
            owners.add(pwd.getpwuid(user).pw_name)
    return [(first, length) for owner, first, length in subordinate_entries(path) if owner in owners]


def subordinate_entries(path: str) -> list[tuple[str, int, int]]:
    """All that such a file gives out: to whom, the first, how many."""
    found = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            owner, _, numbers = line.strip().partition(":")
            first, _, length = numbers.partition(":")
            if owner and first.isdigit() and length.isdigit() and int(length):
                found.append((owner, int(first), int(length)))
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
    learn("self")
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
