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

import errno
import mmap
import os
import platform
import stat
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from wherry.linux import files, namespaces, process, user_namespaces
from wherry.linux.cgroups import Cgroup
from wherry.linux.syscalls import SyscallError
from wherry.runtime import identity
from wherry.runtime.identity import (
    SecurityLabel,
    become,
    confine,
    enter_directory,
    give_streams,
    look_up_user,
    set_limits,
)
from wherry.runtime.ipc import NOT_EXECUTABLE, NOT_FOUND, Channel, StartError, reason
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


def execute_file(path: str, arguments: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """Becomes the program. Raises StartError: a script whose interpreter is missing is "not found", too."""
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        raise cannot_execute(path, error.errno or 0) from None
    except ValueError:
        raise _nul(path) from None


def cannot_execute(path: str, number: int) -> StartError:
    """``number`` is the errno of execve."""
    return StartError(f"exec {path}: {reason(OSError(number, ''))}", _CODES.get(number, NOT_EXECUTABLE))


def cannot_fork(number: int) -> StartError:
    """``number`` is the errno of wherry-init's fork into a pid namespace."""
    refused = number in (errno.EPERM, errno.ENOSYS)
    detail = ": the container's seccomp profile does not allow clone" if refused else ""
    return StartError(f"cannot fork into the container: {reason(OSError(number, ''))}{detail}")


def _nul(path: str) -> StartError:
    return StartError(f"exec: {_quoted(path)}: arguments and environment must not contain NUL bytes")


def _check_executable(path: str) -> None:
    """Raises OSError; with its filename set when the path could not even be looked at."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise OSError(errno.EISDIR, "")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, "")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


# The program that is seen in a container before its own: see native/wherry-init.c.

_NAME = "wherry-init"
_JOIN, _TERMINAL, _REAP = 1, 2, 4  # what it does
_FAILURES, _ID, _ITSELF = 60, 61, 62  # descriptors: of one that knows them, and of no stream


def _read_init() -> bytes:
    """Empty for a machine that it has not been built for."""
    path = os.path.join(os.path.dirname(__file__), "native", f"{_NAME}.{platform.machine()}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


_INIT = _read_init()  # now, since later the files within reach are the container's


class Init:
    """wherry-init, ready to be executed in the program's stead; to be made before there is a limit of descriptors."""

    def __init__(self, *, joins: bool, has_terminal: bool, reaps: bool) -> None:
        if not _INIT:
            raise StartError(f"{_NAME} has not been built for this machine ({platform.machine()}): scripts/native.sh")
        self._work = _JOIN * joins + _TERMINAL * has_terminal + _REAP * reaps
        self._failures, writer = os.pipe()
        _place(writer, _FAILURES, inheritable=True)
        self._id: int | None = None
        if joins:
            self._id = os.memfd_create("id", os.MFD_CLOEXEC)
            os.ftruncate(self._id, mmap.PAGESIZE)
            _place(os.dup(self._id), _ID, inheritable=True)
        # One of its own: root in there may change its mode and its owner, through /proc/1/exe.
        _place(files.sealed(_NAME, _INIT), _ITSELF, inheritable=False)

    def execute(self, channel: Channel, program: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        """Becomes it. Raises StartError."""
        channel.left_to_init(program, self._failures, self._id)
        try:
            os.execve(_ITSELF, (_NAME, f"-{self._work}", *arguments, program), environment)
        except OSError as error:
            text = f"exec {_NAME}: {reason(error)}"
            if error.errno == errno.EPERM:
                text += ": the container's seccomp profile does not allow execveat"
            raise StartError(text) from None
        except ValueError:
            raise _nul(program) from None


def _place(fd: int, number: int, *, inheritable: bool) -> None:
    os.dup2(fd, number, inheritable)
    os.close(fd)


_CHANNEL = 3  # its descriptor, after the three streams

_UMASK = 0o022
_NULL = os.makedev(1, 3)


def run_child(start: Callable[[Channel], None], channel: int) -> NoReturn:
    """Calls ``start``, which is to end in a program's execution, in a process that has just been forked.

    It has the monitor's /dev/null for standard streams, its end of the channel, and no other descriptor. Whatever is
    raised is told to the monitor, and ends this process.
    """
    line: Channel | None = None
    try:
        stop_importing()
        process.set_dumpable(False)
        process.die_with_parent()
        os.setsid()
        os.umask(0)  # so that device nodes and directories get the modes that they are made with
        if channel != _CHANNEL:
            os.dup2(channel, _CHANNEL, inheritable=False)
        process.close_from(_CHANNEL + 1)
        line = Channel(_CHANNEL)
        start(line)
    except StartError as error:
        _tell(line, error.message, error.code)
    except SyscallError as error:
        _tell(line, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _tell(line, f"{where}{reason(error)}")
    except BaseException as error:  # a traceback would be looked for in the container's files, and told to nobody
        _tell(line, f"internal error while starting: {type(error).__name__}: {error}")
    os._exit(255)


def stop_importing() -> None:
    """No code is loaded from now on, whatever happens: the files within reach are the container's."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()


def execute_process(
    wanted: Process,
    channel: Channel,
    label: SecurityLabel,
    *,
    with_reaper: bool = False,
    joins: int = -1,
) -> None:
    """Who it is, where it is, what it may, and then the program itself, in the pid namespace that it ``joins``: a
    descriptor of it, or of a process in it."""
    if not wanted.args:
        raise StartError("no command specified")
    init = Init(joins=joins >= 0, has_terminal=wanted.tty, reaps=with_reaper) if joins >= 0 or with_reaper else None
    environment = dict(entry.partition("=")[::2] for entry in wanted.env)
    identity = look_up_user(wanted.user, wanted.groups)
    if not environment.get("HOME"):
        environment["HOME"] = identity.home
    if wanted.personality == "linux32":
        process.show_32_bits()
    set_limits(wanted, channel)
    enter_directory(wanted.cwd)
    give_streams(identity.uid)
    os.umask(_UMASK)
    if joins >= 0:
        namespaces.join(joins, namespaces.CLONE_NEWPID)
    become(wanted, identity)
    if not channel.is_open:
        raise StartError("the monitor is gone")
    program = find_program(wanted.args[0], environment.get("PATH", ""))
    label.set()
    process.reset_signals()
    if init is not None:
        confine(wanted)
        init.execute(channel, program, wanted.args, environment)
    process.close_on_exec_from(_CHANNEL)
    confine(wanted)
    execute_file(program, wanted.args, environment)


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


def _tell(line: Channel | None, message: str, code: int = 125) -> None:
    if line is not None:
        try:
            line.failed(message, code)
        except OSError:  # the monitor is gone: nobody is left to tell
            return


# One more process in a container that runs, forked from its monitor, and moved into its pid namespace at the end.

_JOINED = ("user", "mnt", "net", "ipc", "uts", "cgroup")

_decode_process = msgspec.msgpack.Decoder(Process).decode


def run_exec(channel: int, cgroup: Cgroup | None) -> NoReturn:
    """Becomes the program that the channel tells of, in the namespaces of the container's first process."""
    run_child(lambda line: _start(line, cgroup), channel)


def _start(channel: Channel, cgroup: Cgroup | None) -> None:
    content, first = channel.wait_to_begin()
    wanted = _decode_process(content)
    if cgroup is not None:
        cgroup.join(cloned=True)
    identity.set_oom_score(wanted.oom_score_adj)
    label = identity.SecurityLabel(wanted)
    process.join_new_keyring()

    # All at once, so that there is no moment at which it is half in and half out. It leaves us in the new "/".
    identity.raise_limits(wanted)
    joined = namespaces.other_than_own(first, _JOINED)
    if joined & namespaces.CLONE_NEWUSER:
        user_namespaces.learn(namespaces.pid_of(first))
    namespaces.join(first, joined)
    if joined & namespaces.CLONE_NEWUSER:
        user_namespaces.become_root()
    if wanted.tty:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminal = open_terminal(root, wanted.console_size)
        os.close(root)
        channel.console(terminal.master)
        os.close(terminal.master)
        take_streams(terminal.slave)  # whose session it becomes is for who executes the program
    elif not wanted.stdin:
        open_null()
    execute_process(wanted, channel, label, joins=first)
