"""Giving up the engine's privileges: limits, user, groups, capabilities, seccomp. The same for init and for exec."""

import errno
import os
import resource
import stat

from wherry.linux import capabilities, mounts, process, seccomp
from wherry.runtime.channel import Channel
from wherry.runtime.errors import StartError, reason
from wherry.runtime.spec import Process
from wherry.runtime.users import Identity

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


def set_oom_score(value: int, channel: Channel) -> None:
    """Before the root is changed, by the host's own /proc. Lowering it takes a privilege; without, it stays."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 16)) == value:
            return
        os.pwrite(fd, str(value).encode(), 0)
    except PermissionError:
        channel.notice(f"the OOM score adjustment {value} needs CAP_SYS_RESOURCE, which the engine lacks")
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
