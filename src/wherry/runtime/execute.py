"""What init and exec have in common: the first and the last steps of a process that becomes a container's.

It begins as a copy of the monitor, with all of the engine's privileges, and must give the container no hold on it:

* where the container's pid namespace has others in it already (exec, ``--pid container:``), it stays outside of that
  until there is nothing of the engine's on it, and only then forks who executes the program: CAP_SYS_PTRACE in there
  reaches whatever can be seen, undumpable or not, and a root that was still the host's was a way out
  (/proc/<pid>/root). See ``_move``;
* it is undumpable, so that nobody in there can trace it or reach its /proc/<pid>/fd and /proc/<pid>/exe;
* it holds no descriptor but its streams and the line to the monitor, and everything is close-on-exec;
* it loads nothing: every module was imported by the launcher, and importing is off (CVE-2019-14271 was a library loaded
  from the container's root).
"""

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import msgspec

from wherry.linux import files, namespaces, process, terminal
from wherry.linux.syscalls import SyscallError
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
from wherry.runtime.spec import Process

# A small PID 1 for programs that do not reap orphans or do not handle signals: --init.
#
# It stays what it is, a copy of this engine's process, but as the container's user, with the container's capabilities
# and filter, undumpable and without descriptors. It passes signals on and ends as its child ends.

_NAME = "wherry-init"
# Those that say something of a process itself are not passed on.
_OWN = frozenset(
    (
        signal.SIGCHLD,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGKILL,
        signal.SIGSTOP,
    )
)


def stand_before_child(channel: Channel) -> None:
    """Forks. The child returns, to become the program; the parent stays as the reaper and never returns."""
    passed_on = signal.valid_signals() - _OWN
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
    has_terminal = os.isatty(0)
    child = os.fork()
    if child == 0:
        if has_terminal:
            _take_terminal()
        return
    channel.close()
    process.set_name(_NAME)
    process.close_from(0)
    _reap(child, passed_on)


def _take_terminal() -> None:
    """The program becomes the terminal's foreground process group, so that Ctrl-C is its own."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    os.tcsetpgrp(0, os.getpgrp())


def _reap(child: int, passed_on: set[signal.Signals]) -> None:
    waited = passed_on | {signal.SIGCHLD}
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD:
            try:
                os.kill(child, received.si_signo)
            except ProcessLookupError:
                continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


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
        code = _CODES.get(error.errno or 0, NOT_EXECUTABLE)
        raise StartError(f"exec {path}: {reason(error)}", code) from None
    except ValueError:
        raise StartError(f"exec: {_quoted(path)}: arguments and environment must not contain NUL bytes") from None


def _check_executable(path: str) -> None:
    """Raises OSError; with its filename set when the path could not even be looked at."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise OSError(errno.EISDIR, "")
    if not os.access(path, os.X_OK, effective_ids=True):
        raise OSError(errno.EACCES, "")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


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
    joins: "Joined | None" = None,
) -> None:
    """Who it is, where it is, what it may, and then the program itself, in the pid namespace that it ``joins``."""
    if not wanted.args:
        raise StartError("no command specified")
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
    if joins is not None:
        namespaces.join(joins.namespace, namespaces.CLONE_NEWPID)
        os.close(joins.namespace)
        joins.pid.keep_from_children()
        joins.title.erase()
        channel.leave_pipe()
    become(wanted, identity)
    if not channel.is_open:
        raise StartError("the monitor is gone")
    program = find_program(wanted.args[0], environment.get("PATH", ""))
    if joins is not None:
        label.set()
        confine(wanted)
        _move(joins.pid, has_terminal=wanted.tty)
    elif with_reaper:
        confine(wanted)  # the reaper, too
    if with_reaper:
        stand_before_child(channel)
    if joins is None:
        label.set()
    process.reset_signals()
    process.close_on_exec_from(_CHANNEL)
    if joins is None and not with_reaper:
        confine(wanted)
    execute_file(program, wanted.args, environment)


class Joined(NamedTuple):
    """A pid namespace that others are in: a descriptor of it or of one of them, and where the new process's id goes."""

    namespace: int
    pid: process.Shared
    title: process.Title


def _move(pid: process.Shared, *, has_terminal: bool) -> None:
    """Forks into the pid namespace, and returns in the child: a child of the monitor like this process, which ends.

    What is seen in there is a process with the container's root, user, capabilities, filter and streams, and one
    descriptor more: a pipe's end, to say why the program could not be executed.
    """
    try:
        forked = process.fork_sibling(pid)
    except SyscallError as error:
        refused = error.errno in (errno.EPERM, errno.ENOSYS)
        detail = ": the container's seccomp profile does not allow clone" if refused else ""
        raise StartError(f"cannot fork into the container: {reason(error)}{detail}") from None
    if not forked:
        os._exit(0)
    os.setsid()
    if has_terminal:
        terminal.make_controlling(0)


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
    """A missing working directory is made, and is the user's."""
    path = wanted.cwd
    if os.path.isdir(path):
        return
    identity = look_up_user(wanted.user, wanted.groups)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(files.make_directories(root, path, owner=(identity.uid, identity.gid)))
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
