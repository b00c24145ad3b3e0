"""The files of containers, read and written from inside their roots by a worker.

A root is that of a running container, or the mounts of one that does not run.
"""

import contextlib
import functools
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from types import MappingProxyType

import msgspec

from wherry.common.errors import NotFound
from wherry.linux.mounts import allow_again
from wherry.storage.worker import jobs
from wherry.storage.worker.client import again, run, run_replayed, working
from wherry.storage.worker.jobs import PathStat, Root


class Files:
    """Raises NotFound, with the path as its message, for what is not there."""

    async def stat(self, root: Root, path: str) -> PathStat:
        found: PathStat = await again(lambda: run(jobs.Stat(root=_mountable(root), path=path)))
        return found

    async def exists(self, root: Root, path: str) -> bool:
        try:
            await self.stat(root, path)
        except NotFound:
            return False
        return True

    @contextlib.asynccontextmanager
    async def get(self, root: Root, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """A path's stat, and a tar of it: ``async with files.get(…) as (stat, chunks)``."""
        async with contextlib.AsyncExitStack() as stack:

            async def begin() -> tuple[PathStat, bytes, AsyncIterator[bytes]]:
                worker = await stack.enter_async_context(
                    working(jobs.Get(root=_mountable(root), path=path), output=True)
                )
                event = await anext(worker.events())
                output = worker.output()
                return msgspec.convert(event["stat"], PathStat), await anext(output), output

            stat, first, rest = await again(begin)
            yield stat, _joined(first, rest)

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
        job = functools.partial(jobs.Put, path=path, keep_kinds=keep_kinds, user=user, writable=dict(writable))
        await run_replayed(lambda: job(root=_mountable(root)), stream)

    async def export(self, root: Root, prefix: str = "") -> AsyncIterator[bytes]:
        """A tar of the whole root, without what is mounted in it, its names behind ``prefix``."""
        async with contextlib.AsyncExitStack() as stack:

            async def begin() -> tuple[bytes, AsyncIterator[bytes]]:
                job = jobs.Export(root=_mountable(root), prefix=prefix)
                output = (await stack.enter_async_context(working(job, output=True))).output()
                return await anext(output), output

            async for chunk in _joined(*await again(begin)):
                yield chunk

    async def copy_out(self, root: Root, path: str, target: str, part: str = "") -> None:
        """Copies what is in the directory ``path`` of a root, if it is there, into the host's directory ``target``.

        Or into ``part`` of it, if that is an empty directory. Raises InvalidParameter for one that leads outside.
        """
        job = jobs.CopyOut(root=_mountable(root), path=path, target=target, part=part)
        await (run(job) if part else again(lambda: run(job)))  # what is there in part is not empty any more


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _mountable(root: Root) -> Root:
    """Also where a worker was killed that had mounted it."""
    for mount in root if isinstance(root, tuple) else ():
        allow_again(mount)
    return root
