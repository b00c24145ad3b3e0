"""A container's states and what leads from one to the next: started, ended, started again, removed.

Whoever starts or removes holds the container's lock. An exit comes when it comes: it is recorded in one go, without
waiting for anything.
"""

import asyncio
import contextlib
import functools
import logging
import os
import shutil
import signal
from collections.abc import Coroutine
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine import platforms
from wherry.engine.container import cdi, health, logs
from wherry.engine.container.mounts import write_mounts
from wherry.engine.container.spec import cgroup_path, not_running, write_spec
from wherry.engine.container.store import ContainerEntry, resolve
from wherry.engine.context import Context, Service
from wherry.engine.network.attach import NetworkEndpoints, Sandbox
from wherry.engine.volumes import Volumes
from wherry.linux.cgroups import Cgroup, CgroupError
from wherry.model.container import Container, Defaults, HealthStatus, RestartPolicy, State, Status
from wherry.runtime.hooks import write_bundle
from wherry.runtime.ipc import CANNOT_START, OF_USERS
from wherry.runtime.monitor_client import MONITOR_DIED, Exit, Monitor, StartError
from wherry.runtime.spec import Spec

log = logging.getLogger(__name__)

# Restart policies: whether a container that ended is started again, and after how long.

_SHORTEST = 0.1  # seconds; the delay doubles with each restart
_LONGEST = 60.0
_LONG_RUN = 10 * 1_000_000_000  # ns; after a run as long as this the delay begins anew. The figures are Docker's


def restart_wanted(policy: RestartPolicy, *, exit_code: int, restart_count: int, user_stopped: bool) -> bool:
    """Whether the policy asks for another start after an exit while the engine runs."""
    if user_stopped:
        return False
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return exit_code != 0 and (limit == 0 or restart_count < limit)
    return policy.name in ("always", "unless-stopped")


def restart_wanted_at_boot(policy: RestartPolicy, *, exit_code: int, restart_count: int, user_stopped: bool) -> bool:
    """Whether it asks for a start when the engine comes up and finds the container ended: "always" forgets a stop."""
    stopped = user_stopped and policy.name != "always"
    return restart_wanted(policy, exit_code=exit_code, restart_count=restart_count, user_stopped=stopped)


def next_restart_delay(last: float, ran: int) -> float:
    """Seconds to wait before the next start, after a delay of ``last`` and a run of ``ran`` nanoseconds."""
    if last == 0 or ran >= _LONG_RUN:
        return _SHORTEST
    return min(last * 2, _LONGEST)


_KILL_PATIENCE = 10  # seconds that SIGKILL is given before the user is told that it does not help


