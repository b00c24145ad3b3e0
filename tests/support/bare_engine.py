"""A whole engine in a test's own process, without root: its containers are ``sleep``s, and the test is their monitor.

Everything above the launcher is the real thing. What needs root is left out: containers have no network or the host's,
or are on a macvlan network of the loopback interface, of which nothing is made before a monitor would make it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from tests.support.laid_images import lay_image
from wherry.engine.config import EngineConfig
from wherry.engine.container.store import ContainerEntry
from wherry.engine.context import Context
from wherry.engine.engine import Engine
from wherry.model.container import Container, ContainerConfig, HostConfig
from wherry.model.network import EndpointSettings, NetworkCreate, NetworkingConfig
from wherry.runtime import ipc
from wherry.runtime.launcher_client import Client, Launcher
from wherry.runtime.monitor_client import Monitor
from wherry.runtime.spec import Process, Spec
from wherry.storage.database import Database
from wherry.storage.store import Store

Answer = Callable[["Started", ipc.Exec, Process], None]


def frame(data: bytes, stream: int = 1) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Started:
    """A container that was started, as its monitor sees it: what it was told, and what it says."""

    def __init__(
        self, spec: Spec, clients: Sequence[Client], ignored: tuple[signal.Signals, ...], answer: Answer
    ) -> None:
        self.spec = spec
        self.requests: list[ipc.Request] = []
        self.dying = False  # ends, and its container too, at the next question and without an answer
        self.streams = [client[0].dup() for client in clients]
        self.engine_end, self._connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._answer = answer
        self._process = subprocess.Popen(["sleep", "600"], preexec_fn=_ignoring(ignored) if ignored else None)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._connection, self._hear)
        self._loop.add_reader(self._pidfd, self._ended)
        self._say(ipc.Started(self.pid, os.getpid(), time.time_ns()), (self._pidfd,))

    def exit(self, code: int, *, oom: bool = False) -> None:
        """Its first process ends by itself."""
        self.end_streams()
        self._finish(ipc.Exited(code, time.time_ns(), oom=oom))

    def tell(self, message: ipc.Answer) -> None:
        self._say(message)

    def reply(self, request: ipc.Request) -> None:
        self._say(ipc.Reply(request.number))

    def exec_started(self, request: ipc.Exec) -> None:
        self._say(ipc.ExecStarted(request.number, self.pid), (self._pidfd,))

    def end_streams(self) -> None:
        for each in self.streams:
            each.close()
        self.streams = []

    def close(self) -> None:
        """At the test's end, whatever has become of it."""
        if self._pidfd >= 0:
            self._finish(None)
        self._loop.remove_reader(self._connection)
        self._connection.close()
        self.end_streams()

    def _say(self, message: ipc.Answer, descriptors: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(OSError):  # the engine has let go of it, or it died
            ipc.send(self._connection, message, descriptors)

    def _hear(self) -> None:
        try:
            packet, descriptors = ipc.receive(self._connection)
        except BlockingIOError:
            return
        if not packet:
            self._loop.remove_reader(self._connection)
            return
        request = ipc.decode_request.decode(packet)
        self.requests.append(request)
        if self.dying:
            self._loop.remove_reader(self._connection)
            self._connection.shutdown(socket.SHUT_RDWR)
            self._process.kill()
            return
        if isinstance(request, ipc.Exec):
            memfd, *sockets = descriptors
            with open(memfd, "rb") as file:
                os.lseek(memfd, 0, os.SEEK_SET)
                process = msgspec.msgpack.decode(file.read(), type=Process)
            self.streams = [socket.socket(fileno=fd) for fd in sockets]
            self._answer(self, request, process)
            self.end_streams()
            return
        for fd in descriptors:
            os.close(fd)
        self.reply(request)

    def _ended(self) -> None:
        code = self._process.wait()
        self._finish(ipc.Exited(128 - code if code < 0 else code, time.time_ns()))

    def _finish(self, exited: ipc.Exited | None) -> None:
        self._loop.remove_reader(self._pidfd)
        self._process.kill()
        self._process.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        if exited is not None:
            self._say(exited)


class ScriptedLauncher:
    """``failures`` are raised by the next starts, in turn; ``begun`` is called with each container that has started,
    and ``answer`` for each exec."""

    pid = 0

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.failures: list[Exception] = []
        self.ignored: tuple[signal.Signals, ...] = ()
        self.begun: Callable[[Started], None] = lambda started: None
        self.answer: Answer = _succeed

    async def start(self, spec: Spec, clients: Sequence[Client] = ()) -> Monitor:
        if self.failures:
            raise self.failures.pop(0)
        started = Started(spec, clients, self.ignored, lambda *arguments: self.answer(*arguments))
        self.started.append(started)
        monitor = Monitor(started.engine_end, spec.exec_dir)
        self.begun(started)
        await monitor.started()
        return monitor

    async def close(self) -> None:
        for each in self.started:
            each.close()


def _ignoring(signals: tuple[signal.Signals, ...]) -> Callable[[], None]:
    def ignore() -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)

    return ignore


