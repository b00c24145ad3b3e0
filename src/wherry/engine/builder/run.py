"""RUN: a command in a container of its own, whose changes become a layer."""

import asyncio
import codecs
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from wherry.common import times
from wherry.common.errors import EngineError, Forbidden, InvalidParameter
from wherry.dockerfile import instructions as ins
from wherry.dockerfile.config import Script, command_words, run_command
from wherry.dockerfile.instructions import Mount as WantedMount
from wherry.dockerfile.lexer import DockerfileError
from wherry.engine import platforms
from wherry.engine.builder import history, progress
from wherry.engine.builder.copy import Origin, Sources
from wherry.engine.builder.intermediate import Left, ended, keep_all
from wherry.engine.builder.mounts import USUAL_PLACES, RunMounts, target_of
from wherry.engine.builder.progress import Progress
from wherry.engine.builder.request import HOST_NETWORK, INSECURE, BuildRequest, Limits, StepFailed
from wherry.engine.builder.stage import Walker
from wherry.engine.builder.steps import Plan, step_inputs
from wherry.engine.container.config import complete_host_config
from wherry.engine.container.spec import check_security_options, not_running, write_spec
from wherry.engine.container.store import ContainerEntry
from wherry.engine.container.user_namespaces import UserNamespaces
from wherry.engine.context import Context, Service
from wherry.engine.network.attach import NetworkEndpoints
from wherry.linux.mounts import Mount
from wherry.model.container import Container, ContainerConfig, HostConfig, LogConfig
from wherry.model.network import NetworkingConfig
from wherry.runtime.ipc import OF_USERS
from wherry.runtime.monitor_client import Monitor, StartError
from wherry.runtime.spec import Spec
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace
from wherry.storage.store import Store

# The container of one RUN: started like any other, known to nobody else, and gone when it ends.

# The same on every machine: names of hosts find their way into files.
HOSTNAME = "wherry-build"
OTHERS = "container:"  # the network mode that another container's network is
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


class Containers(Service):
    """Runs commands of builds."""

    def __init__(self, context: Context, endpoints: NetworkEndpoints, user_namespaces: UserNamespaces) -> None:
        super().__init__(context)
        self._user_namespaces = user_namespaces
        self._launcher = context.launcher
        self._staging = context.store.staging
        self._endpoints = endpoints

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
        entry = ContainerEntry(self.record(container_id, command))
        record, host = entry.record, entry.record.host_config
        if host.privileged or host.network_mode == "host":  # which a user namespace does not go with
            host.userns_mode = "host"
        record.uids, record.gids = self._user_namespaces.settle(container_id, host)
        if record.uids:  # all that is bound is the engine's own
            mounts = [msgspec.structs.replace(each, idmap=each.type == "bind") for each in mounts]
        files = f"{self._config.data_root}/containers/{container_id}"
        os.mkdir(files, 0o710)
        try:
            sandbox = self._endpoints.prepare(entry)
            try:
                holder = files
                if command.network.startswith(OTHERS):  # with another's network go that one's files
                    holder = f"{self._config.data_root}/containers/{self._other(command.network).record.id}"
                spec = write_spec(entry.record, root, holder, self._config, self._pid_of, sandbox, mounts)
                return await self._run(entry, spec, output)
            finally:
                self._endpoints.ended(entry)
        except StartError as error:
            if error.message.startswith(OF_USERS):
                raise EngineError(error.message) from None
            advice = platforms.advice(command.architecture)
            raise EngineError(f"failed to create task for container: {error.message}{advice}") from None
        finally:
            self._user_namespaces.made(container_id)
            shutil.rmtree(f"{self._config.exec_root}/{container_id}", ignore_errors=True)
            self._staging.throw_away(files)

    async def keep(self, found: list[Left], workspace: Workspace, store: Store, image: str = "") -> None:
        """Lets containers stay; ``image`` is what was made of them in the end."""
        await keep_all(found, workspace, store, self._entries, image)

    def _other(self, network: str) -> ContainerEntry:
        return self._entries.get(network.removeprefix(OTHERS))

    def _pid_of(self, name: str) -> int:
        monitor = self._entries.get(name).monitor
        if monitor is None:
            raise not_running(name)
        return monitor.pid

    async def _run(self, entry: ContainerEntry, spec: Spec, output: Output) -> int:
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
                self._endpoints.started(entry, monitor)
                await _forward(ours, output)
                return (await monitor.exited).code
            finally:
                if monitor is not None:
                    await asyncio.shield(_end(monitor))

    def record(self, container_id: str, command: Command) -> Container:
        """A container for a command, which has no image, and no files yet."""
        host = self._host_config(command)
        networks, attachments = self._endpoints.plan(ContainerConfig(), host, NetworkingConfig())
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
            created=times.now(),
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
        if asked.network_mode.startswith(OTHERS) and asked.extra_hosts:
            raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
        host = complete_host_config(asked, self._config)
        check_security_options(host)
        return host


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


