"""System calls that Python's os module does not have, through the C library.

Each facility's file declares the calls it uses with ``function`` (a symbol of libc) or ``system_call`` (by number),
gives them names and types, and raises SyscallError. Nothing is looked up late: a process that has entered a container
must not load code any more.
"""

import ctypes
import os
import platform
from collections.abc import Callable
from ctypes import c_int, c_long
from typing import Any

# What a failing system call raises: which call, on what, and the kernel's answer.


class SyscallError(OSError):
    """An OSError that reads "mount overlay on /merged: Invalid argument (workdir and upperdir must be on one mount)".

    ``call`` is what was being done ("mount overlay on"), ``path`` what it was done to, ``detail`` what else is known:
    the kernel's own log of the call, or what the user can do about it.
    """

    def __init__(self, number: int, call: str, path: str = "", detail: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.call = call
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        where = f" {self.path}" if self.path else ""
        more = f" ({self.detail})" if self.detail else ""
        return f"{self.call}{where}: {self.strerror}{more}"


AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# Calls from 424 on have one number on every architecture; of the older ones, two families of numbers are supported:
# x86-64's own, and the generic table of arm64, riscv64 and loongarch64.
_MACHINE = platform.machine()
_OLD_NUMBERS = {
    "keyctl": (250, 219),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
    "capget": (125, 90),
    "capset": (126, 91),
    "bpf": (321, 280),
}
NUMBERS = {name: numbers[0 if _MACHINE == "x86_64" else 1] for name, numbers in _OLD_NUMBERS.items()} | {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}

_libc = ctypes.CDLL(None, use_errno=True)


def function(name: str, *types: Any) -> Callable[..., int]:
    """libc's function ``name`` with arguments of these ctypes types, answering an int."""
    symbol = _libc[name]  # subscription makes a new object each time, so each declaration has types of its own
    symbol.argtypes = types
    symbol.restype = c_int
    return symbol


def system_call(name: str, *types: Any) -> Callable[..., int]:
    """The system call ``name`` with its number bound; arguments of these ctypes types."""
    symbol = _libc["syscall"]
    symbol.argtypes = (c_long, *types)
    symbol.restype = c_long
    number = NUMBERS[name]

    def call(*arguments: Any) -> int:
        return int(symbol(number, *arguments))

    return call


def last_errno() -> int:
    """The errno of the last call made through this module."""
    return ctypes.get_errno()


def check(result: int, call: str, path: str = "", detail: str = "") -> int:
    """The result of a call, or SyscallError with errno when it is negative."""
    if result < 0:
        raise SyscallError(ctypes.get_errno(), call, path, detail=detail)
    return result
