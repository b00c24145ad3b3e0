"""What a process can say about itself and its children: prctl, pidfds, descriptors, signals, its title."""

import array
import contextlib
import ctypes
import mmap
import os
import resource
import signal
from collections.abc import Iterable, Iterator
from ctypes import Structure, byref, c_int, c_size_t, c_uint, c_uint64, c_ulong, c_void_p, sizeof

from wherry.linux.syscalls import NUMBERS, SyscallError, check, function, last_errno, system_call

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38

_CLOSE_RANGE_CLOEXEC = 4
_CLOSE_RANGE_END = 0xFFFFFFFF
_CLONE_PIDFD = 0x1000
_CLONE_INTO_CGROUP = 0x200000000
_KEYCTL_JOIN_SESSION_KEYRING = 1
_PER_LINUX32 = 8

_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_text = function("prctl", c_int, ctypes.c_char_p)
_signal = function("signal", c_int, c_void_p)
_personality = function("personality", c_ulong)
_close_range = system_call("close_range", c_uint, c_uint, c_uint)
_setdomainname = function("setdomainname", ctypes.c_char_p, ctypes.c_size_t)
_keyctl = system_call("keyctl", c_int, ctypes.c_char_p)


class _CloneArguments(Structure):
    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


# PyDLL: the call keeps the interpreter's lock, so that the child finds itself holding it.
_clone3 = ctypes.PyDLL(None, use_errno=True).syscall
_clone3.argtypes = (ctypes.c_long, c_void_p, ctypes.c_size_t)
_clone3.restype = ctypes.c_long


def fork(flags: int = 0, *, cgroup: int | None = None) -> tuple[int, int]:
    """Forks, with new namespaces (``flags``), into the version 2 cgroup whose directory ``cgroup`` is a descriptor of.

    (pid, pidfd) in the parent, (0, -1) in the child. Being born in a cgroup is free, moving there later makes the
    kernel wait for a grace period of RCU (7 ms here). For processes with one thread only: neither Python's nor the
    C library's fork handlers run.
    """
    pidfd = c_int(-1)
    arguments = _CloneArguments(
        flags=flags | _CLONE_PIDFD | (0 if cgroup is None else _CLONE_INTO_CGROUP),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=signal.SIGCHLD,
        cgroup=cgroup or 0,
    )
    pid = _clone3(NUMBERS["clone3"], byref(arguments), sizeof(arguments))
    if pid < 0:
        raise SyscallError(last_errno(), "clone3")
    return (pid, pidfd.value) if pid else (0, -1)


def in_pid_namespace_of(pid: int) -> list[int]:
    """The processes that are in the same pid namespace, by our own numbers; none when it is gone."""
    try:
        wanted = os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is none of ours
                if os.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                    found.append(int(name))
    return found


