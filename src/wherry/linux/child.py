"""A process that shares this one's memory and descriptors, and in which this one calls functions.

A fork of an interpreter copies its page tables, and then each page that one of the two writes to: some hundred, at a
microsecond or more. A process that becomes another program soon has no use for copies. This one is made with CLONE_VM:
only one of the two runs at a time, so it is as if one thread went from one process into the other and back, see
native/child.c.

What a function changes of the process (namespaces, root, user, limits) is the child's; what it changes in memory is
there for both. Descriptors are both's as well, until the child leaves the common table (process.unshare_descriptors).
"""

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import signal
from array import array
from collections.abc import Callable
from ctypes import CFUNCTYPE, Structure, addressof, byref, c_int, c_long, c_void_p, sizeof
from typing import TypeVar

from wherry.linux.execution import Calls
from wherry.linux.process import CLONE_INTO_CGROUP, CLONE_PIDFD, CloneArguments
from wherry.linux.syscalls import SyscallError

_T = TypeVar("_T")

_STACK = 1 << 20  # bytes, of which only those that are needed are there


class _State(Structure):
    _fields_ = (
        ("turn", c_int),
        ("is_busy", c_int),
        ("function", c_void_p),
        ("calls", c_void_p),
        ("count", c_long),
        ("made", c_long),
        ("error", c_long),
    )


def load(path: str) -> ctypes.PyDLL | None:
    """None where there is none. PyDLL: its calls keep the interpreter's lock."""
    if not os.path.exists(path):
        return None
    native = ctypes.PyDLL(path)
    native.make.restype = c_long
    native.make.argtypes = (c_void_p, c_void_p, c_long)
    native.call_in.argtypes = (c_void_p, c_void_p)
    return native


_native = load(os.path.join(os.path.dirname(__file__), "native", f"child.{platform.machine()}.so"))


class Child:
    """Made, it waits. ``pid`` and ``pidfd`` are its own; new namespaces (``flags``) and the version 2 cgroup whose
    directory ``cgroup`` is a descriptor of are what it is born into. Raises SyscallError."""

    def __init__(self, flags: int = 0, *, cgroup: int | None = None) -> None:
        if _native is None:
            raise SyscallError(
                errno.ENOSYS, "make a process", detail=f"not built for {platform.machine()}: scripts/native.sh"
            )
        self._state = _State()
        self._stack = mmap.mmap(-1, _STACK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_STACK)
        self._kept: object = None
        pidfd = c_int(-1)
        arguments = CloneArguments(
            flags=flags | CLONE_PIDFD | (0 if cgroup is None else CLONE_INTO_CGROUP),
            pidfd=addressof(pidfd),
            exit_signal=signal.SIGCHLD,
            stack=addressof(ctypes.c_char.from_buffer(self._stack)),
            stack_size=_STACK,
            cgroup=cgroup or 0,
        )
        self.pid = _native.make(byref(self._state), byref(arguments), sizeof(arguments))
        if self.pid < 0:
            raise SyscallError(-self.pid, "clone3")
        self.pidfd = pidfd.value

    def call(self, function: Callable[[], _T]) -> _T:
        """What the function answers or raises, called in the child. Raises ProcessLookupError when it has ended."""
        answers: list[_T] = []
        self._run(lambda: answers.append(function()))
        if not answers:
            raise ProcessLookupError(f"the process {self.pid} has ended")
        return answers[0]

    def execute(self, function: Callable[[], Calls]) -> tuple[int, int] | None:
        """Has the child make the system calls that the function answers, the last of which is to execute a program.

        The first one that fails ends the child: the index and the errno are answered. Raises what the function raises.
        """

        def prepare() -> None:
            made, memory = function()
            calls = array("q", [number for call in made for number in call])
            self._kept = calls, memory
            self._state.count = len(calls) // 7
            self._state.calls = calls.buffer_info()[0]

        self._run(prepare)
        self._stack.close()
        self._kept = None
        return (self._state.made, -self._state.error) if self._state.error < 0 else None

    def _run(self, function: Callable[[], None]) -> None:
        global _function
        assert _native is not None
        _raised.clear()
        _function = function
        _native.call_in(byref(self._state), _ENTER)
        _function = _nothing
        if _raised:
            raise _raised.pop()

    @property
    def is_alive(self) -> bool:
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def discard(self) -> None:
        """It is not needed after all."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)


def _nothing() -> None:
    return


_function: Callable[[], None] = _nothing
_raised: list[BaseException] = []


def _enter() -> None:
    """In the child. Whatever is raised is for who waits."""
    try:
        _function()
    except BaseException as error:
        _raised.append(error)


_ENTER = CFUNCTYPE(None)(_enter)
