"""The life of a container: made, started, signalled, stopped, removed.

A container's state changes here and nowhere else. What changes it holds the container's lock, but for an exit: that
comes when it comes, and is recorded in one go, without waiting for anything.
"""

import asyncio
import functools
import os
import re
import shutil
import signal
import socket
from collections.abc import Coroutine
from typing import Any

from wherry.engine import (
    clock,
    configuration,
    health,
    host_files,
    log_options,
    mount_points,
    names,
    restart,
    specification,
    volume_mounts,
)
from wherry.engine.config import EngineConfig
from wherry.engine.events import Events
from wherry.engine.roster import Live, PendingAttach, Roster
from wherry.engine.volumes import Volumes
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.model.config import ContainerConfig
from wherry.model.container import Container, State, Status
from wherry.model.errors import Conflict, EngineError, InvalidParameter, NotModified
from wherry.model.host import HostConfig
from wherry.model.network import EndpointSettings, NetworkingConfig
from wherry.model.volume import MountPoint
from wherry.runtime.launching import Launcher
from wherry.runtime.monitors import Exit, Monitor, StartError, connect
from wherry.storage.store import Store

_KILL_PATIENCE = 10  # seconds that SIGKILL is given before the user is told that it does not help
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_MONITOR_DIED = "the monitor of the container ended unexpectedly, so the container was ended too"


