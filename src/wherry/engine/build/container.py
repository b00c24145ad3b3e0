"""The container of one RUN: started like any other, known to nobody else, and gone when it ends."""

import asyncio
import codecs
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from wherry.engine import clock, configuration, platforms, specification
from wherry.engine.build.request import Limits
from wherry.engine.config import EngineConfig
from wherry.engine.connections import Connections
from wherry.engine.roster import Live
from wherry.linux.mounts import Mount
from wherry.model.config import ContainerConfig
from wherry.model.container import Container
from wherry.model.errors import Conflict, EngineError
from wherry.model.host import HostConfig, LogConfig
from wherry.model.network import NetworkingConfig
from wherry.runtime.errors import OF_USERS
from wherry.runtime.launching import Launcher
from wherry.runtime.monitors import Monitor, StartError
from wherry.runtime.spec import Spec
from wherry.storage.staging import Staging

# The same on every machine: names of hosts find their way into files.
HOSTNAME = "wherry-build"
_HEADER = 8  # bytes before each piece of a container's output
_READ = 1 << 16

Output = Callable[[int, str], Awaitable[None]]
"""Takes a stream's number (1 is standard output, 2 standard error) and text; the container waits for it."""


class Command(msgspec.Struct, frozen=True):
    """What is to run. ``network`` is "", "none", "host" or a network's name; ``insecure`` takes all fences away."""

    words: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    user: str
    architecture: str
    network: str = ""
    insecure: bool = False
    hostname: str = HOSTNAME
    extra_hosts: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    limits: Limits = Limits()

    def with_environment(self, more: Sequence[str]) -> "Command":
        return msgspec.structs.replace(self, environment=(*self.environment, *more))


class Containers:
    """Runs commands of builds."""

    def __init__(self, config: EngineConfig, launcher: Launcher, connections: Connections, staging: Staging) -> None:
        self._config = config
        self._launcher = launcher
        self._connections = connections
        self._staging = staging

    def new_id(self) -> str:
        return os.urandom(32).hex()

    def make_directory(self, container_id: str) -> str:
        """Its own, of the exec root, which is no disk: for what must not be left behind. It goes with the run."""
        path = f"{self._config.exec_root}/{container_id}"
        os.mkdir(path, 0o700)
        return path

    async def run(
        self, container_id: str, command: Command, root: tuple[Mount, ...], mounts: Sequence[Mount], output: Output
    ) -> int:
        """Runs a command to its end; its exit code. Cancelling ends it at once. Raises EngineError."""
        live = Live(self._record(container_id, command))
        files = f"{self._config.data_root}/containers/{container_id}"
        os.mkdir(files, 0o710)
        try:
            wiring = self._connections.prepare(live)
            try:
                spec = specification.write_spec(live.record, root, files, self._config, _no_pid, wiring, mounts)
                return await self._run(live, spec, output)
            finally:
                self._connections.ended(live)
        except StartError as error:
            if error.message.startswith(OF_USERS):
                raise EngineError(error.message) from None
            advice = platforms.advice(command.architecture)
            raise EngineError(f"failed to create task for container: {error.message}{advice}") from None
        finally:
            shutil.rmtree(f"{self._config.exec_root}/{container_id}", ignore_errors=True)
            self._staging.throw_away(files)

    async def _run(self, live: Live, spec: Spec, output: Output) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        monitor: Monitor | None = None
        with ours:
            try:
                with theirs:
                    starting = asyncio.ensure_future(self._launcher.start(spec, [(theirs, False, True, True)]))
                    try:
                        monitor = await asyncio.shield(starting)
                    except asyncio.CancelledError:
                        monitor = await starting
                        raise
                self._connections.started(live, monitor)
                await _forward(ours, output)
                return (await monitor.exited).code
            finally:
                if monitor is not None:
                    await asyncio.shield(_end(monitor))

    def _record(self, container_id: str, command: Command) -> Container:
        host = self._host_config(command)
        networks, attachments = self._connections.endpoints(ContainerConfig(), host, NetworkingConfig())
        path, *arguments = command.words
        config = ContainerConfig(
            hostname=command.hostname,
            user=command.user,
            env=list(command.environment),
            working_dir=command.directory,
        )
        return Container(
            id=container_id,
            name=f"build-{container_id[:12]}",
            created=clock.now(),
            image="",
            image_id="",
            chain_id="",
            architecture=command.architecture,
            path=path,
            args=arguments,
            config=config,
            host_config=host,
            networks=networks,
            attachments=attachments,
            log=LogConfig("none"),
        )

    def _host_config(self, command: Command) -> HostConfig:
        limits = command.limits
        asked = HostConfig(
            network_mode=command.network,
            uts_mode="private",
            privileged=command.insecure,
            extra_hosts=list(command.extra_hosts),
            security_opt=list(command.security),
            memory=limits.memory,
            memory_swap=limits.memory_swap,
            cpu_shares=limits.cpu_shares,
            cpu_period=limits.cpu_period,
            cpu_quota=limits.cpu_quota,
            cpuset_cpus=limits.cpuset_cpus,
            cpuset_mems=limits.cpuset_mems,
            shm_size=limits.shm_size,
            ulimits=list(limits.ulimits),
            cgroup_parent=limits.cgroup_parent,
            log_config=LogConfig("none"),
        )
        host = configuration.complete_host_config(asked, self._config)
        specification.check_security_options(host)
        return host


def _no_pid(name: str) -> int:
    raise Conflict(f"a build cannot join the namespaces of container {name}")


async def _forward(stream: socket.socket, output: Output) -> None:
    """Hands on what the container prints, until its streams have ended."""
    loop = asyncio.get_running_loop()
    decoders = {number: codecs.getincrementaldecoder("utf-8")("replace") for number in (1, 2)}
    pending = b""
    while data := await loop.sock_recv(stream, _READ):
        pending += data
        at = 0
        while len(pending) - at >= _HEADER:
            end = at + _HEADER + int.from_bytes(pending[at + 4 : at + _HEADER], "big")
            if end > len(pending):
                break
            number = pending[at]
            text = decoders[number].decode(pending[at + _HEADER : end])
            if text:
                await output(number, text)
            at = end
        pending = pending[at:]
    for number, decoder in decoders.items():
        if rest := decoder.decode(b"", True):
            await output(number, rest)


async def _end(monitor: Monitor) -> None:
    monitor.kill()
    await monitor.exited
    monitor.close()
