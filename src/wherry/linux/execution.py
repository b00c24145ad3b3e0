"""System calls that are written down to be made later: the last ones of a process that becomes a program."""

import os
from array import array
from collections.abc import Sequence
from ctypes import c_long

from wherry.linux.syscalls import AT_EMPTY_PATH, NUMBERS, function, last_errno

Call = tuple[int, ...]
"""A system call: its number and six arguments."""

Calls = tuple[Sequence[Call], object]
"""Some, and the memory that their arguments point into."""

_system_call = function("syscall", *[c_long] * 7)


def execution(program: str | int, arguments: Sequence[str], environment: Sequence[str]) -> Calls:
    """To execute a program, by its path or a descriptor.

    Raises ValueError for a NUL byte.
    """
    texts = [os.fsencode(text) for text in (*arguments, *environment, program if isinstance(program, str) else "")]
    if any(b"\0" in text for text in texts):
        raise ValueError("embedded null byte")
    content = array("b", b"\0".join((*texts, b"")))
    at, _ = content.buffer_info()
    addresses = []
    for text in texts:
        addresses.append(at)
        at += len(text) + 1
    path = addresses.pop()
    count = len(arguments)
    vectors = array("q", (*addresses[:count], 0, *addresses[count:], 0))
    argv, _ = vectors.buffer_info()
    envp = argv + (count + 1) * vectors.itemsize
    kept = (content, vectors)
    if isinstance(program, str):
        return ((NUMBERS["execve"], path, argv, envp, 0, 0, 0),), kept
    return ((NUMBERS["execveat"], program, path, argv, envp, AT_EMPTY_PATH, 0),), kept


def make(calls: Sequence[Call]) -> tuple[int, int]:
    """Makes them in this process, until one fails: its index and the errno. Does not return when it is executed."""
    for index, call in enumerate(calls):
        if _system_call(*call) < 0:
            return index, last_errno()
    raise AssertionError("the last call is to execute a program")
