"""The files of containers, read and written from inside their roots by a worker.

A root is the process id of a running container's init, or the mounts of one that does not run.
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from wherry.linux.mounts import Mount
from wherry.model.errors import NotFound
from wherry.storage import jobs

Root = int | tuple[Mount, ...]


class PathStat(msgspec.Struct, rename={"link_target": "linkTarget"}):
    """What the archive API says about a path. ``mode`` is Go's os.FileMode, ``mtime`` nanoseconds since the epoch.

    ``link_target`` is where a symbolic link leads in the end, as a path of the container.
    """

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str = ""


class Files:
    """Raises NotFound, with the path as its message, for what is not there."""

    async def stat(self, root: Root, path: str) -> PathStat:
        return msgspec.convert(await jobs.run(_job("stat", root, path=path)), PathStat)

    async def exists(self, root: Root, path: str) -> bool:
        try:
            await self.stat(root, path)
        except NotFound:
            return False
        return True

    @contextlib.asynccontextmanager
    async def get(self, root: Root, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """A path's stat, and a tar of it: ``async with files.get(…) as (stat, chunks)``."""
        async with jobs.working(_job("get", root, path=path), output=True) as worker:
            event = await anext(worker.events())
            yield msgspec.convert(event["stat"], PathStat), worker.output()

    async def put(
        self,
        root: Root,
        path: str,
        stream: AsyncIterable[bytes],
        *,
        keep_kinds: bool = False,
        user: str = "",
        writable: Mapping[str, bool] = MappingProxyType({}),
    ) -> None:
        """Unpacks a tar, compressed or not, into the directory ``path``.

        ``keep_kinds`` refuses to put a directory in place of something else and the reverse; ``user`` (a name of the
        root's own, or a number) is given everything. ``writable`` says of the root ("/") and of what is mounted in it
        whether it may be written to. Raises InvalidParameter when the path is no directory, or read-only, or the stream
        no tar.
        """
        job = _job("put", root, path=path, keep_kinds=keep_kinds, user=user, writable=dict(writable))
        await jobs.run(job, input=stream)

    async def export(self, root: Root) -> AsyncIterator[bytes]:
        """A tar of the whole root, without what is mounted in it."""
        async with jobs.working(_job("export", root), output=True) as worker:
            async for chunk in worker.output():
                yield chunk

    async def copy_out(self, root: Root, path: str, target: str) -> None:
        """Copies what is in the directory ``path`` of a root, if it is there, into the host's directory ``target``."""
        await jobs.run(_job("copy out", root, path=path, target=target))


def _job(kind: str, root: Root, **arguments: Any) -> dict[str, Any]:
    return {"kind": kind, "root": root if isinstance(root, int) else msgspec.to_builtins(root), **arguments}
