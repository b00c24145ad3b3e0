"""What users do with containers: make, start, stop, signal, pause, rename, wait for, attach to and remove them."""

import asyncio
import contextlib
import errno
import functools
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterable, Iterator

from wherry.common import times
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound, NotModified
from wherry.engine import platforms
from wherry.engine.admission import Admission, default_limit
from wherry.engine.container import devices, health, idmaps, logs, mounts, spec
from wherry.engine.container.config import (
    check_config,
    check_network_mode,
    check_sysctls,
    command_line,
    complete_host_config,
    log_config,
    merge,
    parse_signal,
)
from wherry.engine.container.devices import discard_limits
from wherry.engine.container.lifecycle import Lifecycle
from wherry.engine.container.store import ContainerEntry, PendingAttach, resolve
from wherry.engine.container.user_namespaces import UserNamespaces
from wherry.engine.context import Context, Service
from wherry.engine.network.attach import NetworkEndpoints
from wherry.engine.volumes import Volumes
from wherry.linux import process
from wherry.linux.cgroups import Cgroup, CgroupError
from wherry.model.container import Container, ContainerConfig, HostConfig, MountPoint, Status
from wherry.model.network import NetworkingConfig
from wherry.runtime.monitor_client import Monitor, MonitorGone, StartError

_CLEARING_UP = 2.0  # seconds


