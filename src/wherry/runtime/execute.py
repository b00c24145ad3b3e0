"""The first and the last steps of a process that becomes a container's, which init and exec have in common; and exec.

It begins as a copy of the monitor, with all of the engine's privileges, and must give the container no hold on it:

* where the container's pid namespace has others in it already (exec, ``--pid container:``), it stays outside of that
  until there is nothing of the engine's left, not even its memory, and only then forks who executes the program:
  CAP_SYS_PTRACE in there reaches whatever can be seen, undumpable or not, and a root that was still the host's was a
  way out (/proc/<pid>/root). So it becomes wherry-init first, and that forks;
* it is undumpable, so that nobody in there can trace it or reach its /proc/<pid>/fd and /proc/<pid>/exe;
* it holds no descriptor but its streams and the line to the monitor, and everything is close-on-exec;
* it loads nothing: every module was imported by the launcher, and importing is off (CVE-2019-14271 was a library loaded
  from the container's root).
"""

import contextlib
import errno
import fcntl
import mmap
import os
import platform
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec

from wherry.linux import files, namespaces, process, user_namespaces
from wherry.linux.cgroups import Cgroup
from wherry.linux.execution import Calls, execution, make
from wherry.linux.syscalls import SyscallError
from wherry.runtime import identity
from wherry.runtime.identity import (
    SecurityLabel,
    become,
    confinement,
    enter_directory,
    give_streams,
    look_up_user,
    set_limits,
)
from wherry.runtime.ipc import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Console,
    Failed,
    LeftToInit,
    Notice,
    StartError,
    is_open,
    reason,
    send,
)
from wherry.runtime.rootfs import open_terminal, take_streams
from wherry.runtime.spec import Process

# Finding the program to execute, by the rules and with the messages of the runtime that Docker uses.

_CODES = {errno.ENOENT: NOT_FOUND, errno.ENOTDIR: NOT_FOUND}


def find_program(name: str, search_path: str) -> str:
    """The path to execute ``name`` by. A name with a slash is taken as it is; others are looked for in ``search_path``.

    Raises StartError: 127 when there is none, 126 when it may not be executed.
    """
    if "/" in name:
        try:
            _check_executable(name)
        except OSError as error:
            what = f"stat {name}: {reason(error)}" if error.filename else reason(error)
            raise StartError(f"exec: {_quoted(name)}: {what}", _CODES.get(error.errno or 0, NOT_EXECUTABLE)) from None
        return name
    for directory in search_path.split(":") if search_path else ():
        candidate = os.path.join(directory or ".", name)
        try:
            _check_executable(candidate)
        except OSError:
            continue
        return candidate
    raise StartError(f"exec: {_quoted(name)}: executable file not found in $PATH", NOT_FOUND)


def cannot_execute(path: str, number: int) -> StartError:
    """``number`` is the errno of execve. A script whose interpreter is missing is "not found", too."""
    return StartError(f"exec {path}: {reason(OSError(number, ''))}", _CODES.get(number, NOT_EXECUTABLE))


def cannot_fork(number: int) -> StartError:
    """``number`` is the errno of wherry-init's fork into a pid namespace."""
    refused = number in (errno.EPERM, errno.ENOSYS)
    detail = ": the container's seccomp profile does not allow clone" if refused else ""
    return StartError(f"cannot fork into the container: {reason(OSError(number, ''))}{detail}")


