"""Which engine a command is for, and starting one where there is none.

In this order: --context or --host; WHERRY_HOST; DOCKER_HOST; DOCKER_CONTEXT; the current context of docker's
configuration; the default socket. Only for the default socket an engine is started: whoever names another one
wants that one, or an error.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.command import CommandError
from wherry.client.host import TLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

SYSTEM_EXEC_ROOT = "/run/wherry"
SOCKET = "wherry.sock"
READY = 3


class Endpoint:
    """An engine's address and how to speak TLS with it. `own`: the default socket, where one may be started."""

    def __init__(self, address: str, tls: TLS | None = None, *, own: bool = False) -> None:
        self.address, self.tls, self.own = address, tls, own

    def start(self) -> bool:
        """Starts an engine, if it may, and says whether it is worth to try again."""
        if not self.own or sys.platform != "linux":
            return False
        start_engine(self.address.removeprefix("unix://"))
        return True


def exec_root() -> str:
    """The directory of the default socket: the system's for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return SYSTEM_EXEC_ROOT
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    own = os.path.join(runtime, "wherry")
    # Who may use the system's engine (the socket's group says so) and has none of their own gets that.
    if not os.path.exists(os.path.join(own, SOCKET)) and os.access(os.path.join(SYSTEM_EXEC_ROOT, SOCKET), os.W_OK):
        return SYSTEM_EXEC_ROOT
    return own


def find(session: Session) -> Endpoint:
    """Raises CommandError for a context that there is not, or two answers at once."""
    options = session.options
    hosts: list[str] = options["host"]
    context: str = options["context"]
    if context and hosts:
        raise CommandError("conflicting options: cannot specify both --host and --context")
    if len(hosts) > 1:
        raise CommandError("Specify only one -H")
    if not context:
        host = hosts[0] if hosts else os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or ""
        if host:
            return Endpoint(host, _tls(options))
        context = os.environ.get("DOCKER_CONTEXT") or str(session.config.get("currentContext") or "")
    if context and context != "default":
        return _from_context(session.config_directory, context)
    return Endpoint(f"unix://{exec_root()}/{SOCKET}", own=True)


def _tls(options: Options) -> TLS | None:
    if not (options["tls"] or options["tlsverify"] or options.changed("tlsverify")):
        return None
    paths = {}
    for name in ("tlscacert", "tlscert", "tlskey"):
        path: str = options[name]
        # A default file that is not there is not meant.
        paths[name] = path if options.changed(name) or os.path.exists(path) else ""
    return TLS(paths["tlscacert"], paths["tlscert"], paths["tlskey"], verify=options["tlsverify"])


def _from_context(directory: str, name: str) -> Endpoint:
    """docker keeps a context in contexts/meta/<sha256 of its name>/meta.json, its keys in contexts/tls/<the same>."""
    from hashlib import sha256

    from wherry.client.lean import loads

    digest = sha256(name.encode()).hexdigest()
    path = os.path.join(directory, "contexts", "meta", digest, "meta.json")
    try:
        with open(path, "rb") as file:
            endpoint: dict[str, Any] = loads(file.read())["Endpoints"]["docker"]
    except FileNotFoundError:
        raise CommandError(
            f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: '
            f"open {path}: no such file or directory"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f'context "{name}": {error}'
        raise CommandError(f"Failed to initialize: unable to resolve docker endpoint: {reason}") from None
    keys = os.path.join(directory, "contexts", "tls", digest, "docker")
    files = [os.path.join(keys, file) for file in ("ca.pem", "cert.pem", "key.pem")]
    present = [file if os.path.exists(file) else "" for file in files]
    insecure = bool(endpoint.get("SkipTLSVerify"))
    tls = TLS(*present, verify=not insecure) if any(present) or insecure else None
    return Endpoint(str(endpoint.get("Host") or f"unix://{exec_root()}/{SOCKET}"), tls)


def start_engine(socket: str) -> None:
    """Starts an engine that listens at `socket` and outlives this process; returns when it answers.

    Several that come at once start one: the first holds a lock until its engine is ready, the others find that.
    Raises CommandError, with what the engine said last, when it does not come up.
    """
    import fcntl

    directory = os.path.dirname(socket)
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
        lock = os.open(os.path.join(directory, "start.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"cannot start the wherry daemon: {error.filename}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(socket):
            _spawn(os.path.join(directory, "daemon.log"))
    finally:
        os.close(lock)


def _answers(socket: str) -> bool:
    from wherry.client.errors import ConnectionFailed
    from wherry.client.host import Host

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
        words = _last_words(log, said_before)
        raise CommandError(f"the wherry daemon did not start; its log, {log}, ends with:\n{words}")


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


def _last_words(log: str, start: int) -> str:
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").rstrip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-10:]) or "  (nothing)"