class Containers(Service):
    def __init__(
        self,
        context: Context,
        volumes: Volumes,
        endpoints: NetworkEndpoints,
        lifecycle: Lifecycle,
        user_namespaces: UserNamespaces,
    ) -> None:
        super().__init__(context)
        self._volumes = volumes
        self._endpoints = endpoints
        self._user_namespaces = user_namespaces
        self._lifecycle = lifecycle
        self._creations, self._removals = Admission(default_limit()), Admission(default_limit())
        self._waiting_clients: weakref.WeakKeyDictionary[asyncio.Future[tuple[int, str]], int] = (
            weakref.WeakKeyDictionary()
        )

    # --- looking

    def find(self, name: str) -> ContainerEntry:
        return self._entries.get(name)

    def get(self, name: str) -> Container:
        return self._entries.get(name).record

    def running(self, name: str) -> ContainerEntry:
        """A container that runs. Raises Conflict, in Docker's words, for one that does not."""
        entry = self._entries.get(name)
        if entry.record.state.status is Status.RESTARTING:
            raise Conflict(f"container {entry.record.id} is restarting, wait until the container is running")
        if entry.monitor is None or not entry.record.state.running:
            raise Conflict(f"container {entry.record.id} is not running")
        return entry

    def monitor(self, entry: ContainerEntry) -> Monitor:
        if entry.monitor is None:
            raise Conflict(f"container {entry.record.id} is not running")
        return entry.monitor

    @contextlib.contextmanager
    def asked(self, entry: ContainerEntry) -> Iterator[Monitor]:
        """The monitor, for a question. Raises Conflict when the container does not run, or ends before the answer."""
        try:
            yield self.monitor(entry)
        except MonitorGone:
            raise Conflict(f"container {entry.record.id} is not running") from None
        except StartError as error:
            raise Conflict(error.message) from None  # the process that it is about has ended

    def cgroup(self, entry: ContainerEntry) -> Cgroup:
        return self._lifecycle.cgroup(entry)

    def directory(self, container_id: str) -> str:
        """The container's own, with its log and its host files."""
        return self._lifecycle.directory(container_id)

    def files_directory(self, record: Container) -> str:
        """Where its hosts, hostname and resolv.conf are: with those whose network it shares, if that one is there."""
        with contextlib.suppress(NotFound):
            record = self._lifecycle.holder_of_files(record)
        return self.directory(record.id)

    # --- create and remove

    async def create(
        self,
        config: ContainerConfig,
        host_config: HostConfig,
        networking: NetworkingConfig,
        name: str | None = None,
        platform: str | None = None,
    ) -> tuple[str, list[str]]:
        """Makes a container; its id and what the user should be warned of. Nothing of it stays when that fails."""
        async with self._creations.place():
            return await self._create(config, host_config, networking, name, platform)

    async def _create(
        self,
        config: ContainerConfig,
        host_config: HostConfig,
        networking: NetworkingConfig,
        name: str | None,
        platform: str | None,
    ) -> tuple[str, list[str]]:
        image = platforms.find(self._store.images, config.image, platform or "")
        check_network_mode(config, host_config, networking)
        merged = merge(config, image.config.config or ContainerConfig())
        check_config(merged)
        path, *arguments = command_line(merged)
        host = complete_host_config(host_config, self._config)
        spec.check_security_options(host)
        check_sysctls(host)
        tuple(devices.parse_rules(host.device_cgroup_rules or ()))
        spec.resolve_capabilities(host, privileged=host.privileged)
        warnings = [
            *platforms.warnings(image, platform or ""),
            *_warnings(host),
            *([] if self._lifecycle.has_cgroups else discard_limits(host)),
            *devices.discard_weights(host),
            *self._endpoints.warnings(host),
            *health.warnings(merged),
        ]
        log = log_config(host_config, self._config)
        logs.check_log_config(log)
        container_id = self._entries.new_id()
        if not merged.hostname:
            merged.hostname = os.uname().nodename if host.network_mode == "host" else container_id[:12]
        networks, attachments = self._endpoints.plan(merged, host, networking)
        name = self._entries.reserve(name, container_id)
        directory = self.directory(container_id)
        record = Container(
            id=container_id,
            name=name,
            created=times.now(),
            image=config.image,
            image_id=image.id,
            chain_id=image.chain_id,
            path=path,
            args=arguments,
            config=merged,
            host_config=host,
            networks=networks,
            attachments=attachments,
            log=log,
            log_path=logs.log_path(directory, container_id, log.type),
            architecture=image.config.architecture,
        )
        try:
            self._endpoints.check(record)
            try:
                for mode in (host.ipc_mode, host.pid_mode):
                    if mode.startswith("container:"):
                        self._entries.get(mode.removeprefix("container:"))
                record.uids, record.gids = self._user_namespaces.settle(container_id, host)
                await self._mount_points(record)
            except NotFound as error:  # which would tell clients that the image is missing, and make them pull it
                raise InvalidParameter(error.message) from None
            mounted = [point.chain_id for point in record.mounts if point.chain_id]
            lay = functools.partial(self._store.snapshots.create, container_id, image.chain_id, mounted)
            if merged.working_dir:
                lay()
                await self._store.snapshots.make_directory(container_id, merged.working_dir)
                self._entries.add(record)
            else:
                self._entries.add(record, lay)
            self._made(container_id)
        except BaseException:
            self._entries.release(name)
            self._made(container_id)
            await self._volumes.remove_anonymous(record.mounts)
            await self._store.snapshots.discard(container_id)
            raise
        self._events.container(record, "create")
        return container_id, [*warnings, *logs.warnings(log)]

    def _made(self, container_id: str) -> None:
        self._volumes.made(container_id)
        self._user_namespaces.made(container_id)

    async def _mount_points(self, record: Container) -> None:
        """Settles what the container has mounted, makes its volumes, and fills the empty ones from the image."""
        inherited: list[MountPoint] = []
        for text in record.host_config.volumes_from or ():
            name, mode = mounts.parse_volumes_from(text)
            inherited += mounts.inherit(self.get(name).mounts, mode)
        record.mounts = mounts.settle(record.config, record.host_config, inherited)
        for point in record.mounts:
            if point.type == "image" and not point.chain_id:
                mounted = self._store.images.get(point.request.source if point.request else point.source)
                point.source, point.chain_id = mounted.id, mounted.chain_id
            elif point.type == "volume":
                await self._volumes.settle(record.id, point)
                if point.copy:
                    await self._volumes.fill(point, self._store.snapshots.view(record.chain_id, ""))
            idmaps.settle(point, record, self._store)

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        entry = self._entries.get(name)
        if entry.record.state.status is Status.REMOVING:
            raise Conflict(f"removal of container {name} is already in progress")
        while entry.record.id in self._entries:
            if entry.monitor is not None or entry.record.state.status is Status.RESTARTING:
                if not force:
                    raise _not_removable(entry.record)
                entry.record.user_stopped = True
                await self.started(entry)
                await self._lifecycle.end(entry)
            async with self._removals.place(), entry.lock:
                if entry.record.id in self._entries and entry.monitor is None:  # it may have been started since
                    await self._lifecycle.remove(entry, volumes=volumes)

    # --- start, stop, signals

    async def start(self, name: str) -> None:
        """Starts a container. Raises NotModified when it runs already."""
        entry = self._entries.get(name)
        async with self._lifecycle.starts.place(), entry.lock:
            status = entry.record.state.status
            if status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status is Status.RUNNING:
                raise NotModified("container already started")
            self._check_is_kept(entry)
            self._lifecycle.cancel_restart(entry)
            entry.record.restart_count = 0
            entry.restart_delay = 0.0
            await self._lifecycle.start(entry)

    def _check_is_kept(self, entry: ContainerEntry) -> None:
        """Who waited for the lock may find the container gone."""
        if entry.record.id not in self._entries or entry.record.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict("container is marked for removal and cannot be started")

    async def stop(self, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
        """Asks the container to end and ends it after ``timeout`` seconds (-1: never). Raises NotModified."""
        entry = self._entries.get(name)
        await self.started(entry)
        if entry.restart is not None:
            entry.record.user_stopped = True
            self._lifecycle.cancel_restart(entry)
            self._events.container(entry.record, "stop")
            return
        if not entry.record.state.running:
            raise NotModified("container already stopped")
        entry.record.user_stopped = True
        await self._stop(entry, timeout, signal_name)

    async def started(self, entry: ContainerEntry) -> None:
        """Waits for a start that is under way, by the restart policy too: what is being started can not yet be ended,
        and looks as if it had only been made."""
        if entry.lock.locked():
            async with entry.lock:
                pass

    async def ended(self, entries: Iterable[ContainerEntry]) -> None:
        """Waits for those that end just now, whose monitors clear up before they tell: they are not to be shown running
        any more. One that the kernel keeps from its end is not waited for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLEARING_UP):
                for entry in entries:
                    if entry.monitor is not None and entry.monitor.has_ended():
                        await entry.ended.wait()

    async def _stop(self, entry: ContainerEntry, timeout: int | None, signal_name: str | None) -> None:
        config = entry.record.config
        try:
            number = parse_signal(signal_name or config.stop_signal or "SIGTERM")
        except InvalidParameter as error:
            doing = "Cannot restart container" if entry.restarting else "cannot stop container:"
            raise EngineError(f"{doing} {entry.record.name}: {error.message}") from None
        if timeout is None:
            timeout = config.stop_timeout if isinstance(config.stop_timeout, int) else self._config.default_stop_timeout
        if number < signal.NSIG:
            self._lifecycle.send(entry, number)
        else:
            timeout = 0  # nobody can send it, and nothing would happen in that time
        try:
            await asyncio.wait_for(entry.ended.wait(), None if timeout < 0 else timeout)
        except TimeoutError:
            await self._lifecycle.end(entry)
        self._events.container(entry.record, "stop")

    async def shut_down(self) -> None:
        """Ends all containers, which are not to outlive the engine. The next one starts those that it should."""
        self._lifecycle.shutting_down = True
        for entry in self._entries:
            self._lifecycle.cancel_restart(entry)
        running = [entry for entry in self._entries if entry.monitor is not None]
        stopping = [asyncio.ensure_future(self._stop(entry, None, None)) for entry in running]
        limit = self._config.shutdown_timeout
        if stopping:
            await asyncio.wait(stopping, timeout=None if limit < 0 else limit)
        for each in stopping:
            each.cancel()
        await asyncio.gather(*stopping, *map(self._lifecycle.end, running), return_exceptions=True)

    async def kill(self, name: str, signal_name: str = "SIGKILL") -> None:
        try:
            number = parse_signal(signal_name or "SIGKILL")
        except InvalidParameter as error:
            raise InvalidParameter(f"cannot kill container: {name}: {error.message}") from None
        if number >= signal.NSIG:
            raise InvalidParameter(f"cannot kill container: {name}: the linux daemon does not support signal {number}")
        try:
            entry = self._entries.get(name)
        except NotFound as error:
            raise NotFound(f"cannot kill container: {name}: {error}") from None
        if entry.monitor is None:
            raise Conflict(f"cannot kill container: {name}: container {entry.record.id} is not running")
        config = entry.record.config
        if number in (signal.SIGKILL, parse_signal(config.stop_signal or "SIGTERM")):
            entry.record.user_stopped = True
        if number == signal.SIGKILL:
            await self._lifecycle.end(entry)
        else:
            self._lifecycle.send(entry, number)

    async def restart(self, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
        entry = self._entries.get(name)
        entry.record.user_stopped = True
        entry.restarting = True  # which is not the end of a --rm container
        try:
            if entry.record.state.running:
                await self._stop(entry, timeout, signal_name)
        finally:
            entry.restarting = False
        async with self._lifecycle.starts.place(), entry.lock:
            self._check_is_kept(entry)
            self._lifecycle.cancel_restart(entry)
            if not entry.record.state.running:
                await self._lifecycle.start(entry)
        self._events.container(entry.record, "restart")

    def processes(self, entry: ContainerEntry) -> list[int]:
        """The processes of a container: where it has no cgroup, all in its pid namespace, or of the machine's the
        first."""
        if self._lifecycle.has_cgroups:
            return self.cgroup(entry).processes()
        first = entry.record.state.pid
        return [first] if entry.record.host_config.pid_mode == "host" else process.in_pid_namespace_of(first)

    async def pause(self, name: str) -> None:
        entry = self.running(name)
        async with entry.lock:
            if entry.record.state.status is Status.PAUSED:
                raise Conflict(f"container {entry.record.id} is already paused")
            if not self._lifecycle.has_cgroups:
                raise Conflict(
                    f"cannot pause container {entry.record.name}: that takes a cgroup, and none was delegated to this "
                    "engine (docs/rootless.md tells how one is)"
                )
            try:
                await self._freeze_or_thaw(entry, self.cgroup(entry).freeze)
            finally:
                if entry.monitor is None:
                    # It was killed: what it leaves must not stand still, or it could not be ended
                    await self._thaw_leftovers(entry)
            if entry.ending:
                await self._freeze_or_thaw(entry, self.cgroup(entry).thaw)
                raise Conflict(f"container {entry.record.id} is not running")
            self._set_status(entry, Status.PAUSED, "pause")

    async def unpause(self, name: str) -> None:
        entry = self._entries.get(name)
        async with entry.lock:
            if entry.record.state.status is not Status.PAUSED:
                raise EngineError(f"Container {entry.record.id} is not paused")
            await self._freeze_or_thaw(entry, self.cgroup(entry).thaw)
            self._set_status(entry, Status.RUNNING, "unpause")

    async def _thaw_leftovers(self, entry: ContainerEntry) -> None:
        with contextlib.suppress(CgroupError):
            await asyncio.to_thread(self.cgroup(entry).thaw)

    async def _freeze_or_thaw(self, entry: ContainerEntry, work: Callable[[], None]) -> None:
        """Raises Conflict when the container ends meanwhile."""
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            raise Conflict(f"container {entry.record.id} is not running") from None  # gone with its cgroup
        self.monitor(entry)

    def _set_status(self, entry: ContainerEntry, status: Status, action: str) -> None:
        entry.record.state.status = status
        self._entries.record(entry)
        self._events.container(entry.record, action)

    # --- names, sizes, waiting, streams

    def rename(self, name: str, new: str) -> None:
        if not new:
            raise InvalidParameter("Neither old nor new names may be empty")
        entry = self._entries.get(name)
        old = entry.record.name
        if new.removeprefix("/") == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        try:
            entry.record.name = self._entries.reserve(f"/{new.removeprefix('/')}", entry.record.id)
        except (Conflict, InvalidParameter) as error:
            raise type(error)(f"Error when allocating new name: {error.message}") from None
        self._entries.release(old)
        self._endpoints.renamed(entry)
        self._entries.save(entry)
        self._events.container(entry.record, "rename", oldName=f"/{old}")

    async def resize(self, name: str, rows: int, columns: int) -> None:
        entry = self.running(name)
        with self.asked(entry) as monitor:
            await monitor.resize(rows, columns)
        self._events.container(entry.record, "resize", height=str(rows), width=str(columns))

    def waiter(
        self, name: str, condition: str = "not-running", client: int | None = None
    ) -> asyncio.Future[tuple[int, str]]:
        """A future of the exit code and the error, once the condition holds. Raises InvalidParameter and NotFound.

        ``client`` is a process that waits because it is attached, and no longer once it has detached.
        """
        if condition not in ("", "not-running", "next-exit", "removed"):
            raise InvalidParameter(f'invalid condition: "{condition}"')
        entry = self._entries.get(name)
        future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        waiters = entry.removal_waiters if condition == "removed" else entry.exit_waiters
        state = entry.record.state
        if condition in ("", "not-running") and not state.running and state.status is not Status.RESTARTING:
            future.set_result((state.exit_code, state.error))
        else:
            waiters.add(future)
            future.add_done_callback(waiters.discard)
            if client is not None:
                self._waiting_clients[future] = client
        return future

    async def attach(self, name: str, *, stdin: bool, stdout: bool, stderr: bool) -> socket.socket:
        """A stream of the container, from now on, or from the start on when it does not run yet.

        The stream gives what the container prints, framed (raw for a terminal), and takes what goes to its input.
        """
        entry = self._entries.get(name)
        status = entry.record.state.status
        if status is Status.PAUSED:
            raise Conflict(f"container {name} is paused, unpause the container before attach")
        if status is Status.RESTARTING:
            raise Conflict(f"container {name} is restarting, wait until the container is running")
        stdin = stdin and entry.record.config.open_stdin
        self._events.container(entry.record, "attach")
        if entry.monitor is not None:
            with self.asked(entry) as monitor:
                return await monitor.attach(stdin, stdout, stderr)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        entry.await_start(PendingAttach(theirs, stdin, stdout, stderr))
        return ours

    def detached(self, name: str, client: int | None = None) -> None:
        """Tells of a client that has left by the detach keys, and ends its waiting."""
        entry = self._entries.get(name)
        self._events.container(entry.record, "detach")
        if client is not None:
            waiters = entry.exit_waiters | entry.removal_waiters
            resolve({each for each in waiters if self._waiting_clients.get(each) == client}, (0, ""))


def _not_removable(record: Container) -> Conflict:
    status = record.state.status
    how = (
        " and must be unpaused first"
        if status is Status.PAUSED
        else (": stop the container before removing or force remove")
    )
    return Conflict(f'cannot remove container "/{record.name}": container is {status}{how}')


def _warnings(host: HostConfig) -> list[str]:
    """What was asked for and will not be had, a line each."""
    warnings = []
    if host.cpu_percent:
        warnings.append("linux does not support CPU percent. Percent discarded.")
    if (host.port_bindings or host.publish_all_ports) and host.network_mode == "host":
        warnings.append("Published ports are discarded when using host network mode")
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings
