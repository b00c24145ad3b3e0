"""What an engine that comes up finds of the one before it: containers that run, and those that ended unseen."""

import asyncio
import os
import re

from wherry.engine import restart
from wherry.engine.connections import Connections
from wherry.engine.lifecycle import Lifecycle
from wherry.engine.roster import Live, Roster
from wherry.engine.volumes import Volumes
from wherry.model.container import Status
from wherry.runtime.monitors import Exit, Monitor, connect
from wherry.storage.store import Store

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


class Recovery:
    def __init__(
        self,
        exec_root: str,
        roster: Roster,
        store: Store,
        volumes: Volumes,
        lifecycle: Lifecycle,
        connections: Connections,
    ) -> None:
        self._exec_root = exec_root
        self._roster = roster
        self._store = store
        self._volumes = volumes
        self._lifecycle = lifecycle
        self._connections = connections

    async def run(self) -> None:
        """Brings what the state says and what is there together, and starts what its restart policy wants to run."""
        self._store.snapshots.sweep(live.record.id for live in self._roster)
        await self._end_strangers()
        for live in self._roster:
            found = await connect(self._lifecycle.exec_directory(live.record.id))
            if live.record.state.status is Status.REMOVING:
                await self._end_monitor(found)
                await self._lifecycle.remove(live)
            elif isinstance(found, Monitor):
                self._lifecycle.adopt(live, found)
            elif live.record.state.running or (found is not None and found.at > live.record.state.finished_at):
                await self._lifecycle.settle(live, found)
            else:
                self._lifecycle.clear_exec_directory(live.record.id)
                if live.record.host_config.auto_remove and live.record.state.status is Status.EXITED:
                    await self._lifecycle.remove_ended(live)
        self._connections.adopted()
        await self._volumes.adopted()
        for live in self._roster:
            self._start_at_boot(live)

    async def _end_strangers(self) -> None:
        """Ends what runs without a row: its container was being removed when the engine was killed."""
        for name in os.listdir(self._exec_root):
            if _CONTAINER_ID.fullmatch(name) and name not in self._roster:
                await self._end_monitor(await connect(self._lifecycle.exec_directory(name)))
                self._lifecycle.clear_exec_directory(name)

    async def _end_monitor(self, found: Monitor | Exit | None) -> None:
        if isinstance(found, Monitor):
            found.kill()
            await found.exited
            found.close()

    def _start_at_boot(self, live: Live) -> None:
        record, state = live.record, live.record.state
        if state.status is Status.RESTARTING and live.restart is None:  # the engine before it was waiting to
            state.status = Status.EXITED
            self._roster.save(live)
        if state.status is not Status.EXITED or not restart.wanted_at_boot(
            record.host_config.restart_policy,
            exit_code=state.exit_code,
            restart_count=record.restart_count,
            user_stopped=record.user_stopped,
        ):
            return
        state.status = Status.RESTARTING
        live.restart = asyncio.create_task(self._lifecycle.restart_later(live))
