"""The engine while it serves: opens it, opens the API's sockets, reloads on SIGHUP, and ends when it is told to."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from wherry.api.gate import Gate
from wherry.api.listen import BACKLOG, Listener
from wherry.daemon.configuration import Configuration, ConfigurationError
from wherry.daemon.log_format import set_level
from wherry.linux.sockets import Notifier

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

log = logging.getLogger("wherry.daemon")


async def serve(configuration: Configuration, listeners: Sequence[Listener], ready_fd: int, lease_fd: int = -1) -> None:
    notifier = Notifier()
    told = _watch_signals()
    if lease_fd >= 0:
        os.set_inheritable(lease_fd, False)
        # Whoever started this engine for itself holds the other side, and never writes: it is readable at its end
        asyncio.get_running_loop().add_reader(lease_fd, told.set)
    gate = Gate(configuration.engine())
    doors = [await _open_door(gate.protocol, listener) for listener in listeners if listener.is_local]
    await asyncio.to_thread(_load)
    from wherry.api.server import Server
    from wherry.engine.engine import Engine

    engine = await Engine.open(configuration.engine())
    reloader = Reloader(configuration, engine, notifier)
    try:
        observe = None
        if configuration["metrics-addr"]:
            from wherry.daemon.metrics import Metrics  # late, as few engines need it

            metrics = Metrics(engine)
            doors.append(await metrics.serve(configuration["metrics-addr"]))
            observe = metrics.observe
        server = Server(engine, observe)
        doors += [await _open_door(server.protocol, listener) for listener in listeners if not listener.is_local]
        gate.open(server.protocol, server.protocol.turns)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.reload)
        _say_ready(listeners, ready_fd)
        notifier.ready()
        await told.wait()
        notifier.stopping()
        log.info("stopping; containers run on")
        for door in doors:
            door.close()
        await server.close()
    finally:
        await engine.close()


def _load() -> None:
    """Imports most of the program: three quarters of the time that the engine takes to start."""
    gc.disable()
    import wherry.api.server
    import wherry.engine.engine  # noqa: F401 - to have it loaded
    from wherry.linux.process import trim_memory

    # What has been imported stays: the collector need not look at it again
    gc.collect()
    gc.freeze()
    gc.enable()
    trim_memory()


class Reloader:
    """What SIGHUP does."""

    def __init__(self, configuration: Configuration, engine: "Engine", notifier: Notifier) -> None:
        self._configuration = configuration
        self._engine = engine
        self._notifier = notifier

    def reload(self) -> None:
        """Reads daemon.json again. When that fails everything is as before, and the log says why."""
        self._notifier.reloading()
        try:
            found, kept = self._configuration.read_again()
        except ConfigurationError as error:
            log.error("not reloaded: %s", error)
        else:
            self._configuration = found
            set_level(found)
            self._engine.reload(found.engine())
            log.info("reloaded %s", found.path)
            if kept:
                log.warning("not until the engine is started again: %s", ", ".join(sorted(kept)))
        self._notifier.ready()


async def _open_door(serve: Callable[[], Any], listener: Listener) -> asyncio.AbstractServer:
    """``serve`` makes a protocol. Both calls listen again, by a backlog of 100 unless they are told one."""
    loop = asyncio.get_running_loop()
    if listener.is_local:
        return await loop.create_unix_server(serve, sock=listener.sock, backlog=BACKLOG)
    if listener.context is None:
        return await loop.create_server(serve, sock=listener.sock, backlog=BACKLOG)
    from wherry.api.tls import TlsRelay  # late, as few engines need it

    context = listener.context
    return await loop.create_server(lambda: TlsRelay(context, serve), sock=listener.sock, backlog=BACKLOG)


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
