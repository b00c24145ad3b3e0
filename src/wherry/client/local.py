"""The engine of this machine: where it listens, and starting one where there is none."""

from __future__ import annotations

import os
import sys

from wherry.client.endpoint import Host
from wherry.client.transport import ClientError, ConnectionFailed
from wherry.common import places

SYSTEM_EXEC_ROOT = "/run/wherry"
SOCKET = places.SOCKET
READY = 3


class StartFailed(ClientError):
    """An engine was to be started, and did not come up; the text says what it said last."""


def exec_root() -> str:
    """The directory of the default socket: the system's for root, and for who may use that one and has no engine of
    their own; the user's own otherwise. Raises ClientError."""
    if os.geteuid() == 0:
        return SYSTEM_EXEC_ROOT
    own = _own_exec_root()
    system = os.path.join(SYSTEM_EXEC_ROOT, SOCKET)
    return SYSTEM_EXEC_ROOT if os.access(system, os.W_OK) and not os.path.exists(f"{own}/{SOCKET}") else own


def _own_exec_root() -> str:
    try:
        return places.exec_root(os.geteuid())
    except places.NotPrivate as error:
        raise ClientError(str(error)) from None


def own_socket() -> str:
    """The address of an ordinary user's own engine. Raises ClientError."""
    return f"unix://{_own_exec_root()}/{SOCKET}"


def default_socket() -> str:
    """Its address."""
    return f"unix://{exec_root()}/{SOCKET}"


def named_by_environment() -> str:
    """The address that the environment gives, "" for none."""
    return os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or ""


def default_address() -> str:
    """Where the engine is that is meant when no context is."""
    return named_by_environment() or default_socket()


def way_to_permission(socket: str) -> str:
    """How a user comes to open a socket that they may not open: by its group, where it has one."""
    try:
        found = os.stat(socket)
    except PermissionError:
        return f"you may not look into {os.path.dirname(socket)}; run this with sudo"
    if not found.st_gid or not found.st_mode & 0o020:
        return "it is for root alone. Run this with sudo, or have the engine give it to a group: wherry daemon --group"
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(found.st_gid).gr_name, pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        group, user = str(found.st_gid), str(os.geteuid())
    return f"it is for root and the group {group}. To join it: sudo usermod -aG {group} {user}, and log in again"


def start_engine(socket: str) -> None:
    """Starts an engine that listens at `socket` and outlives this process; returns when it answers.

    Several that come at once start one: the first holds a lock until its engine is ready, the others find that.
    Raises StartFailed, with what the engine said last, when it does not come up.
    """
    import fcntl

    directory = os.path.dirname(socket)
    try:
        os.makedirs(directory, mode=places.MODE if os.geteuid() else 0o711, exist_ok=True)
        lock = os.open(os.path.join(directory, "start.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartFailed(f"cannot start the wherry daemon: {error.filename}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(socket):
            _spawn(os.path.join(directory, "daemon.log"))
    finally:
        os.close(lock)


def _answers(socket: str) -> bool:
    try:
        Host("unix://" + socket).connect().close()
    except ConnectionFailed:
        return False
    return True


def daemon_command() -> list[str]:
    """The engine, which says on descriptor READY when it answers."""
    return [*python(), "-m", "wherry.daemon", "--ready-fd", str(READY)]


def _spawn(log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    said_before = os.fstat(output).st_size
    ready, ready_in_engine = os.pipe()
    child = os.fork()
    if child == 0:
        _become_engine(output, ready_in_engine)
    os.close(ready_in_engine)
    os.close(output)
    os.waitpid(child, 0)
    # The engine writes a line when it answers. When it dies before, the pipe ends.
    line = os.read(ready, 4096)
    os.close(ready)
    if not line:
        words = last_words(log, said_before)
        raise StartFailed(f"the wherry daemon did not start; its log, {log}, ends with:\n{words}")


def _become_engine(output: int, ready: int) -> None:
    """Turns this fork into the engine. Never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)  # the engine gets the system's init for a parent, and none of its children is a zombie of ours
        os.chdir("/")
        os.umask(0o022)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(ready, READY)  # dup2 makes it inheritable
        os.closerange(READY + 1, os.sysconf("SC_OPEN_MAX"))
        command = daemon_command()
        os.execv(command[0], command)
    finally:
        os._exit(127)


def python() -> list[str]:
    """This interpreter, for another program of wherry's. -P: nothing is imported from the working directory,
    where -m looks first and anybody may have left a module."""
    return [sys.executable, "-P"]


def last_words(log: str, start: int) -> str:
    """What an engine has said since its log had `start` bytes: the last ten lines."""
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").rstrip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-10:]) or "  (nothing)"
