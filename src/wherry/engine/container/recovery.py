"""What an engine that comes up finds of the one before it: containers that run, and those that ended unseen."""

import asyncio
import logging
import os
import re

from wherry.engine.container import logs
from wherry.engine.container.lifecycle import Lifecycle, end_leftovers, restart_wanted_at_boot
from wherry.engine.container.store import ContainerEntry
from wherry.engine.context import Context, Service
from wherry.engine.network.attach import NetworkEndpoints
from wherry.engine.volumes import Volumes
from wherry.model.container import Status
from wherry.runtime.monitor_client import Exit, Monitor, connect

log = logging.getLogger(__name__)

_ANSWER_PATIENCE = 10  # seconds that a monitor is waited for before the engine serves without it
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


class Recovery(Service):
    def __init__(self, context: Context, volumes: Volumes, endpoints: NetworkEndpoints, lifecycle: Lifecycle) -> None:
        super().__init__(context)
        self._volumes = volumes
        self._endpoints = endpoints
        self._lifecycle = lifecycle
        self._silent: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Brings what the state says and what is there together, and starts what its restart policy wants to run."""
        self._store.snapshots.sweep(entry.record.id for entry in self._entries)
        await self._end_strangers()
        for entry, found in await self._find():
            await self._take_up(entry, found)
        self._endpoints.adopted()
        await self._volumes.adopted()
        ended = [entry.record for entry in self._entries if entry.monitor is None]
        self._lifecycle.spawn(asyncio.to_thread(logs.catch_up, ended))
        for entry in self._entries:
            self._start_at_boot(entry)

    async def _find(self) -> list[tuple[ContainerEntry, Monitor | Exit | None]]:
        """What became of each container. All monitors are asked at the same time: one that was swapped out, or has to
        wait for a processor, holds up no other; one that does not answer at all, not for long."""
        asking = {
            asyncio.create_task(connect(self._lifecycle.exec_directory(entry.record.id))): entry
            for entry in self._entries
        }
        if not asking:
            return []
        _, silent = await asyncio.wait(asking, timeout=_ANSWER_PATIENCE)
        for each in silent:
            log.warning("container %s: its monitor does not answer yet", asking[each].record.name)
            self._silent.append(asyncio.create_task(self._take_up_later(asking[each], each)))
        return [(entry, each.result()) for each, entry in asking.items() if each not in silent]

    async def _take_up_later(self, entry: ContainerEntry, asking: "asyncio.Task[Monitor | Exit | None]") -> None:
        """Takes the container up under its lock: who wants to stop or to remove it waits as well."""
        async with entry.lock:
            await self._take_up(entry, await asking)

    def close(self) -> None:
        for each in self._silent:
            each.cancel()

    async def _take_up(self, entry: ContainerEntry, found: Monitor | Exit | None) -> None:
        if entry.record.state.status is Status.REMOVING:
            await self._end_monitor(found)
            await self._lifecycle.remove(entry)
        elif isinstance(found, Monitor):
            self._lifecycle.adopt(entry, found)
        elif entry.record.state.running or (found is not None and found.at > entry.record.state.finished_at):
            await self._lifecycle.settle(entry, found)
        else:
            if found is None and self._lifecycle.has_exec_directory(entry.record.id):
                # It was being started, or ended, and its monitor was killed with the engine
                await asyncio.to_thread(end_leftovers, self._lifecycle.cgroup(entry))
            self._lifecycle.clear_exec_directory(entry.record.id)
            if entry.record.host_config.auto_remove and entry.record.state.status is Status.EXITED:
                self._lifecycle.spawn(self._lifecycle.remove_ended(entry))

    async def _end_strangers(self) -> None:
        """Ends what runs without a row: its container was being removed when the engine was killed."""
        for name in os.listdir(self._config.exec_root):
            if _CONTAINER_ID.fullmatch(name) and name not in self._entries:
                await self._end_monitor(await connect(self._lifecycle.exec_directory(name)))
                self._lifecycle.clear_exec_directory(name)

    async def _end_monitor(self, found: Monitor | Exit | None) -> None:
        if isinstance(found, Monitor):
            found.kill()
            await found.exited
            found.close()

    def _start_at_boot(self, entry: ContainerEntry) -> None:
        record, state = entry.record, entry.record.state
        if state.status is Status.RESTARTING and entry.restart is None:  # the engine before it was waiting to
            state.status = Status.EXITED
            self._entries.save(entry)
        if state.status is not Status.EXITED or not restart_wanted_at_boot(
            record.host_config.restart_policy,
            exit_code=state.exit_code,
            restart_count=record.restart_count,
            user_stopped=record.user_stopped,
        ):
            return
        state.status = Status.RESTARTING
        entry.restart = asyncio.create_task(self._lifecycle.restart_later(entry))
