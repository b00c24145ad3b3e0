"""``wherry daemon``: reads the flags, opens the engine, serves the API, and ends when it is told to.

Containers live on when the engine ends: their monitors hold them, and the next engine finds them. The first SIGTERM or
SIGINT lets requests under way finish, the second ends the engine at once.
"""

import argparse
import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from wherry.api.listen import BACKLOG, Listener, ListenError, Tls, listen
from wherry.common.errors import EngineError
from wherry.engine.config import EngineConfig
from wherry.engine.container import logs
from wherry.model.container import LogConfig
from wherry.storage import data_root

if TYPE_CHECKING:
    from wherry.api.server import Server

log = logging.getLogger("wherry.daemon")

_EXEC_ROOT_MODE = 0o711  # the socket in there may be a group's

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


class StartupError(Exception):
    """Why the engine cannot start: one line, for the person who started it."""


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, and Docker's exit code for it."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            message = f"unknown flag or argument: {unknown.split()[0]}"
        self.exit(125, f"wherry daemon: {message}\nSee 'wherry daemon --help'.\n")


def _parser() -> argparse.ArgumentParser:
    certificates = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    defaults = EngineConfig()
    parser = _Parser(prog="wherry daemon", description="Run the engine in the foreground.", allow_abbrev=False)
    add = parser.add_argument
    add("-H", "--host", action="append", default=[], metavar="ADDRESS",
        help="listen on unix://PATH or tcp://HOST:PORT; may be given several times")  # fmt: skip
    add("--data-root", default=defaults.data_root, metavar="DIR", help="what outlives a restart of the machine")
    add("--exec-root", default=defaults.exec_root, metavar="DIR", help="what does not")
    add("-G", "--group", default="", help='who may use a unix socket; "docker" if there is such a group')
    add("-p", "--pidfile", default="", metavar="FILE", help="write the process id here")
    add("-l", "--log-level", default="info", choices=_LEVELS, help="how much the engine says on stderr")
    add("-D", "--debug", action="store_true", help="the same as --log-level=debug, and told in info")
    add("--label", action="append", default=[], metavar="KEY=VALUE", help="describes this engine in info")
    add("--log-driver", default=defaults.log_driver, help="how containers' output is kept unless they say otherwise")
    add("--log-opt", action="append", default=[], metavar="KEY=VALUE", help="an option of the log driver")
    add("--init", action="store_true", help="run an init in every container")
    add("--icc", nargs="?", const=True, default=True, type=_boolean, metavar="BOOL",
        help="--icc=false keeps containers on the default network apart, but for links")  # fmt: skip
    add("--iptables", nargs="?", const=True, default=True, type=_boolean, metavar="BOOL",
        help="--iptables=false makes no rules of the firewall: ports are forwarded by the engine")  # fmt: skip
    add("--insecure-registry", action="append", default=[], metavar="HOST", help="reach this registry without TLS")
    add("--registry-mirror", action="append", default=[], metavar="URL", help="ask here before Docker Hub")
    add("--tls", nargs="?", const=True, type=_boolean, metavar="BOOL",
        help="use TLS for tcp://; --tls=false allows tcp:// without it")  # fmt: skip
    add("--tlsverify", nargs="?", const=True, default=False, type=_boolean, metavar="BOOL",
        help="use TLS, and let in only who shows a certificate")  # fmt: skip
    add("--tlscacert", default=f"{certificates}/ca.pem", metavar="FILE", help="who signs the clients' certificates")
    add("--tlscert", default=f"{certificates}/cert.pem", metavar="FILE", help="the engine's certificate")
    add("--tlskey", default=f"{certificates}/key.pem", metavar="FILE", help="and its key")
    add("--ready-fd", type=int, default=-1, metavar="N", help='write "ready" to this descriptor once serving')
    return parser


def _boolean(text: str) -> bool:
    """Go's ParseBool. Raises ValueError, which argparse turns into its message."""
    values = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    _start_logging(logging.DEBUG if options.debug else _LEVELS[options.log_level])
    try:
        _run(options)
    except (StartupError, ListenError, EngineError, OSError) as error:
        message = error.message if isinstance(error, EngineError) else str(error)
        print(f"wherry daemon: {message}", file=sys.stderr)
        return 1
    return 0


def _start_logging(level: int) -> None:
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _run(options: argparse.Namespace) -> None:
    if os.geteuid() != 0:
        raise StartupError("the engine needs root to set containers up: start it with sudo")
    config = _config(options)
    logs.check_log_config(LogConfig(config.log_driver, config.log_options))
    tls = Tls(options.tls, options.tlsverify, options.tlscacert, options.tlscert, options.tlskey)
    os.umask(0o022)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(config.data_root, data_root.MODE))
        stack.enter_context(_locked(config.exec_root, _EXEC_ROOT_MODE))
        if options.pidfile:
            stack.enter_context(_pidfile(options.pidfile))
        listeners = [stack.enter_context(contextlib.closing(listen(host, tls, options.group))) for host in config.hosts]
        _warn(listeners, tls)
        _serve(config, listeners, options.ready_fd)