def _succeed(started: Started, request: ipc.Exec, process: Process) -> None:
    started.exec_started(request)
    started.tell(ipc.ExecExited(request.exec_id, 0))


class BareEngine:
    """``engine`` is the real one. Close it: it has processes."""

    def __init__(self, root: Path) -> None:
        self.config = EngineConfig(data_root=f"{root}/data", exec_root=f"{root}/run", iptables=False)
        self.open()

    def open(self) -> None:
        for path in (f"{self.config.data_root}/containers", self.config.exec_root):
            os.makedirs(path, exist_ok=True)
        self.launcher = ScriptedLauncher()
        self.database = Database(f"{self.config.data_root}/state.db")
        self.store = Store.open(self.config.data_root, self.database)
        self.engine = Engine(Context.of(self.config, self.database, self.store, cast(Launcher, self.launcher)))

    async def close(self) -> None:
        await self.engine.close()

    async def reopen(self) -> None:
        """Another engine upon what this one leaves: its containers have ended meanwhile."""
        await self.close()
        self.open()
        await self.engine._recovery.run()

    def image(self, *layers: str, tag: str = "app", **config: Any) -> str:
        """An image of layers with nothing in them, whose command is ``serve``."""
        settings = ContainerConfig(**{"cmd": ["serve"]} | config)
        return lay_image(self.store, *layers, tag=tag, config=settings)

    async def create(
        self,
        name: str | None = None,
        host: HostConfig | None = None,
        endpoints: dict[str, EndpointSettings | None] | None = None,
        **config: Any,
    ) -> Container:
        """A container of ``app`` without a network, unless said otherwise."""
        container_id, _ = await self.engine.containers.create(
            ContainerConfig(**{"image": "app"} | config),
            host or HostConfig(network_mode="none"),
            NetworkingConfig(endpoints or {}),
            name,
        )
        return self.engine.containers.get(container_id)

    async def start(self, name: str) -> Started:
        await self.engine.containers.start(name)
        return self.launcher.started[-1]

    async def run(self, name: str | None = None, host: HostConfig | None = None, **options: Any) -> Started:
        record = await self.create(name, host, **options)
        return await self.start(record.id)

    def live(self, name: str) -> ContainerEntry:
        return self.engine.containers.find(name)

    async def ended(self, name: str) -> Container:
        """The container's record, once nothing of it runs."""
        entry = self.live(name)
        await asyncio.wait_for(entry.ended.wait(), 10)
        return entry.record

    def loopback_network(self, name: str, subnet: str = "192.0.2.0/24", driver: str = "macvlan", **fields: Any) -> str:
        asked = msgspec.convert(
            {"Name": name, "Driver": driver, "Options": {"parent": "lo"}, "IPAM": {"Config": [{"Subnet": subnet}]}}
            | fields,
            NetworkCreate,
        )
        return str(self.engine.networks.create(asked)["Id"])

    async def events(self, **filters: list[str]) -> list[str]:
        """What has happened up to now, as "container start"."""
        told = self.engine.events.subscribe(filters, since=0, until=time.time_ns())
        return [f"{event['Type']} {event['Action']}" async for event in told]


@contextlib.asynccontextmanager
async def opened(root: Path) -> AsyncIterator[BareEngine]:
    found = BareEngine(root)
    try:
        yield found
    finally:
        await found.close()
