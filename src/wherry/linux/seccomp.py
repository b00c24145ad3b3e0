"""Seccomp: a profile in Docker's format, its compilation to BPF, and its installation.

The daemon compiles (which takes libseccomp) and the process that becomes the container installs; between them travels
nothing but the program's bytes. So ``install`` stands on one system call, and who only installs loads nothing else.

    program = compile_profile(default_profile(), capabilities=spec.capabilities)
    ... in the container's process, last of all before exec: install(program)
"""

import ctypes
import errno
import platform
from collections.abc import Collection
from functools import lru_cache

import msgspec

from wherry.linux.syscalls import check, system_call

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
"""Without it, kernels before 5.16 slow every filtered process down by a guard against speculative store bypass."""

ACCEPTED_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"}
"""What installing does, or does not need to: one thread, and no guard."""

_seccomp = system_call("seccomp", ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)


class ProfileError(ValueError):
    """A profile that cannot be read, or asks for something that cannot be done here."""


class Argument(msgspec.Struct, frozen=True, rename="camel"):
    """A condition on one argument. With SCMP_CMP_MASKED_EQ, ``value`` is the mask and ``value_two`` the result."""

    index: int
    op: str
    value: int = 0
    value_two: int = 0


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """When a rule counts. As an inclusion all parts must hold; as an exclusion one is enough."""

    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str | None = None


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """System calls, and what becomes of them when all the conditions on their arguments hold."""

    action: str
    names: tuple[str, ...] | None = None
    name: str = ""  # of an old profile
    errno_ret: int | None = None
    args: tuple[Argument, ...] | None = None
    includes: Condition | None = None
    excludes: Condition | None = None

    def all_names(self) -> tuple[str, ...]:
        """The calls, whichever way they were given."""
        return (self.name,) if self.name else self.names or ()


class Architecture(msgspec.Struct, frozen=True, rename="camel"):
    """An architecture, and the others that its kernel also serves."""

    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """A profile as Docker's JSON has it; what no rule matches gets the default action."""

    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[Architecture, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str = ""
    syscalls: tuple[Rule, ...] | None = None


def load_profile(text: str | bytes) -> Profile:
    """The profile of ``--security-opt seccomp=FILE``; the client sends the file's content. Raises ProfileError."""
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"Decoding seccomp profile failed: {error}") from error
    if profile.architectures and profile.arch_map:
        raise ProfileError(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    for rule in profile.syscalls or ():
        if rule.name and rule.names:
            raise ProfileError(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
            )
    if profile.listener_path:
        raise ProfileError("the seccomp profile has a 'listenerPath': notifying an agent is not supported")
    for flag in profile.flags or ():
        if flag not in ACCEPTED_FLAGS:
            raise ProfileError(f"the seccomp profile has the flag {flag}, which is not supported")
    return profile


@lru_cache(maxsize=1)
def default_profile() -> Profile:
    """What Docker puts on every container that is not privileged and names no other."""
    from wherry.linux import seccomp_profile as facts  # the processes that only install need not hold the lists

    def allow(
        names: str, *args: Argument, includes: Condition | None = None, excludes: Condition | None = None
    ) -> Rule:
        return Rule("SCMP_ACT_ALLOW", tuple(names.split()), args=args, includes=includes, excludes=excludes)

    def no_new_namespace(index: int) -> Argument:
        return Argument(index, "SCMP_CMP_MASKED_EQ", facts.NEW_NAMESPACES, 0)

    admin = ("CAP_SYS_ADMIN",)
    rules = [
        allow(" ".join(facts.ALLOWED)),
        *(allow("socket", Argument(0, "SCMP_CMP_MASKED_EQ", mask, value)) for mask, value in facts.SOCKET_FAMILIES),
        *(allow("personality", Argument(0, "SCMP_CMP_EQ", value)) for value in facts.PERSONALITIES),
        *(allow(names, includes=Condition(arches=arches)) for arches, names in facts.ALLOWED_ON.items()),
        *(allow(names, includes=Condition(caps=(capability,))) for capability, names in facts.ALLOWED_WITH.items()),
        allow(
            "clone",
            no_new_namespace(0),
            excludes=Condition(caps=admin, arches=facts.CLONE_FLAGS_SECOND),
        ),
        allow(
            "clone",
            no_new_namespace(1),
            includes=Condition(arches=facts.CLONE_FLAGS_SECOND),
            excludes=Condition(caps=admin),
        ),
        # Its flags are behind a pointer, where no filter can look; glibc takes "no such call" as a hint to use clone.
        Rule("SCMP_ACT_ERRNO", ("clone3",), errno_ret=errno.ENOSYS, excludes=Condition(caps=admin)),
    ]
    arch_map = tuple(Architecture(main, others) for main, others in facts.SUB_ARCHITECTURES.items())
    return Profile("SCMP_ACT_ERRNO", errno.EPERM, arch_map=arch_map, syscalls=tuple(rules))


def compile_profile(profile: Profile, capabilities: Collection[str] = (), machine: str = "") -> bytes:
    """The BPF program for a container with these capabilities ("CAP_CHOWN", …) in its bounding set.

    ``machine`` is what uname calls the architecture, by default this one. Empty when the profile is (no filter at all).
    The last few results are kept: compiling takes some milliseconds. Raises ProfileError.
    """
    if not profile.default_action and not profile.syscalls:
        return b""
    from wherry.linux.seccomp_compiler import compile_for  # the processes that only install do without libseccomp

    mentioned = {
        capability
        for rule in profile.syscalls or ()
        for condition in (rule.includes, rule.excludes)
        if condition is not None
        for capability in condition.caps or ()
    }
    return compile_for(profile, frozenset(mentioned.intersection(capabilities)), machine or platform.machine())


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install(program: bytes) -> None:
    """Puts this thread, and all that it starts, under the program for ever. Raises SyscallError.

    Needs CAP_SYS_ADMIN in the thread's user namespace, or no_new_privs.
    """
    header = _Program(len(program) // 8, program)
    installed = _seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, ctypes.addressof(header))
    check(installed, "install the seccomp filter")
