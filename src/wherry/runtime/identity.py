"""Giving up the engine's privileges: limits, user, groups, capabilities, seccomp. The same for init and for exec."""

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator
from typing import NamedTuple

from wherry.linux import capabilities, mounts, process, seccomp, user_namespaces
from wherry.runtime.ipc import Channel, StartError, reason
from wherry.runtime.spec import Process

# Who a process runs as: names and numbers looked up in the container's own /etc/passwd and /etc/group.
#
# The rules and the messages are Docker's. It is done by the process that is already inside, after the root was changed,
# so that a link in the image leads nowhere else. The files are the image's and not to be trusted: one may be a fifo
# that nobody writes to, or have no end.

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


def look_up_user(
    user: str, extra_groups: tuple[str, ...] = (), *, passwd: str = PASSWD, group: str = GROUP
) -> Identity:
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
    if not user_namespaces.has(uid, gid):
        raise StartError(f"user {uid}:{gid}: {user_namespaces.NO_SUCH_ID}")
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


_RLIMITS = {name[7:].lower(): getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
_NULL = os.makedev(1, 3)


def set_limits(wanted: Process, channel: Channel) -> None:
    """Resource limits. One that may not be raised so far is raised as far as it goes, with a notice."""
    for limit in wanted.rlimits:
        number = _RLIMITS.get(limit.name)
        if number is None:
            raise StartError(f"invalid ulimit type: {limit.name}")
        try:
            resource.setrlimit(number, (limit.soft, limit.hard))
        except (ValueError, PermissionError) as error:
            # Python says ValueError both for soft > hard and for a hard limit above ours.
            _, allowed = resource.getrlimit(number)
            if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
                raise StartError(
                    f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
                ) from error
            hard = _lower(limit.hard, allowed)
            resource.setrlimit(number, (_lower(limit.soft, hard), hard))
            channel.notice(
                f"ulimit {limit.name}={limit.soft}:{limit.hard} needs CAP_SYS_RESOURCE, which the engine lacks: "
                f"{_lower(limit.soft, hard)}:{hard} is used"
            )


def raise_limits(wanted: Process, pid: int = 0) -> None:
    """Lets a process that is about to be root of a user namespace alone, where it cannot, set its limits later."""
    for limit in wanted.rlimits:
        number = _RLIMITS.get(limit.name)
        if number is not None:
            soft, hard = resource.prlimit(pid, number)
            if _lower(hard, limit.hard) != limit.hard:
                with contextlib.suppress(ValueError, PermissionError):  # is told when it is set
                    resource.prlimit(pid, number, (soft, limit.hard))


def set_oom_score(asked: int | None, pid: int | str = "self") -> None:
    """Before the root is changed, by the host's own /proc. Raises StartError for a value that it may not have.

    Lowering it takes CAP_SYS_RESOURCE. Where nothing was asked, and the engine's own cannot be left, that one stays.
    """
    fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 16)) != (asked or 0):
            os.pwrite(fd, str(asked or 0).encode(), 0)
    except PermissionError:
        if asked is not None:
            raise StartError(
                f"the OOM score adjustment {asked} needs CAP_SYS_RESOURCE, which the engine does not have"
            ) from None
    finally:
        os.close(fd)


def enter_directory(path: str) -> None:
    """chdir, and proof that it led into the container.

    A working directory such as /proc/self/fd/7 would be one of the host's, if a descriptor of one had been left open
    (CVE-2024-21626); the kernel then says that it cannot be reached from the root.
    """
    try:
        os.chdir(path)
        if not os.getcwd().startswith("/"):
            raise FileNotFoundError(errno.ENOENT, "")
    except OSError as error:
        code = {errno.EACCES: 126, errno.ENOENT: 127}.get(error.errno or 0, 125)
        raise StartError(f'chdir to cwd ("{path}") set in config.json failed: {reason(error)}', code) from None


def give_streams(uid: int) -> None:
    """Lets the user open its own standard streams again, through /dev/stdout and the like."""
    for fd in (0, 1, 2):
        status = os.fstat(fd)
        if status.st_uid != uid and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL):
            os.fchown(fd, uid, -1)


def become(wanted: Process, identity: Identity) -> None:
    """Takes the user's identity and keeps the capabilities that were asked for. The seccomp filter may come before:

    without no_new_privs, installing one takes CAP_SYS_ADMIN; with it, nothing, so it can come last (``confine``).
    """
    if wanted.no_new_privileges:
        process.set_no_new_privileges()
    elif wanted.seccomp:
        seccomp.install(wanted.seccomp)
    capabilities.drop_bounding(wanted.capabilities)
    capabilities.keep_through_setuid()
    if user_namespaces.may_set_groups():
        os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    # For a user other than root only ambient capabilities survive the exec; Docker gives none, but for root.
    capabilities.set_process(wanted.capabilities, wanted.ambient)
    # A change of credentials has reset both.
    process.set_dumpable(False)
    process.die_with_parent()


def confine(wanted: Process) -> None:
    """The seccomp filter as the last thing before the program, where that is possible."""
    if wanted.no_new_privileges and wanted.seccomp:
        seccomp.install(wanted.seccomp)


def _lower(one: int, other: int) -> int:
    """The lower of two limits, of which -1 is none."""
    return max(one, other) if -1 in (one, other) else min(one, other)


class SecurityLabel:
    """The AppArmor profile or SELinux label that the program is to run under; set at its exec.

    The kernel's file is opened before the root is changed, by the host's own /proc: the container's may be covered by
    one that takes the label and forgets it (CVE-2019-16884).
    """

    def __init__(self, wanted: Process) -> None:
        self._fd = -1
        if not (wanted.apparmor or wanted.selinux):
            return
        self._text = f"exec {wanted.apparmor}" if wanted.apparmor else wanted.selinux
        candidates = ("apparmor/exec", "exec") if wanted.apparmor else ("exec",)
        for candidate in candidates:
            try:
                self._fd = os.open(f"/proc/thread-self/attr/{candidate}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                break
            except FileNotFoundError:
                continue
        if self._fd < 0 or mounts.file_system(self._fd) != mounts.PROC_MAGIC:
            raise StartError("this kernel does not take security labels; run without AppArmor or SELinux options")

    def set(self) -> None:
        if self._fd >= 0:
            try:
                os.write(self._fd, self._text.encode())
            except OSError as error:
                raise StartError(f"cannot set the security label {self._text!r}: {reason(error)}") from None
