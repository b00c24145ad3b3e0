"""What init and exec have in common: the first and the last steps of a process that becomes a container's.

It begins as a copy of the monitor, with all of the engine's privileges, and must give the container no hold on it:

* it is undumpable, so that nobody in there can trace it or reach its /proc/<pid>/fd and /proc/<pid>/exe;
* it holds no descriptor but its streams and the line to the monitor, and everything is close-on-exec;
* it loads nothing: every module was imported by the launcher, and importing is off (CVE-2019-14271 was a library loaded
  from the container's root).
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import NoReturn

from wherry.linux import paths, process
from wherry.linux.errors import SyscallError
from wherry.runtime import credentials, programs, reaper, users
from wherry.runtime.channel import Channel
from wherry.runtime.errors import StartError, reason
from wherry.runtime.spec import Process

_CHANNEL = 3  # its descriptor, after the three streams

_UMASK = 0o022
_NULL = os.makedev(1, 3)


def run(start: Callable[[Channel], None], channel: int) -> NoReturn:
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


def execute(
    wanted: Process,
    channel: Channel,
    label: credentials.SecurityLabel,
    *,
    with_reaper: bool = False,
) -> None:
    """Who it is, where it is, what it may, and then the program itself."""
    if not wanted.args:
        raise StartError("no command specified")
    environment = dict(entry.partition("=")[::2] for entry in wanted.env)
    identity = users.look_up(wanted.user, wanted.groups)
    if not environment.get("HOME"):
        environment["HOME"] = identity.home
    if wanted.personality == "linux32":
        process.show_32_bits()
    credentials.set_limits(wanted, channel)
    credentials.enter_directory(wanted.cwd)
    credentials.give_streams(identity.uid)
    os.umask(_UMASK)
    credentials.become(wanted, identity)
    if not channel.is_open:
        raise StartError("the monitor is gone")
    program = programs.find(wanted.args[0], environment.get("PATH", ""))
    if with_reaper:
        credentials.confine(wanted)  # the reaper, too
        reaper.stand_before_child(channel)
    label.set()
    process.reset_signals()
    process.close_on_exec_from(_CHANNEL)
    if not with_reaper:
        credentials.confine(wanted)
    programs.execute(program, wanted.args, environment)


def open_null() -> None:
    """Standard input from the container's /dev/null, if it is one; otherwise it stays the host's."""
    try:
        fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return
    status = os.fstat(fd)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL:
        os.dup2(fd, 0)
    os.close(fd)


def make_directory(wanted: Process) -> None:
    """A missing working directory is made, and is the user's."""
    path = wanted.cwd
    if os.path.isdir(path):
        return
    identity = users.look_up(wanted.user, wanted.groups)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(paths.make_directories(root, path, owner=(identity.uid, identity.gid)))
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