class Containers:
    def __init__(
        self,
        config: EngineConfig,
        roster: Roster,
        store: Store,
        volumes: Volumes,
        events: Events,
        launcher: Launcher,
        hierarchies: Hierarchies,
    ) -> None:
        self._config = config
        self._roster = roster
        self._store = store
        self._volumes = volumes
        self._events = events
        self._launcher = launcher
        self._hierarchies = hierarchies
        self._tasks: set[asyncio.Task[None]] = set()

    # --- looking

    def find(self, name: str) -> Live:
        return self._roster.get(name)

    def get(self, name: str) -> Container:
        return self._roster.get(name).record

    def running(self, name: str) -> Live:
        """A container that runs. Raises Conflict, in Docker's words, for one that does not."""
        live = self._roster.get(name)
        if live.monitor is None or not live.record.state.running:
            raise Conflict(f"container {live.record.id} is not running")
        return live

    def monitor(self, live: Live) -> Monitor:
        if live.monitor is None:
            raise Conflict(f"container {live.record.id} is not running")
        return live.monitor

    def cgroup(self, live: Live) -> Cgroup:
        return self._hierarchies.open(specification.cgroup_path(live.record))

    def directory(self, container_id: str) -> str:
        return f"{self._config.data_root}/containers/{container_id}"

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
        image = self._store.images.get(config.image)
        merged = configuration.merge(config, image.config.config or ContainerConfig())
        configuration.check_config(merged)
        path, *arguments = configuration.command_line(merged)
        host = configuration.complete_host_config(host_config, self._config)
        specification.check_security_options(host)
        specification.resolve_capabilities(host, privileged=host.privileged)
        log_options.check(host.log_config)
        container_id = self._roster.new_id()
        if not merged.hostname:
            merged.hostname = os.uname().nodename if host.network_mode == "host" else container_id[:12]
        name = self._roster.reserve(name, container_id)
        directory = self.directory(container_id)
        record = Container(
            id=container_id,
            name=name,
            created=clock.now(),
            image=config.image,
            image_id=image.id,
            chain_id=image.chain_id,
            path=path,
            args=arguments,
            config=merged,
            host_config=host,
            networks=_endpoints(host, networking),
            log_path=log_options.log_path(directory, container_id, host.log_config.type),
        )
        try:
            specification.write_resources(host)
            await self._mount_points(record)
            self._store.snapshots.create(container_id, image.chain_id)
            self._roster.add(record)
        except BaseException:
            self._roster.release(name)
            self._volumes.remove_anonymous(record.mounts)
            await self._store.snapshots.discard(container_id)
            raise
        self._events.container(record, "create")
        return container_id, _warnings(host)

    async def _mount_points(self, record: Container) -> None:
        """Settles what the container has mounted, makes its volumes, and fills the empty ones from the image."""
        inherited: list[MountPoint] = []
        for text in record.host_config.volumes_from or ():
            name, _, mode = text.partition(":")
            inherited += mount_points.inherit(self.get(name).mounts, mode)
        record.mounts = mount_points.settle(record.config, record.host_config, inherited)
        for point in record.mounts:
            if point.type == "image":
                point.source = self._store.images.get(point.request.source if point.request else point.source).id
            elif point.type == "volume" and not point.source:
                self._volumes.for_point(point)
                if point.copy and self._volumes.is_fresh(point.name):
                    image = self._store.snapshots.view(record.chain_id, "")
                    await self._store.files.copy_out((image,), point.destination, point.source)

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        live = self._roster.get(name)
        status = live.record.state.status
        if status is Status.REMOVING:
            raise Conflict(f"removal of container {name} is already in progress")
        if live.record.state.running or status is Status.RESTARTING:
            if not force:
                raise Conflict(
                    f'cannot remove container "/{live.record.name}": container is {status}: '
                    "stop the container before removing or force remove"
                )
            live.record.user_stopped = True
            await self._end(live)
        async with live.lock:
            if live.record.id in self._roster:
                await self._remove(live, volumes=volumes)

    async def _remove(self, live: Live, *, volumes: bool = False) -> None:
        record = live.record
        record.state.status = Status.REMOVING
        self._roster.save(live)
        live.drop_pending()
        await self._store.snapshots.discard(record.id)
        self._roster.remove(live)
        if volumes or record.host_config.auto_remove:
            self._volumes.remove_anonymous(record.mounts)
        self._events.container(record, "destroy")
        outcome = (record.state.exit_code, "")  # a failed start was told to the one who asked for it
        _resolve(live.removal_waiters, outcome)
        _resolve(live.exit_waiters, outcome)

    # --- start

    async def start(self, name: str) -> None:
        """Starts a container. Raises NotModified when it runs already."""
        live = self._roster.get(name)
        async with live.lock:
            status = live.record.state.status
            if status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status is Status.RUNNING:
                raise NotModified("container already started")
            if status in (Status.REMOVING, Status.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            self._cancel_restart(live)
            live.record.restart_count = 0
            live.restart_delay = 0.0
            await self._start(live)

    async def _start(self, live: Live) -> None:
        """Starts a container whose lock is held, and takes care of what a failed start leaves."""
        try:
            monitor = await self._launch(live)
        except (StartError, EngineError, OSError) as error:
            live.drop_pending()
            self._clear_exec_directory(live.record.id)
            state = live.record.state
            message = error.message if isinstance(error, StartError | EngineError) else str(error)
            state.exit_code = error.code if isinstance(error, StartError) else 128
            state.error = message
            state.status = Status.EXITED if state.started_at else Status.CREATED
            self._roster.save(live)
            if live.record.host_config.auto_remove:
                await self._remove(live)
            if isinstance(error, StartError):
                text = f"failed to create task for container: {message}"
                raise (InvalidParameter(text) if error.code in (126, 127) else EngineError(text)) from None
            raise
        state = live.record.state
        live.record.state = State(
            status=Status.RUNNING,
            pid=monitor.pid,
            started_at=monitor.started_at,
            finished_at=state.finished_at,
        )
        live.record.user_stopped = False
        self._roster.save(live)
        self._events.container(live.record, "start")
        self._follow(live, monitor)

    def _follow(self, live: Live, monitor: Monitor) -> None:
        """Minds a container that runs: its health, and its end."""
        live.monitor = monitor
        live.ended.clear()
        if health.command(live.record.config) is not None:
            live.health = asyncio.create_task(health.watch(live, monitor, self._roster, self._events))
        monitor.exited.add_done_callback(functools.partial(self._on_exit, live))

    async def _launch(self, live: Live) -> Monitor:
        record = live.record
        directory = self.directory(record.id)
        host_files.write(record, directory)
        spec = specification.write_spec(
            record,
            self._store.snapshots.mounts(record.id),
            directory,
            self._config,
            self._pid_of,
            volume_mounts.write_mounts(record, self._store),
        )
        os.makedirs(spec.exec_dir, mode=0o700, exist_ok=True)
        clients = [(attach.sock, attach.stdin, attach.stdout, attach.stderr) for attach in live.pending]
        monitor = await self._launcher.start(spec, clients)
        live.drop_pending()
        return monitor

    def _pid_of(self, name: str) -> int:
        live = self._roster.get(name)
        if live.monitor is None:
            raise specification.not_running(name)
        return live.monitor.pid

    # --- the end

    def _on_exit(self, live: Live, future: asyncio.Future[Exit]) -> None:
        if future.cancelled():
            return
        ended = future.result()
        record, state = live.record, live.record.state
        if live.monitor is not None:
            live.monitor.close()
        live.monitor = None
        if live.health is not None:
            live.health.cancel()
            live.health = None
        ran = ended.at - state.started_at
        state.status = Status.EXITED
        state.pid = 0
        state.exit_code = ended.code
        state.oom_killed = ended.oom
        state.error = ended.error
        state.finished_at = ended.at
        if ended.oom:
            self._events.container(record, "oom")
        self._events.container(record, "die", exitCode=str(ended.code), execDuration=str(max(0, ran) // 1_000_000_000))
        live.ended.set()
        if restart.wanted(
            record.host_config.restart_policy,
            exit_code=ended.code,
            restart_count=record.restart_count,
            user_stopped=record.user_stopped,
        ):
            state.status = Status.RESTARTING
            live.restart_delay = restart.next_delay(live.restart_delay, ran)
            live.restart = asyncio.create_task(self._restart_later(live))
        self._roster.save(live)
        self._clear_exec_directory(record.id)  # not before: it is what a restarted engine would learn the end from
        if record.host_config.auto_remove:
            self._spawn(self._remove_ended(live))
        _resolve(live.exit_waiters, (ended.code, ended.error))

    async def _restart_later(self, live: Live) -> None:
        await asyncio.sleep(live.restart_delay)
        async with live.lock:
            if live.record.state.status is not Status.RESTARTING:
                return
            live.restart = None
            live.record.restart_count += 1
            try:
                await self._start(live)
            except (EngineError, OSError):
                live.record.state.status = Status.EXITED  # told in State.Error by _start
                self._roster.save(live)

    async def _remove_ended(self, live: Live) -> None:
        async with live.lock:
            if live.record.id in self._roster and live.record.state.status is not Status.REMOVING:
                await self._remove(live)

    def _cancel_restart(self, live: Live) -> None:
        if live.restart is not None:
            live.restart.cancel()
            live.restart = None
            live.record.state.status = Status.EXITED
            self._roster.save(live)

    def _exec_directory(self, container_id: str) -> str:
        return f"{self._config.exec_root}/{container_id}"

    def _clear_exec_directory(self, container_id: str) -> None:
        shutil.rmtree(self._exec_directory(container_id), ignore_errors=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- signals

    async def stop(self, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
        """Asks the container to end and ends it after ``timeout`` seconds (-1: never). Raises NotModified."""
        live = self._roster.get(name)
        if live.restart is not None:
            live.record.user_stopped = True
            self._cancel_restart(live)
            self._events.container(live.record, "stop")
            return
        if not live.record.state.running:
            raise NotModified("container already stopped")
        live.record.user_stopped = True
        await self._stop(live, timeout, signal_name)

    async def _stop(self, live: Live, timeout: int | None, signal_name: str | None) -> None:
        config = live.record.config
        number = configuration.parse_signal(signal_name or config.stop_signal or "SIGTERM")
        if timeout is None:
            timeout = config.stop_timeout if isinstance(config.stop_timeout, int) else self._config.stop_timeout
        self._send(live, number)
        try:
            await asyncio.wait_for(live.ended.wait(), None if timeout < 0 else timeout)
        except TimeoutError:
            await self._end(live)
        self._events.container(live.record, "stop")

    async def _end(self, live: Live) -> None:
        """SIGKILL, and waits for the end. Raises EngineError when the kernel does not let it end."""
        self._cancel_restart(live)
        if live.monitor is None:
            return
        self._send(live, signal.SIGKILL)
        try:
            await asyncio.wait_for(live.ended.wait(), _KILL_PATIENCE)
        except TimeoutError:
            raise EngineError(
                f"container {live.record.id} did not end within {_KILL_PATIENCE} s of SIGKILL: "
                "a process of it hangs in the kernel"
            ) from None

    def _send(self, live: Live, number: int) -> None:
        """Sends a signal to PID 1. One that ends a paused container lets it run again, or it could not end."""
        if live.monitor is None:
            return
        live.monitor.signal(number)
        self._events.container(live.record, "kill", signal=str(int(number)))
        if live.record.state.status is Status.PAUSED and number == signal.SIGKILL:
            self.cgroup(live).thaw()
            live.record.state.status = Status.RUNNING

    async def kill(self, name: str, signal_name: str = "SIGKILL") -> None:
        live = self._roster.get(name)
        number = configuration.parse_signal(signal_name or "SIGKILL")
        if live.monitor is None:
            raise Conflict(f"cannot kill container: {name}: container {live.record.id} is not running")
        config = live.record.config
        if number in (signal.SIGKILL, configuration.parse_signal(config.stop_signal or "SIGTERM")):
            live.record.user_stopped = True
        if number == signal.SIGKILL:
            await self._end(live)
        else:
            self._send(live, number)

    async def restart(self, name: str, timeout: int | None = None, signal_name: str | None = None) -> None:
        live = self._roster.get(name)
        auto_remove = live.record.host_config.auto_remove
        live.record.host_config.auto_remove = False  # a restart is not the end of a --rm container
        live.record.user_stopped = True
        try:
            if live.record.state.running:
                await self._stop(live, timeout, signal_name)
        finally:
            live.record.host_config.auto_remove = auto_remove
        async with live.lock:
            self._cancel_restart(live)
            if not live.record.state.running:
                await self._start(live)
        self._events.container(live.record, "restart")

    async def pause(self, name: str) -> None:
        live = self.running(name)
        async with live.lock:
            if live.record.state.status is Status.PAUSED:
                raise Conflict(f"container {live.record.id} is already paused")
            await asyncio.to_thread(self.cgroup(live).freeze)
            self._set_status(live, Status.PAUSED, "pause")

    async def unpause(self, name: str) -> None:
        live = self._roster.get(name)
        async with live.lock:
            if live.record.state.status is not Status.PAUSED:
                raise EngineError(f"container {live.record.id} is not paused")
            await asyncio.to_thread(self.cgroup(live).thaw)
            self._set_status(live, Status.RUNNING, "unpause")

    def _set_status(self, live: Live, status: Status, action: str) -> None:
        live.record.state.status = status
        self._roster.save(live)
        self._events.container(live.record, action)

    # --- names, sizes, waiting

    def rename(self, name: str, new: str) -> None:
        live = self._roster.get(name)
        old = live.record.name
        if not new:
            raise InvalidParameter("Neither old nor new names may be empty")
        if names.check(new) == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        live.record.name = self._roster.reserve(new, live.record.id)
        self._roster.release(old)
        self._roster.save(live)
        self._events.container(live.record, "rename", oldName=f"/{old}")

    async def resize(self, name: str, rows: int, columns: int) -> None:
        live = self.running(name)
        await self.monitor(live).resize(rows, columns)
        self._events.container(live.record, "resize", height=str(rows), width=str(columns))

    def waiter(self, name: str, condition: str = "not-running") -> asyncio.Future[tuple[int, str]]:
        """A future of the exit code and the error, once the condition holds. Raises InvalidParameter and NotFound."""
        live = self._roster.get(name)
        future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        if condition == "removed":
            waiters = live.removal_waiters
        elif condition in ("", "not-running", "next-exit"):
            waiters = live.exit_waiters
        else:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        state = live.record.state
        if condition in ("", "not-running") and not state.running and state.status is not Status.RESTARTING:
            future.set_result((state.exit_code, state.error))
        else:
            waiters.add(future)
            future.add_done_callback(waiters.discard)
        return future

    # --- streams

    async def attach(self, name: str, *, stdin: bool, stdout: bool, stderr: bool) -> socket.socket:
        """A stream of the container, from now on, or from the start on when it does not run yet.

        The stream gives what the container prints, framed (raw for a terminal), and takes what goes to its input.
        """
        live = self._roster.get(name)
        status = live.record.state.status
        if status is Status.PAUSED:
            raise Conflict(f"container {name} is paused, unpause the container before attach")
        if status is Status.RESTARTING:
            raise Conflict(f"container {name} is restarting, wait until the container is running")
        stdin = stdin and live.record.config.open_stdin
        self._events.container(live.record, "attach")
        if live.monitor is not None:
            return await live.monitor.attach(stdin, stdout, stderr)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        live.pending.append(PendingAttach(theirs, stdin, stdout, stderr))
        return ours

    def detached(self, name: str) -> None:
        self._events.container(self.get(name), "detach")

    # --- the engine comes and goes

    async def recover(self) -> None:
        """Finds the containers of the engine that was here before: those that run, and those that ended meanwhile."""
        self._store.snapshots.sweep(live.record.id for live in self._roster)
        await self._end_strangers()
        for live in self._roster:
            found = await connect(self._exec_directory(live.record.id))
            if live.record.state.status is Status.REMOVING:
                await self._end_monitor(found)
                await self._remove(live)
            elif isinstance(found, Monitor):
                self._adopt(live, found)
            elif live.record.state.running or (found is not None and found.at > live.record.state.finished_at):
                await self._settle(live, found)
            else:
                self._clear_exec_directory(live.record.id)
        for live in self._roster:
            self._start_at_boot(live)

    def _adopt(self, live: Live, monitor: Monitor) -> None:
        """Takes over a container that runs; also one whose start the engine did not live to write down."""
        state = live.record.state
        if not state.running:
            live.record.state = State(
                status=Status.RUNNING,
                pid=monitor.pid,
                started_at=monitor.started_at,
                finished_at=state.finished_at,
            )
            self._roster.save(live)
        self._follow(live, monitor)

    async def _settle(self, live: Live, found: Exit | None) -> None:
        """Records the end of a container that ended unseen. None when its monitor is gone, too: then it is ended."""
        if found is None:
            await asyncio.to_thread(_end_leftovers, self.cgroup(live))
            found = Exit(code=255, at=clock.now(), error=_MONITOR_DIED)
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        future.set_result(found)
        self._on_exit(live, future)

    async def _end_strangers(self) -> None:
        """Ends what runs without a row: its container was being removed when the engine was killed."""
        for name in os.listdir(self._config.exec_root):
            if _CONTAINER_ID.fullmatch(name) and name not in self._roster:
                await self._end_monitor(await connect(self._exec_directory(name)))
                self._clear_exec_directory(name)

    async def _end_monitor(self, found: Monitor | Exit | None) -> None:
        if isinstance(found, Monitor):
            found.kill()
            await found.exited
            found.close()

    def _start_at_boot(self, live: Live) -> None:
        record, state = live.record, live.record.state
        if state.status is not Status.EXITED or not restart.wanted_at_boot(
            record.host_config.restart_policy,
            exit_code=state.exit_code,
            restart_count=record.restart_count,
            user_stopped=record.user_stopped,
        ):
            return
        state.status = Status.RESTARTING
        live.restart = asyncio.create_task(self._restart_later(live))

    async def close(self) -> None:
        """Lets go of the containers; they run on, and the next engine finds them."""
        for live in self._roster:
            if live.restart is not None:
                live.restart.cancel()
            if live.health is not None:
                live.health.cancel()
            live.drop_pending()
            if live.monitor is not None:
                live.monitor.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _endpoints(host: HostConfig, networking: NetworkingConfig) -> dict[str, EndpointSettings]:
    if host.network_mode.startswith("container:"):
        return {}
    asked = {name: settings or EndpointSettings() for name, settings in networking.endpoints_config.items()}
    return asked or {host.network_mode: EndpointSettings()}


def _warnings(host: HostConfig) -> list[str]:
    """What was asked for and will not be had, a line each."""
    warnings = []
    if host.port_bindings or host.publish_all_ports:
        warnings.append("Published ports are not reachable: this engine does not connect containers to networks yet")
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings


def _resolve(waiters: set[asyncio.Future[tuple[int, str]]], outcome: tuple[int, str]) -> None:
    for future in list(waiters):
        if not future.done():
            future.set_result(outcome)


def _end_leftovers(cgroup: Cgroup) -> None:
    """Ends what is left of a container whose monitor is gone, and removes its cgroup."""
    cgroup.kill()
    cgroup.remove()