class Lifecycle(Service):
    def __init__(self, context: Context, volumes: Volumes, endpoints: NetworkEndpoints) -> None:
        super().__init__(context)
        self._launcher = context.launcher
        self._hierarchies = context.hierarchies
        self._volumes = volumes
        self._endpoints = endpoints
        self._tasks: set[asyncio.Task[None]] = set()
        self.starts = context.starts
        self.shutting_down = False
        self.health_checks = health.Counts()

    @property
    def has_cgroups(self) -> bool:
        return bool(self._hierarchies)

    def cgroup(self, entry: ContainerEntry) -> Cgroup:
        return self._hierarchies.open(cgroup_path(entry.record))

    def directory(self, container_id: str) -> str:
        return f"{self._config.data_root}/containers/{container_id}"

    def exec_directory(self, container_id: str) -> str:
        return f"{self._config.exec_root}/{container_id}"

    async def remove(self, entry: ContainerEntry, *, volumes: bool = False) -> None:
        """Removes a container that does not run and whose lock is held; ``volumes``: with those made for it alone."""
        record = entry.record
        before, record.state.status = record.state.status, Status.REMOVING
        entry.drop_pending()
        try:
            # The files of an engine that is killed then are nobody's, and swept by the next one.
            self._entries.remove(entry, functools.partial(self._store.snapshots.forget, record.id))
        except BaseException:
            record.state.status = before
            raise
        await self._store.snapshots.discard(record.id)
        self.clear_exec_directory(record.id)
        await self._released(entry)
        if volumes or record.host_config.auto_remove:
            await self._volumes.remove_anonymous(record.mounts)
        self._events.container(record, "destroy")
        outcome = (record.state.exit_code, "")  # a failed start was told to the one who asked for it
        resolve(entry.removal_waiters, outcome)
        resolve(entry.exit_waiters, outcome)

    async def start(self, entry: ContainerEntry) -> None:
        """Starts a container whose lock is held, and takes care of what a failed start leaves."""
        try:
            monitor = await self._launch(entry)
        except (StartError, EngineError, OSError) as error:
            entry.drop_pending()
            self.clear_exec_directory(entry.record.id)
            state = entry.record.state
            message = error.message if isinstance(error, StartError | EngineError) else str(error)
            if "exec format error" in message:
                message += platforms.advice(entry.record.architecture)
            state.exit_code = error.code if isinstance(error, StartError) and error.code != CANNOT_START else 128
            state.error = message
            state.status = Status.EXITED if state.started_at else Status.CREATED
            self._entries.record(entry)
            if entry.record.host_config.auto_remove:
                await self.remove(entry)
            if isinstance(error, StartError):
                prefix = "" if message.startswith(OF_USERS) else "failed to create task for container: "
                text = prefix + message
                raise (InvalidParameter(text) if error.code in (126, 127) else EngineError(text)) from None
            raise
        state = entry.record.state
        entry.record.state = State(
            status=Status.RUNNING,
            pid=monitor.pid,
            started_at=monitor.started_at,
            finished_at=state.finished_at,
        )
        entry.record.user_stopped = False
        self._endpoints.started(entry, monitor)
        self._entries.record(entry)
        self._events.container(entry.record, "start")
        self.follow(entry, monitor)

    async def _launch(self, entry: ContainerEntry) -> Monitor:
        sandbox = self._endpoints.prepare(entry)
        if sandbox.interfaces:
            self._entries.record(entry)  # lest an engine that is killed now forgets whose addresses they are
        try:
            await entry.turn_out_writers()
            await self._released(entry)
            await self._volumes.mount(entry.record.id, entry.record.mounts)
            try:
                return await self._launch_with(entry, sandbox)
            except BaseException:
                self._release_volumes(entry)
                raise
        except BaseException:
            self._endpoints.ended(entry)
            raise

    async def _launch_with(self, entry: ContainerEntry, sandbox: Sandbox) -> Monitor:
        record = entry.record
        self._check_ipc(record.host_config.ipc_mode)
        holder = self.holder_of_files(record)
        if holder is not record:  # with another's network goes that one's name
            record.config.hostname, record.config.domainname = holder.config.hostname, holder.config.domainname
        record.defaults = Defaults(
            ulimits=list(self._config.default_ulimits),
            no_new_privileges=self._config.no_new_privileges,
            seccomp=self._config.seccomp_profile,
        )
        spec = write_spec(
            record,
            self._store.snapshots.mounts(record.id, volatile=record.host_config.auto_remove),
            self.directory(holder.id),
            self._config,
            self._pid_of,
            sandbox,
            write_mounts(record, self._store),
        )
        spec = self._with_devices(spec, record)
        os.makedirs(spec.exec_dir, mode=0o700, exist_ok=True)
        clients = [(attach.sock, attach.stdin, attach.stdout, attach.stderr) for attach in entry.pending]
        monitor = await self._launcher.start(spec, clients)
        entry.drop_pending()
        return monitor

    def _with_devices(self, spec: Spec, record: Container) -> Spec:
        """Adds what vendors say of the devices that were asked for by name."""
        host = record.host_config
        if not cdi.is_asked(host):
            return spec
        known = cdi.Registry(self._config.cdi_directories)
        spec = cdi.inject(spec, known.edits(cdi.names_of(host, known)))
        if spec.hooks:
            spec = msgspec.structs.replace(spec, bundle=self.directory(record.id))
            write_bundle(spec)
        return spec

    def holder_of_files(self, record: Container) -> Container:
        """Whose hosts, hostname and resolv.conf a container has: with another's network go that one's files.

        Raises NotFound when that one is gone.
        """
        seen = {record.id}
        while (mode := record.host_config.network_mode).startswith("container:"):
            record = self._entries.get(mode.removeprefix("container:")).record
            if record.id in seen:
                break
            seen.add(record.id)
        return record

    def _check_ipc(self, mode: str) -> None:
        """Nobody joins the IPC namespace of a container that was not made to share it."""
        if mode.startswith("container:"):
            donor = self._entries.get(mode.removeprefix("container:")).record
            if donor.host_config.ipc_mode in ("private", "none"):
                raise InvalidParameter(
                    f"failed to join IPC namespace: container {donor.id}: non-shareable IPC "
                    "(hint: use IpcMode:shareable for the donor container)"
                )

    def _pid_of(self, name: str) -> int:
        entry = self._entries.get(name)
        if entry.monitor is None:
            raise not_running(name)
        return entry.monitor.pid

    def follow(self, entry: ContainerEntry, monitor: Monitor) -> None:
        """Minds a container that runs: its health, and its end."""
        entry.monitor = monitor
        entry.ended.clear()
        if health.command(entry.record.config) is not None:
            entry.health = asyncio.create_task(
                health.watch(entry, monitor, self._entries, self._events, self.health_checks)
            )
        monitor.on_oom(lambda: self._events.container(entry.record, "oom"))
        monitor.exited.add_done_callback(functools.partial(self._on_exit, entry))

    def _on_exit(self, entry: ContainerEntry, future: asyncio.Future[Exit]) -> None:
        if future.cancelled():
            return
        ended = future.result()
        record, state = entry.record, entry.record.state
        oom_told = entry.monitor is not None and entry.monitor.oom_told
        if entry.monitor is not None:
            entry.monitor.close()
        entry.monitor = None
        if entry.health is not None:
            entry.health.cancel()
            entry.health = None
        if state.health is not None:
            state.health.status = HealthStatus.UNHEALTHY  # as in Docker: nobody knows any more
        ran = ended.at - state.started_at
        state.status = Status.EXITED
        state.pid = 0
        state.exit_code = ended.code
        state.oom_killed = ended.oom
        state.error = ended.error
        state.finished_at = ended.at
        if ended.oom and not oom_told:
            self._events.container(record, "oom")
        self._events.container(record, "die", exitCode=str(ended.code), execDuration=str(max(0, ran) // 1_000_000_000))
        self._endpoints.ended(entry)
        self._release_volumes(entry)
        entry.ended.set()
        if not self.shutting_down and restart_wanted(
            record.host_config.restart_policy,
            exit_code=ended.code,
            restart_count=record.restart_count,
            user_stopped=record.user_stopped,
        ):
            state.status = Status.RESTARTING
            entry.restart_delay = next_restart_delay(entry.restart_delay, ran)
            entry.restart = asyncio.create_task(self.restart_later(entry))
        removing = record.host_config.auto_remove and not entry.restarting
        if removing:
            self.spawn(self.remove_ended(entry))  # whose first act is to take its row away
        elif self._entries.record(entry):  # otherwise a restarted engine learns the end from there
            self.clear_exec_directory(record.id)
        if ended.error == MONITOR_DIED and not removing:
            self.spawn(asyncio.to_thread(logs.catch_up, [record]))
        resolve(entry.exit_waiters, (ended.code, ended.error))

    def _release_volumes(self, entry: ContainerEntry) -> None:
        if any(point.type == "volume" for point in entry.record.mounts):
            entry.releasing = self.spawn(self._volumes.unmount(entry.record.id, entry.record.mounts))

    async def _released(self, entry: ContainerEntry) -> None:
        """Waits for the end of that: neither a new start nor a removal may come in between."""
        if entry.releasing is not None:
            await asyncio.wait({entry.releasing})
            entry.releasing = None

    async def restart_later(self, entry: ContainerEntry) -> None:
        """What the restart policy wants, after its delay."""
        await asyncio.sleep(entry.restart_delay)
        async with self.starts.place(), entry.lock:
            if entry.record.state.status is not Status.RESTARTING:
                return
            entry.restart = None
            entry.record.restart_count += 1
            try:
                await self.start(entry)
            except (EngineError, OSError):
                entry.record.state.status = Status.EXITED  # told in State.Error by _start
                self._entries.record(entry)

    async def remove_ended(self, entry: ContainerEntry) -> None:
        """Removes a --rm container, unless somebody else does, or it has been started again."""
        async with entry.lock:
            is_kept = entry.record.id in self._entries and entry.record.state.status is not Status.REMOVING
            if is_kept and entry.monitor is None:
                await self.remove(entry)

    def cancel_restart(self, entry: ContainerEntry) -> None:
        """Whatever the restart policy wants, it stays as it is."""
        if entry.restart is not None:
            entry.restart.cancel()
            entry.restart = None
            entry.record.state.status = Status.EXITED
            self._entries.record(entry)

    def has_exec_directory(self, container_id: str) -> bool:
        return os.path.isdir(self.exec_directory(container_id))

    def clear_exec_directory(self, container_id: str) -> None:
        shutil.rmtree(self.exec_directory(container_id), ignore_errors=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self, entry: ContainerEntry) -> None:
        """SIGKILL, and waits for the end. Raises EngineError when the kernel does not let it end."""
        self.cancel_restart(entry)
        if entry.monitor is None:
            return
        entry.ending = True
        try:
            self.send(entry, signal.SIGKILL)
            await asyncio.wait_for(entry.ended.wait(), _KILL_PATIENCE)
        except TimeoutError:
            raise EngineError(
                f"container {entry.record.id} did not end within {_KILL_PATIENCE} s of SIGKILL: "
                "a process of it hangs in the kernel"
            ) from None
        finally:
            entry.ending = False

    def send(self, entry: ContainerEntry, number: int) -> None:
        """Sends a signal to PID 1. One that ends a paused container lets it run again, or it could not end."""
        if entry.monitor is None:
            return
        entry.monitor.signal(number)
        self._events.container(entry.record, "kill", signal=str(int(number)))
        if number == signal.SIGKILL:
            with contextlib.suppress(CgroupError):  # it has ended already
                self.cgroup(entry).thaw()
        if number == signal.SIGKILL and entry.record.state.status is Status.PAUSED:
            entry.record.state.status = Status.RUNNING

    def adopt(self, entry: ContainerEntry, monitor: Monitor) -> None:
        """Takes over a container that runs; also one whose start, or pause, the engine did not live to write down."""
        state = entry.record.state
        if not state.running:
            entry.record.state = State(
                status=Status.RUNNING,
                pid=monitor.pid,
                started_at=monitor.started_at,
                finished_at=state.finished_at,
            )
        entry.record.state.status = Status.PAUSED if self.cgroup(entry).is_frozen() else Status.RUNNING
        self._endpoints.adopt(entry, monitor)
        self._volumes.adopt(entry.record.id, entry.record.mounts)
        self._entries.record(entry)
        self.follow(entry, monitor)

    async def settle(self, entry: ContainerEntry, found: Exit | None) -> None:
        """Records the end of a container that ended unseen. None when its monitor is gone, too: then it is ended."""
        if found is None:
            await asyncio.to_thread(end_leftovers, self.cgroup(entry))
            found = Exit(code=255, at=times.now(), error=MONITOR_DIED)
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        future.set_result(found)
        self._on_exit(entry, future)

    async def close(self) -> None:
        """Lets go of the containers; they run on, and the next engine finds them."""
        for entry in self._entries:
            if entry.restart is not None:
                entry.restart.cancel()
            if entry.health is not None:
                entry.health.cancel()
            entry.drop_pending()
            if entry.monitor is not None:
                entry.monitor.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def end_leftovers(cgroup: Cgroup) -> None:
    """Ends what is left of a container whose monitor is gone, and removes its cgroup."""
    try:
        cgroup.end()
    except CgroupError as error:
        log.error("what a container has left is not ended: %s", error)
