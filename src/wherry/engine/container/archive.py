"""A container's files, out and in as tars, whether it runs or not: what ``docker cp`` stands on.

The files are those that the container sees, its volumes and binds included; where it sees the kernel's, at /dev, /proc
and /sys, they are what lies below. While it runs they are reached through its own mount namespace; otherwise its root
is mounted for the worker alone, and the container cannot be started meanwhile, as no two overlays may write to one
upper directory.
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator

from wherry.common.errors import Conflict, InvalidParameter, NotFound
from wherry.engine.container.mounts import kernel_mount_points, root_of, with_host_files, write_mounts
from wherry.engine.container.service import Containers
from wherry.engine.container.store import ContainerEntry
from wherry.engine.context import Context, Service
from wherry.engine.volumes import Volumes
from wherry.linux.mounts import Mount
from wherry.storage.worker.jobs import PathStat, Root, Running


class Archives(Service):
    def __init__(self, context: Context, volumes: Volumes, containers: Containers) -> None:
        super().__init__(context)
        self._volumes = volumes
        self._containers = containers

    async def stat(self, name: str, path: str) -> PathStat:
        """What there is at a path; a last link is not followed. Raises NotFound, also for the container."""
        _check_path(path)
        async with self._entered(name) as (_, root):
            with _missing(name, path):
                return await self._store.files.stat(root, path)

    @contextlib.asynccontextmanager
    async def get(self, name: str, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """The same and a tar of it, whose names begin with the path's last component.

        ``async with archives.get(…) as (stat, chunks)``
        """
        _check_path(path)
        async with self._entered(name) as (entry, root), contextlib.AsyncExitStack() as stack:
            with _missing(name, path):
                stat, chunks = await stack.enter_async_context(self._store.files.get(root, path))
            self._events.container(entry.record, "archive-path")
            yield stat, chunks

    async def put(
        self, name: str, path: str, stream: AsyncIterable[bytes], *, keep_kinds: bool = False, as_user: bool = False
    ) -> None:
        """Unpacks a tar, compressed or not, into the directory ``path``.

        ``keep_kinds`` refuses to put a directory in place of something else and the reverse; ``as_user`` gives
        everything to the container's user, if it has one. Raises NotFound, and InvalidParameter for what is no
        directory, read-only, or no tar.
        """
        _check_path(path)
        async with self._entered(name) as (entry, root):
            into_mounts = entry.writing() if isinstance(root, Running) else contextlib.nullcontext()
            with _missing(name, path):
                async with into_mounts:
                    await self._store.files.put(
                        root,
                        path,
                        stream,
                        keep_kinds=keep_kinds,
                        user=entry.record.config.user if as_user else "",
                        writable=_writable(entry),
                    )
            self._events.container(entry.record, "extract-to-dir")

    async def export_volume(self, name: str) -> AsyncIterator[bytes]:
        """A tar of all that is in a volume. Raises NotFound."""
        async with self._volumes.opened(name) as path:
            async for chunk in self._store.files.export(root_of(path)):
                yield chunk

    async def import_volume(self, name: str, stream: AsyncIterable[bytes]) -> None:
        """Unpacks a tar, compressed or not, into a volume. Raises NotFound, and InvalidParameter for what is no tar."""
        async with self._volumes.opened(name) as path:
            await self._store.files.put(root_of(path), "/", stream)

    @contextlib.asynccontextmanager
    async def _entered(self, name: str) -> AsyncIterator[tuple[ContainerEntry, Root]]:
        entry = self._entries.get(name)
        if entry.monitor is None:
            async with entry.lock:
                if entry.record.id not in self._entries:
                    raise NotFound(f"No such container: {name}")
                if entry.monitor is None:
                    async with self._volumes.in_use(entry.record.mounts):
                        yield entry, self._mounts(entry)
                    return
        if entry.monitor is None:
            raise Conflict(f"container {entry.record.id} has ended meanwhile: try again")
        yield entry, Running(entry.monitor.pid, kernel_mount_points(entry.record))

    def _mounts(self, entry: ContainerEntry) -> tuple[Mount, ...]:
        """The root of a container that does not run, with all that lasts in it.

        Unmounting does not wait for the disk, no more than writing into a container that runs does.
        """
        record, directory = entry.record, self._containers.directory(entry.record.id)
        mounted = [mount for mount in write_mounts(record, self._store) if mount.type != "tmpfs"]
        return (
            *self._store.snapshots.mounts(record.id, volatile=True),
            *with_host_files(mounted, directory, read_only=record.host_config.readonly_rootfs),
        )


def _writable(entry: ContainerEntry) -> dict[str, bool]:
    """Whether the container may write: to its root, and below each of its mounts."""
    record = entry.record
    return {"/": not record.host_config.readonly_rootfs} | {point.destination: point.rw for point in record.mounts}


def _check_path(path: str) -> None:
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")


@contextlib.contextmanager
def _missing(name: str, path: str) -> Iterator[None]:
    """Tells of a missing path in Docker's words."""
    try:
        yield
    except NotFound:
        raise NotFound(f"Could not find the file {path} in container {name}") from None