def set_dumpable(dumpable: bool) -> None:
    """Undumpable: neither traced nor looked at through /proc by processes without CAP_SYS_PTRACE."""
    check(_prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def die_with_parent() -> None:
    """Has the kernel send SIGKILL when the parent ends. Forgotten at a change of credentials: call it after."""
    check(_prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_no_new_privileges() -> None:
    check(_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def set_name(name: str) -> None:
    """The name that ps and top show for the command; 15 bytes."""
    check(_prctl_text(PR_SET_NAME, name.encode()[:15]), "prctl(PR_SET_NAME)")


def close_from(first: int) -> None:
    """Closes every descriptor from ``first`` on."""
    check(_close_range(first, _CLOSE_RANGE_END, 0), "close_range")


def close_on_exec_from(first: int) -> None:
    """Marks every descriptor from ``first`` on to be closed by execve."""
    if _close_range(first, _CLOSE_RANGE_END, _CLOSE_RANGE_CLOEXEC) < 0:  # the flag came with Linux 5.11
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first:
                with contextlib.suppress(OSError):  # the listing's own descriptor is in the list
                    os.set_inheritable(int(name), False)


def raise_descriptor_limit() -> None:
    """This process, and those that it starts from now on, may open as many files as its hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def trim_memory() -> None:
    """Gives the kernel back what has been freed: the GNU C library keeps it, after large blocks tens of megabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def show_32_bits() -> None:
    """Has uname tell of a 32-bit machine, as programs for one expect, to this process and what it executes."""
    check(_personality(_PER_LINUX32), "personality", detail="PER_LINUX32")


def set_domain_name(name: str) -> None:
    check(_setdomainname(name.encode(), len(name.encode())), "setdomainname", name)


def join_new_keyring() -> None:
    """A session keyring of this process's own, without a name, so that it does not see that of who started it."""
    check(_keyctl(_KEYCTL_JOIN_SESSION_KEYRING, None), "join a new session keyring")


def ignore_signal(number: int) -> None:
    """Past Python, whose own way makes enumerations of everything, which costs a forked process 100 KB."""
    _signal(number, 1)


def restore_signal(number: int) -> None:
    """The signal's default action, again."""
    _signal(number, None)


def restore_signals() -> None:
    """Every signal as Python starts with it, whatever this process was started with: nohup and a shell's background job
    leave some ignored, and that is inherited by every program after it."""
    for number in range(1, signal.NSIG):  # the two that cannot be changed, and the C library's own, stay as they are
        restore_signal(number)
    ignore_signal(signal.SIGPIPE)  # a reader that is gone is an error of the write, not the end of the process
    ignore_signal(signal.SIGXFSZ)


def reset_signals() -> None:
    """Every signal's default action, none blocked: what a program expects to be started with."""
    # Those that Python or the launcher changes; the launcher has seen to all others.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        restore_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Title:
    """The command line that ps shows, written over the one that the process was started with.

    It would otherwise show the interpreter's path and arguments, to a container too that looks at its reaper.
    """

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self._start = int(fields[45])  # arg_start and arg_end: fields 48 and 49, counted from after the name
        self._length = int(fields[46]) - self._start

    def set(self, title: str) -> None:
        """Cut off where the original command line ended."""
        text = title.encode()[: max(0, self._length - 1)]
        ctypes.memset(self._start, 0, self._length)
        ctypes.memmove(self._start, text, len(text))


# Pages of this process's memory: which of them it writes to, and having them copied before it does.
#
# After a fork all memory is shared, and a page is copied when one side writes to it: an exception that takes
# 5 microseconds on a virtual machine. The pages that are known beforehand can be copied in one go, which takes 1.
#
# What is remembered of pages is bytes: the address and the length of each run of them, as 64-bit numbers. Objects would
# have a count of references each, and a page of them be copied by whoever looks at it.

_MADV_POPULATE_WRITE = 23  # since Linux 5.14

_ENTRY = 8  # bytes for a page in /proc/self/pagemap: see Documentation/admin-guide/mm/pagemap.rst
_PRESENT = 1 << 63
_NUMBER = (1 << 55) - 1  # of the page of memory

_madvise = function("madvise", c_void_p, c_size_t, c_int)


class WrittenPages:
    """The pages that are copied for this process from the making of this on."""

    def __init__(self) -> None:
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._mappings = tuple(_writable_mappings())
        self._before = self._read()

    def end(self) -> bytes:
        """They, in order. Reads no more from /proc than what is open already: that may be a container's by now."""
        after = self._read()
        os.close(self._pagemap)
        pages: list[int] = []
        for (start, _), old, new in zip(self._mappings, self._before, after, strict=True):
            entries = zip(array.array("Q", old), array.array("Q", new), strict=True)
            pages += (start + number * mmap.PAGESIZE for number, (a, b) in enumerate(entries) if _is_another(a, b))
        return array.array("Q", _runs(pages)).tobytes()

    def _read(self) -> list[bytes]:
        """As it comes: the memory that is needed to look at it would be counted."""
        return [
            os.pread(self._pagemap, (end - start) // mmap.PAGESIZE * _ENTRY, start // mmap.PAGESIZE * _ENTRY)
            for start, end in self._mappings
        ]


def write_ahead(pages: bytes) -> None:
    """Has them copied as if they were written to. What cannot be (an older kernel) is left for later."""
    numbers = iter(array.array("Q", pages))
    for start in numbers:
        _madvise(start, next(numbers), _MADV_POPULATE_WRITE)


def _writable_mappings() -> Iterator[tuple[int, int]]:
    """(start, end) of the private ones."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            addresses, modes = line.split(None, 2)[:2]
            if modes == "rw-p":
                start, _, end = addresses.partition("-")
                yield int(start, 16), int(end, 16)


def _is_another(before: int, after: int) -> bool:
    """Whether there is another page of memory behind an address now. Only the superuser is told which one."""
    return bool(after & _PRESENT) and before & (_PRESENT | _NUMBER) != after & (_PRESENT | _NUMBER)


def _runs(pages: Iterable[int]) -> Iterator[int]:
    """Address, length, address, length, …"""
    start = length = 0
    for page in pages:
        if page != start + length:
            if length:
                yield start
                yield length
            start, length = page, 0
        length += mmap.PAGESIZE
    if length:
        yield start
        yield length
