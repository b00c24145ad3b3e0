"""The files of containers, read and written from inside their roots by a worker.

A root is that of a running container, or the mounts of one that does not run.
"""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from wherry.common.errors import NotFound
from wherry.linux.mounts import Mount, allow_again
from wherry.storage.worker.client import run, working
from wherry.storage.worker.retry import again, run_replayed


class Running(msgspec.Struct, frozen=True):
    """``pid`` is the container's init. What is mounted ``without`` stays out of sight: what lies below it is seen."""

    pid: int
    without: tuple[str, ...] = ()


Root = Running | tuple[Mount, ...]


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
        return msgspec.convert(await again(lambda: run(_job("stat", root, path=path))), PathStat)

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
                worker = await stack.enter_async_context(working(_job("get", root, path=path), output=True))
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
        arguments = {"keep_kinds": keep_kinds, "user": user, "writable": dict(writable)}
        await run_replayed(lambda: _job("put", root, path=path, **arguments), stream)

    async def export(self, root: Root) -> AsyncIterator[bytes]:
        """A tar of the whole root, without what is mounted in it."""
        async with contextlib.AsyncExitStack() as stack:

            async def begin() -> tuple[bytes, AsyncIterator[bytes]]:
                output = (await stack.enter_async_context(working(_job("export", root), output=True))).output()
                return await anext(output), output

            async for chunk in _joined(*await again(begin)):
                yield chunk

    async def copy_out(self, root: Root, path: str, target: str, part: str = "") -> None:
        """Copies what is in the directory ``path`` of a root, if it is there, into the host's directory ``target``.

        Or into ``part`` of it, if that is an empty directory. Raises InvalidParameter for one that leads outside.
        """
        job = _job("copy out", root, path=path, target=target, part=part)
        await (run(job) if part else again(lambda: run(job)))  # what is there in part is not empty any more


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _job(kind: str, root: Root, **arguments: Any) -> dict[str, Any]:
    for mount in root if isinstance(root, tuple) else ():
        allow_again(mount)  # a worker may have been killed that had mounted it
    return {"kind": kind, "root": msgspec.to_builtins(root), **arguments}
