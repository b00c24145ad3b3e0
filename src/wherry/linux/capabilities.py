"""Capabilities: names, Docker's rules for choosing them, and the calls that take them away.

In a process that becomes a container's, in this order:

    drop_bounding(keep)            needs CAP_SETPCAP; nothing that is executed later can have more
    keep_through_setuid()          or the kernel clears them all when uid 0 is given up
    ... setgroups, setgid, setuid ...
    set_process(keep, ambient)     ambient: they survive exec for a user other than root, too
"""

import ctypes
import struct
from collections.abc import Collection, Iterable
from functools import cache

from wherry.linux.syscalls import check, function, system_call

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""All that Linux knows (linux/capability.h, last added to in 5.9), each at its number."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What a container has when nobody asks for more or less: Docker's fourteen."""

ALL = "ALL"

# linux/prctl.h
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits a set

_prctl = function("prctl", ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_capget = system_call("capget", ctypes.c_void_p, ctypes.c_void_p)
_capset = system_call("capset", ctypes.c_char_p, ctypes.c_char_p)


# Made once: each size of buffer is a new type to ctypes, and takes it a quarter of a millisecond.
_header = ctypes.create_string_buffer(struct.pack("=Ii", VERSION_3, 0))
_data = ctypes.create_string_buffer(24)


class CapabilityError(ValueError):
    """A capability that a user named is not known, or cannot be given here. The text is Docker's."""


def normalize(names: Iterable[str]) -> tuple[str, ...]:
    """What a user wrote ("net_admin", "CAP_NET_ADMIN", "all") in the kernel's spelling. Raises CapabilityError."""
    normal = []
    for name in names:
        name = name.upper()
        if name != ALL:
            if not name.startswith("CAP_"):
                name = f"CAP_{name}"
            if name not in NUMBERS or NUMBERS[name] > last_cap():
                raise CapabilityError(f'unknown capability: "{name}"')
            if name not in available():
                raise CapabilityError(
                    f'capability not supported by your kernel or not available in the current environment: "{name}"'
                )
        normal.append(name)
    return tuple(normal)


def resolve(cap_add: Collection[str], cap_drop: Collection[str], privileged: bool = False) -> tuple[str, ...]:
    """The capabilities of a container that was asked for with --cap-add, --cap-drop and --privileged.

    ALL stands for what this process has itself. Adding ALL and dropping some gives all the others; dropping ALL leaves
    what is added; otherwise the default ones, less those dropped, and those added, where adding wins. Raises
    CapabilityError.
    """
    if privileged:
        return available()
    added, dropped = normalize(cap_add), normalize(cap_drop)
    if ALL in added:
        return tuple(name for name in available() if name not in dropped)
    kept = () if ALL in dropped else tuple(name for name in DEFAULT if name not in dropped)
    return tuple(dict.fromkeys((*kept, *added)))


@cache
def last_cap() -> int:
    """The number of the last capability that the running kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


@cache
def available() -> tuple[str, ...]:
    """The capabilities in this process's effective set, in the order of their numbers."""
    return from_mask(_sets()[0])


def from_mask(bits: int) -> tuple[str, ...]:
    """The names of the bits of a set."""
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


def to_mask(capabilities: Iterable[str]) -> int:
    """The set with these capabilities. KeyError for a name that is not one of NAMES."""
    bits = 0
    for name in capabilities:
        bits |= 1 << NUMBERS[name]
    return bits


def drop_bounding(keep: Iterable[str]) -> None:
    """Takes all others out of the bounding set, for this process and all that it starts. Raises SyscallError."""
    kept = to_mask(keep)
    for number in range(last_cap() + 1):
        if not kept >> number & 1:
            check(_prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "drop from the bounding set", capability_name(number))


def keep_through_setuid() -> None:
    """Lets the permitted set survive the step from uid 0 to another. Ends with the next exec."""
    check(_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")


def set_process(keep: Iterable[str], ambient: bool = False) -> None:
    """Gives this process these capabilities and no others, permitted and effective; its thread must be the only one.

    The inheritable set is left empty, so that files with inheritable capabilities give nobody any (CVE-2022-24769),
    unless they are to be ambient, for which the kernel wants it. What this process does not have itself it cannot give,
    and leaves out. Raises SyscallError.
    """
    kept = to_mask(keep) & _sets()[1]
    inheritable = kept if ambient else 0
    check(_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear the ambient capabilities")
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data = struct.pack("=6I", low, low, inheritable & 0xFFFFFFFF, high, high, inheritable >> 32)
    check(_capset(struct.pack("=Ii", VERSION_3, 0), data), "set capabilities")
    if ambient:
        for number in range(len(NAMES)):
            if kept >> number & 1:
                raised = _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)
                check(raised, "raise to an ambient capability", NAMES[number])


def capability_name(number: int) -> str:
    """Its name, also of one that came after this file was written."""
    return NAMES[number] if number < len(NAMES) else f"capability {number}"


def _sets() -> tuple[int, int, int]:
    """This thread's effective, permitted and inheritable sets."""
    check(_capget(_header, _data), "get capabilities")
    words = struct.unpack("=6I", _data.raw)
    effective, permitted, inheritable = (words[i] | words[i + 3] << 32 for i in range(3))
    return effective, permitted, inheritable