def _check_executable(path: str) -> None:
    """Raises OSError; with its filename set when the path could not even be looked at."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise OSError(errno.EISDIR, "")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, "")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


# The program that is seen in a container before its own: see native/wherry-init.c.

INIT = "wherry-init"
_JOIN, _TERMINAL, _REAP = 1, 2, 4  # what it does
_FAILURES, _ID, _ITSELF = 60, 61, 62  # descriptors: of one that knows them, and of no stream


def _read_init() -> bytes:
    """Empty for a machine that it has not been built for."""
    path = os.path.join(os.path.dirname(__file__), "native", f"{INIT}.{platform.machine()}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


_INIT = _read_init()  # now, since later the files within reach are the container's


class Init:
    """wherry-init, as it is waited for: ``failures`` is where it says why it could not execute the program, and ``id``
    a file with the number of the process that goes on in the pid namespace which is joined, or -1."""

    def __init__(self, wanted: Process, *, reaps: bool, joins: bool) -> None:
        if not _INIT:
            raise StartError(f"{INIT} has not been built for this machine ({platform.machine()}): scripts/native.sh")
        self.work = _JOIN * joins + _TERMINAL * wanted.tty + _REAP * reaps
        self.program = ""
        self.failures, self._writer = os.pipe()
        os.set_blocking(self.failures, False)
        self.id = -1
        if joins:
            self.id = os.memfd_create("id", os.MFD_CLOEXEC)
            os.ftruncate(self.id, mmap.PAGESIZE)

    @property
    def places(self) -> dict[int, int]:
        """Its places for descriptors, and what is to be there."""
        return {_FAILURES: self._writer} | ({_ID: self.id} if self.id >= 0 else {})

    def place(self) -> None:
        """The program itself, before there are limits: one of its own, since root in there may change its mode and its
        owner, through /proc/1/exe."""
        itself = files.sealed(INIT, _INIT)
        os.dup2(itself, _ITSELF, inheritable=False)
        os.close(itself)

    def begun(self) -> None:
        """It has its descriptors now."""
        os.close(self._writer)

    def close(self) -> None:
        """It will not be executed."""
        for fd in (self.failures, self._writer, *((self.id,) if self.id >= 0 else ())):
            os.close(fd)


class Program(NamedTuple):
    """What is to be executed: ``path``, or wherry-init with this ``work`` in its stead."""

    path: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    work: int = 0

    def calls(self, wanted: Process) -> Calls:
        """The last ones. Raises StartError."""
        filter, filter_memory = confinement(wanted)
        executes, memory = self._execution()
        return (*filter, *executes), (filter_memory, memory)

    def _execution(self) -> Calls:
        try:
            if not self.work:
                return execution(self.path, self.arguments, self.environment)
            arguments = (INIT, f"-{self.work}", *self.arguments, self.path)
            return execution(_ITSELF, arguments, self.environment)
        except ValueError:
            text = f"exec: {_quoted(self.path)}: arguments and environment must not contain NUL bytes"
            raise StartError(text) from None

    def failed(self, wanted: Process, index: int, number: int) -> StartError:
        """``number`` is the errno of the call with this index."""
        if index < len(confinement(wanted)[0]):
            return StartError(str(SyscallError(number, "install the seccomp filter")))
        if not self.work:
            return cannot_execute(self.path, number)
        text = f"exec {INIT}: {reason(OSError(number, ''))}"
        if number == errno.EPERM:
            text += ": the container's seccomp profile does not allow execveat"
        return StartError(text)


LINE, LABEL = 3, 4  # places of descriptors, after the three streams: the line to the monitor; see SecurityLabel
_KEPT = (0, 1, 2, _FAILURES, _ID)  # when the program is executed
_BEYOND = 64  # all places
_UMASK = 0o022
_NULL = os.makedev(1, 3)


def begin() -> None:
    """What a process does first that becomes a container's."""
    process.set_dumpable(False)
    process.die_with_parent()
    os.setsid()
    os.umask(0)  # so that device nodes and directories get the modes that they are made with


def take_descriptors(places: Mapping[int, int]) -> None:
    """Leaves the monitor's descriptors, but those that have a place here; the standard streams stay by themselves."""
    process.unshare_descriptors()
    beyond = [(place, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _BEYOND)) for place, fd in sorted(places.items())]
    free = LINE
    for place, fd in beyond:
        os.dup2(fd, place, inheritable=place in _KEPT)
        if place > free:
            process.close_from(free, place - 1)
        free = max(free, place + 1)
    process.close_from(free)