class Runs:
    """Plans the RUNs of a build."""

    def __init__(
        self,
        request: BuildRequest,
        workspace: Workspace,
        containers: Containers,
        mounts: RunMounts,
        sources: Sources,
        heard: Progress,
        epoch: int | None,
        left: list[Left],
    ) -> None:
        """``left`` gets the containers that are to stay."""
        self._left = left
        self._request = request
        self._workspace = workspace
        self._containers = containers
        self._mounts = mounts
        self._sources = sources
        self._heard = heard
        self._epoch = epoch

    async def plan(self, walker: Walker, run: ins.Run, origin_of: Callable[[str], Awaitable[Origin]]) -> Plan:
        """Raises EngineError for what may not or cannot be."""
        self._check_entitlements(run)
        line, script = run_command(run)
        words = tuple(command_words(line, walker.config)) or self._command_of(walker.config)
        network = run.network if run.network != "default" else self._request.network
        command = Command(
            words,
            tuple(walker.arguments.run_environment(walker.config.env or ())),
            walker.working_directory,
            walker.config.user,
            walker.outcome.platform[1],
            "" if network == "default" else network,
            run.security == "insecure",
            self._request.arguments.get("BUILDKIT_SANDBOX_HOSTNAME") or HOSTNAME,
            self._request.extra_hosts,
            self._request.security,
            self._request.limits,
        )
        volumes = sorted(walker.config.volumes or ()) if self._request.classic else []
        inputs = step_inputs(
            "run",
            words=words,
            environment=walker.config.env or (),
            arguments=walker.arguments.values(),
            above=sorted(walker.arguments.above),
            directory=command.directory,
            user=command.user,
            architecture=command.architecture,
            network=run.network,
            security=run.security,
            hosts=command.extra_hosts,
            hostname=command.hostname,
            script=script,
            mounts=[await self._mount_inputs(walker, mount, origin_of) for mount in run.mounts],
            epoch=self._epoch,
            **({"volumes": volumes} if volumes else {}),
        )

        async def work(tree: Tree) -> ActiveSnapshot:
            started = times.now()
            container_id, snapshot, code = await self._run(walker.step, run, command, script, volumes, tree)
            if self._request.keeps == "all" or (code and self._request.keeps == "failed"):
                record = ended(self._containers.record(container_id, command), started, code)
                self._left.append(Left(record, before, snapshot, created_by))
            if code:
                shown = " ".join(command.words)
                raise StepFailed(
                    f"The command '{shown}' returned a non-zero code: {code}", run.position, code, command=shown
                )
            return snapshot

        before, created_by = walker.outcome, history.run(words, _shown(walker))
        return Plan(inputs, created_by, work)

    def _command_of(self, config: ContainerConfig) -> tuple[str, ...]:
        """The image's own command, which an empty list means to the classic builder, and to nobody else."""
        if not self._request.classic:
            raise DockerfileError("RUN requires at least one argument")
        words = (*(config.entrypoint or ()), *(config.cmd or ()))
        if not words:
            raise InvalidParameter("no command specified")
        return words

    def _check_entitlements(self, run: ins.Run) -> None:
        allowed = self._request.given.allow
        if run.security == "insecure" and INSECURE not in allowed:
            raise Forbidden(f"RUN --security=insecure needs to be allowed: build with --allow {INSECURE}")
        if run.network == "host" and self._request.network != "host" and HOST_NETWORK not in allowed:
            raise Forbidden(f"RUN --network=host needs to be allowed: build with --allow {HOST_NETWORK}")

    async def _mount_inputs(
        self, walker: Walker, mount: WantedMount, origin_of: Callable[[str], Awaitable[Origin]]
    ) -> list[str]:
        """What of a mount the result depends on. What is in a cache does not count, nor what a secret is."""
        said = [mount.type, target_of(mount, walker.working_directory), mount.environment or "", mount.cache_id]
        if mount.type == "bind":
            origin = await origin_of(mount.source_stage)
            said.append(await self._sources.digest(origin, [mount.source or "/"]))
        return said

    async def _run(
        self, step: int, run: ins.Run, command: Command, script: Script | None, volumes: Sequence[str], tree: Tree
    ) -> tuple[str, ActiveSnapshot, int]:
        """The container, what it has changed, and its exit code."""
        snapshot = self._workspace.begin(tree)
        container_id = self._containers.new_id()
        directory = self._containers.make_directory(container_id)
        async with self._mounts.prepare(run.mounts, command.directory, directory) as mounted:
            mounted.mounts += await self._mounts.volumes(volumes, tree, snapshot)
            if script is not None:
                mounted.mounts.append(_write_script(script, directory))
            if mounted.environment:
                command = command.with_environment(mounted.environment)
            root = self._workspace.mounts(tree, snapshot, (*USUAL_PLACES, *mounted.places))
            self._heard.tell(progress.Running(step, container_id))
            code = await self._containers.run(
                container_id,
                command,
                root,
                mounted.mounts,
                lambda stream, text: self._heard.tell_when_heard(progress.Printed(step, stream, text)),
            )
        return container_id, snapshot, code


def _shown(walker: Walker) -> dict[str, str]:
    """The stage's own arguments, with the values that the command sees."""
    values = walker.variables()
    return {name: values.get(name, "") for name in walker.arguments.own}


def _write_script(script: Script, directory: str) -> Mount:
    path = f"{directory}/script"
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(script.content)
    os.chmod(path, 0o755)
    return Mount("bind", path, script.path, ("bind", "ro", "rprivate"), create="file")
