"""A layer on its way in: one pass from the network to its files.

What arrives is written to a blob and hashed, in a thread of the layer's own; a worker, locked into the layer's
directory, unpacks the same file as it grows. The blob is only called whole when its size and digest are right, so what
a wrong one left in the staging area never becomes a layer.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import msgspec

from wherry.common.errors import EngineError, InvalidParameter
from wherry.storage.content import Blobs, check_digest
from wherry.storage.tar import compression
from wherry.storage.tar.sources import news
from wherry.storage.worker import client, jobs
from wherry.storage.worker.jobs import StagedLayer

_PIECE = 1 << 20  # bytes that are handed to the thread at a time


class WrongLayer(InvalidParameter):
    """What came has another digest or size than it was to have."""


class LayerIngest:
    """``async with LayerIngest(area, digest, size) as layer``: ``write`` what comes, then ``finish``.

    ``area`` is a directory of the staging area, which everything is made in. Raises Full when the disk has no room.
    """

    def __init__(self, area: str, digest: str, size: int) -> None:
        self._area = area
        self._path = f"{area}/blob"
        self._expected = check_digest(digest)
        self._expected_size = size
        self._hash = hashlib.sha256()
        self._fd = -1
        self._received = 0
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._written = 0
        self._whole = False
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "layer")
        self._writing: asyncio.Future[None] | None = None
        self._unpacking: asyncio.Task[jobs.Unpacked] | None = None

    async def __aenter__(self) -> "LayerIngest":
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._unpacking is not None and not self._unpacking.done():
                self._unpacking.cancel()
                await asyncio.wait((self._unpacking,))
            if self._writing is not None:
                await asyncio.wait((self._writing,))
        finally:
            self._thread.shutdown(wait=False)
            if self._fd >= 0:
                os.close(self._fd)

    async def write(self, data: bytes) -> None:
        """The next bytes. Returns at once, unless the disk is behind."""
        self._received += len(data)
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _PIECE:
            await self._flush()

    async def finish(self) -> StagedLayer:
        """All is there: waits for the unpacked layer. Raises WrongLayer, and InvalidParameter for what is no layer."""
        await self._flush()
        await self._settle()
        found = f"sha256:{self._hash.hexdigest()}"
        if self._written != self._expected_size:
            raise WrongLayer(f"layer {self._expected} is {self._written} bytes long, expected {self._expected_size}")
        if found != self._expected:
            raise WrongLayer(f"filesystem layer verification failed for digest {self._expected}: it is {found}")
        self._begin(b"")
        self._whole = True
        self._news.set()
        assert self._unpacking is not None
        done = await self._unpacking
        return StagedLayer(
            digest=found,
            diff_id=done.diff_id or found,
            size=done.size,
            blob=self._path,
            blob_size=self._written,
            layer=done.layer,
            compression=done.compression,
            members=done.members,
        )

    async def _flush(self) -> None:
        """Hands what is pending to the thread, after it is done with what it had before."""
        await self._settle()
        pieces, self._pending, self._pending_size = self._pending, [], 0
        if pieces:
            self._begin(pieces[0])
            self._writing = asyncio.get_running_loop().run_in_executor(self._thread, self._take, pieces)

    async def _settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                await asyncio.shield(writing)
            except OSError as error:
                raise disk_error(error) from None
            except asyncio.CancelledError:
                self._writing = writing
                raise
            self._news.set()
        if self._unpacking is not None and self._unpacking.done():
            self._unpacking.result()  # raises why it could not go on

    def _take(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._fd, view) :]
            self._hash.update(piece)
            self._written += len(piece)

    def _begin(self, start: bytes) -> None:
        """Starts the worker, once it can be seen what the layer is compressed with."""
        if self._unpacking is not None:
            return
        kind = compression.detect(start[: compression.MAGIC])
        job = jobs.Unpack(staging=self._area, blob=self._path, compression=kind, growing=True)
        self._unpacking = asyncio.create_task(client.run(job, input=self._tell()))
        # Whoever writes or finishes looks at how it ended; when nobody does any more, it does not matter.
        self._unpacking.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _tell(self) -> AsyncIterator[bytes]:
        """The news for the worker: how much of the blob is there."""
        told = 0
        while True:
            await self._news.wait()
            self._news.clear()
            if self._whole:
                yield news(self._written, whole=True)
                return
            written = self._written
            if written > told:
                told = written
                yield news(written)


def disk_error(error: OSError) -> EngineError:
    """A failure to write as the user is told of it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return client.Full("no space left on device")
    return EngineError(f"write to the data root: {error.strerror or error}")


def free_space(path: str) -> int:
    """Bytes that may be written where ``path`` is."""
    with contextlib.suppress(OSError):
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize
    return 0


async def unpack_again(blobs: Blobs, staged: StagedLayer, area: str) -> StagedLayer:
    """A layer once more out of the blob that is kept, in ``area``."""
    job = jobs.Unpack(staging=area, blob=blobs.path(staged.digest), compression=staged.compression)
    done: jobs.Unpacked = await client.run(job)
    return msgspec.structs.replace(staged, layer=done.layer, size=done.size, blob="")