def failure(error: BaseException) -> StartError:
    """What to say of whatever was raised while a process was started."""
    if isinstance(error, StartError):
        return error
    if isinstance(error, SyscallError):
        return StartError(str(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return StartError(f"{where}{reason(error)}")
    return StartError(f"internal error while starting: {type(error).__name__}: {error}")


def stop_importing() -> None:
    """No code is loaded from now on, whatever happens: the files within reach are the container's."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()


@contextlib.contextmanager
def importing_nothing() -> Iterator[None]:
    """The same, for as long as this process is in the container."""
    places: tuple[list[Any], ...] = (sys.meta_path, sys.path_hooks, sys.path)
    kept = [list(place) for place in places]
    stop_importing()
    try:
        yield
    finally:
        for place, content in zip(places, kept, strict=True):
            place[:] = content


def prepare(
    wanted: Process,
    line: socket.socket,
    label: SecurityLabel,
    init: Init | None = None,
    *,
    notice: Callable[[str], None],
    joins: int = -1,
) -> Program:
    """Who it is, where it is, what it may; what is left is to execute the program, in the pid namespace that it
    ``joins``: a descriptor of it, or of a process in it."""
    if not wanted.args:
        raise StartError("no command specified")
    if init is not None:
        init.place()
    environment = dict(entry.partition("=")[::2] for entry in wanted.env)
    user = look_up_user(wanted.user, wanted.groups)
    if not environment.get("HOME"):
        environment["HOME"] = user.home
    if wanted.personality == "linux32":
        process.show_32_bits()
    set_limits(wanted, notice)
    enter_directory(wanted.cwd)
    give_streams(user.uid)
    os.umask(_UMASK)
    if joins >= 0:
        namespaces.join(joins, namespaces.CLONE_NEWPID)
    become(wanted, user)
    if not is_open(line):
        raise StartError("the monitor is gone")
    path = find_program(wanted.args[0], environment.get("PATH", ""))
    label.set()
    process.reset_signals()
    variables = tuple(f"{name}={value}" for name, value in environment.items())
    return Program(path, wanted.args, variables, init.work if init is not None else 0)


def open_null() -> None:
    """Standard input from the container's /dev/null. Where that is something else, from a pipe that is at its end: the
    host's device would be the container's to change, through /proc/self/fd/0."""
    try:
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        status = os.fstat(fd)
        is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL
    except OSError:
        is_null = False
    if not is_null:
        fd, writer = os.pipe()
        os.close(writer)
    os.dup2(fd, 0)
    os.close(fd)


def make_directory(wanted: Process) -> None:
    """A missing working directory is made: in a volume, say. It is root's, as it is for runc."""
    path = wanted.cwd
    if os.path.isdir(path):
        return
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(files.make_directories(root, path))
    except SyscallError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            raise StartError(f"mkdir {path}: {reason(error)}") from None
        # That it is no directory, or one of somebody else's, is for the change to it to say.
    finally:
        os.close(root)


# One more process in a container that runs, forked from its monitor, and moved into its pid namespace at the end.

_JOINED = ("user", "mnt", "net", "ipc", "uts", "cgroup")


class Session(NamedTuple):
    """``first`` is the pidfd of the container's first process; ``streams`` are descriptors by their places."""

    wanted: Process
    first: int
    streams: dict[int, int]
    init: Init
    cgroup: Cgroup | None


def run_exec(session: Session, line: int) -> NoReturn:
    """Becomes the program, in the namespaces of the container's first process, in a process that has just been forked
    from the monitor. Whatever goes wrong is told over the line."""
    channel = socket.socket(fileno=line)
    try:
        stop_importing()
        begin()
        label = identity.SecurityLabel(session.wanted, LABEL)
        if session.cgroup is not None:
            session.cgroup.join(cloned=True)
        identity.set_oom_score(session.wanted.oom_score_adj)
        process.join_new_keyring()
        # All at once, so that there is no moment at which it is half in and half out. It leaves us in the new "/".
        identity.raise_limits(session.wanted)
        joined = namespaces.other_than_own(session.first, _JOINED)
        if joined & namespaces.CLONE_NEWUSER:
            user_namespaces.learn(namespaces.pid_of(session.first))
        namespaces.join(session.first, joined)
        if joined & namespaces.CLONE_NEWUSER:
            user_namespaces.become_root()
        take_descriptors({LINE: line, _FIRST: session.first, **session.streams, **label.places, **session.init.places})
        channel.detach()
        channel = socket.socket(fileno=LINE)
        _become(session, channel, label)
    except BaseException as error:  # a traceback would be looked for in the container's files, and told to nobody
        failed = failure(error)
        with contextlib.suppress(OSError):  # the monitor is gone: nobody is left to tell
            send(channel, Failed(failed.message, failed.code))
    os._exit(255)


_FIRST = LABEL + 1  # a place of a descriptor


def _become(session: Session, channel: socket.socket, label: identity.SecurityLabel) -> None:
    wanted = session.wanted
    if wanted.tty:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminal = open_terminal(root, wanted.console_size)
        os.close(root)
        send(channel, Console(), (terminal.master,))
        os.close(terminal.master)
        take_streams(terminal.slave)  # whose session it becomes is for who executes the program
    elif not wanted.stdin:
        open_null()
    program = prepare(
        wanted, channel, label, session.init, notice=lambda text: send(channel, Notice(text)), joins=_FIRST
    )
    calls, memory = program.calls(wanted)
    send(channel, LeftToInit(program.path))
    index, number = make(calls)
    del memory
    raise program.failed(wanted, index, number)