def _config(options: argparse.Namespace) -> EngineConfig:
    if not options.icc and not options.iptables:
        raise StartupError("--icc=false needs the firewall: leave out --iptables=false")
    defaults = EngineConfig()
    log_options = dict(_pair("log-opt", option).split("=", 1) for option in options.log_opt)
    if options.log_driver == defaults.log_driver:
        log_options = defaults.log_options | log_options
    data_root, exec_root = os.path.abspath(options.data_root), os.path.abspath(options.exec_root)
    defaults = EngineConfig()
    return EngineConfig(
        data_root=data_root,
        exec_root=exec_root,
        hosts=tuple(options.host) or (f"unix://{exec_root}/wherry.sock",),
        labels=tuple(_pair("label", label) for label in options.label),
        log_driver=options.log_driver,
        log_options=log_options,
        init=options.init,
        icc=options.icc,
        iptables=options.iptables,
        debug=options.debug,
        insecure_registries=tuple(options.insecure_registry),
        registry_mirrors=tuple(options.registry_mirror),
    )


def _pair(flag: str, text: str) -> str:
    if "=" not in text or text.startswith("="):
        raise StartupError(f"--{flag} takes KEY=VALUE, not {text!r}")
    return text


@contextlib.contextmanager
def _locked(root: str, mode: int) -> Iterator[None]:
    """Keeps a second engine away from a root, which is made. The lock goes with the process, whatever becomes of it.

    Nobody else may open the file: who can read it can lock it, and keep every engine away.
    """
    os.makedirs(root, mode=mode, exist_ok=True)
    descriptor = os.open(f"{root}/lock", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "a+", encoding="ascii") as file:
        os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise StartupError(f"another engine (pid {holder or 'unknown'}) already uses {root}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def _pidfile(path: str) -> Iterator[None]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            holder = file.read().strip()
    except FileNotFoundError:
        holder = ""
    if holder.isdigit() and int(holder) != os.getpid() and os.path.exists(f"/proc/{holder}"):
        raise StartupError(f"process {holder} runs and has the pid file {path}: end it, or remove the file")
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _warn(listeners: Sequence[Listener], tls: Tls) -> None:
    for listener in listeners:
        if not listener.path and listener.context is None:
            log.warning("%s has no TLS: whoever can reach it is root on this machine", listener.address)
        elif listener.context is not None and not tls.verify:
            log.warning("%s lets in whoever can reach it: give --tlsverify to ask for certificates", listener.address)


def _serve(config: EngineConfig, listeners: Sequence[Listener], ready_fd: int) -> None:
    import uvloop

    uvloop.run(_serve_until_told(config, listeners, ready_fd))


async def _serve_until_told(config: EngineConfig, listeners: Sequence[Listener], ready_fd: int) -> None:
    from wherry.api.server import Server  # late, so that a mistake in the flags is answered at once
    from wherry.engine.engine import Engine

    told = _watch_signals()
    engine = await Engine.open(config)
    try:
        server = Server(engine)
        doors = [await _open_door(server, listener) for listener in listeners]
        # What has been imported stays: the collector need not look at it again
        gc.collect()
        gc.freeze()
        _say_ready(listeners, ready_fd)
        await told.wait()
        log.info("stopping; containers run on")
        for door in doors:
            door.close()
        await server.close()
    finally:
        await engine.close()


async def _open_door(server: "Server", listener: Listener) -> asyncio.AbstractServer:
    """Both calls listen again, by a backlog of 100 unless they are told one."""
    loop = asyncio.get_running_loop()
    if listener.path:
        return await loop.create_unix_server(server.protocol, sock=listener.sock, backlog=BACKLOG)
    if listener.context is None:
        return await loop.create_server(server.protocol, sock=listener.sock, backlog=BACKLOG)
    from wherry.api.listen import TlsRelay  # late, as few engines need it

    context = listener.context
    return await loop.create_server(lambda: TlsRelay(context, server.protocol), sock=listener.sock, backlog=BACKLOG)


def _watch_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process."""
    told = asyncio.Event()

    def tell(number: int) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, number)
    return told


def _say_ready(listeners: Sequence[Listener], ready_fd: int) -> None:
    for listener in listeners:
        log.info("serving on %s", listener.address)
    if ready_fd >= 0:
        with contextlib.suppress(OSError):  # who asked has gone
            os.write(ready_fd, b"ready\n")
        os.close(ready_fd)


if __name__ == "__main__":
    sys.exit(main())
