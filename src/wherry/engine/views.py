"""Looking at containers: lists, details, logs, changes, processes, files. Nothing here changes one."""

from collections.abc import AsyncIterator
from typing import Any

from wherry.engine import inspection, links, listing, log_options, stats
from wherry.engine import top as processes
from wherry.engine.containers import Containers
from wherry.engine.events import Events
from wherry.engine.execs import Execs
from wherry.engine.log_reading import read_logs
from wherry.engine.roster import Live, Roster
from wherry.model.errors import Conflict, NotSupported
from wherry.storage.files import Root
from wherry.storage.store import Store


class Views:
    def __init__(self, roster: Roster, containers: Containers, execs: Execs, store: Store, events: Events) -> None:
        self._roster = roster
        self._containers = containers
        self._execs = execs
        self._store = store
        self._events = events

    def list_all(
        self, *, show_all: bool, limit: int | None, size: bool, filters: listing.Filters
    ) -> list[dict[str, Any]]:
        return listing.list_containers(
            self._roster, self._store, show_all=show_all, limit=limit, size=size, filters=filters
        )

    def inspect(self, name: str, *, size: bool = False) -> dict[str, Any]:
        live = self._roster.get(name)
        return inspection.inspect(
            live.record,
            self._store,
            directory=self._containers.directory(live.record.id),
            exec_ids=self._execs.ids(live),
            linked=links.shown(live.record, self._roster),
            size=size,
        )

    async def top(self, name: str, ps_args: str) -> dict[str, Any]:
        live = self._containers.running(name)
        pids = self._containers.cgroup(live).processes()
        found = await processes.top(pids, ps_args)
        self._events.container(live.record, "top")
        return found

    def changes(self, name: str) -> list[dict[str, Any]] | None:
        """What differs from the image: kind 0 changed, 1 added, 2 deleted. None when nothing does, as in Docker."""
        live = self._roster.get(name)
        found = self._store.snapshots.changes(live.record.id)
        return [{"Path": path, "Kind": kind} for kind, path in found] or None

    def logs(
        self,
        name: str,
        *,
        stdout: bool,
        stderr: bool,
        follow: bool,
        since: int | None,
        until: int | None,
        tail: int | None,
        timestamps: bool,
        details: bool,
        by_line: bool = False,
    ) -> AsyncIterator[bytes]:
        """What the container printed, framed unless it has a terminal; with ``follow`` up to its end. Times in ns.

        ``by_line``: a frame holds one line, rather than what was written at once.

        Raises NotSupported when the container keeps no log.
        """
        live = self._roster.get(name)
        if not log_options.is_readable(live.record.log):
            raise NotSupported("configured logging driver does not support reading")
        return read_logs(
            live,
            stdout=stdout,
            stderr=stderr,
            follow=follow,
            since=since,
            until=until,
            tail=tail,
            timestamps=timestamps,
            details=details,
            by_line=by_line,
        )

    def stats(self, name: str, *, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        """Samples of what the container uses: see ``stats``. Raises NotFound."""
        return stats.stats(self._containers, self._roster.get(name).record.id, stream=stream, one_shot=one_shot)

    async def export(self, name: str) -> AsyncIterator[bytes]:
        """The container's whole root as a tar."""
        live = self._roster.get(name)
        self._events.container(live.record, "export")
        async for chunk in self._store.files.export(self.root(live)):
            yield chunk

    def root(self, live: Live) -> Root:
        """Where a container's files are: in its mount namespace while it runs, else in its snapshot's mounts."""
        if live.monitor is not None:
            return live.monitor.pid
        if live.lock.locked():
            raise Conflict(f"container {live.record.id} is being started or removed")
        return self._store.snapshots.mounts(live.record.id)
