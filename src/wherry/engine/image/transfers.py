"""Layers on their way here, each one once however many wait for it.

Two pulls that need the same layer share one transfer, and it goes on for as long as one of them is interested. The
first to be ready takes the unpacked layer; another that wants it upon other layers unpacks the blob again.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from wherry.common.errors import InvalidParameter
from wherry.common.sizes import human_size
from wherry.model.image import Descriptor
from wherry.storage.content import chain_id_of, check_digest
from wherry.storage.ingest import LayerIngest, unpack_again
from wherry.storage.store import Store
from wherry.storage.worker.jobs import StagedLayer

# The messages of Docker's progress stream, of which each is a line of JSON.

Message = dict[str, Any]
Tell = Callable[[Message], None]

_SILENCE = 0.1  # seconds between two messages about how far one thing is


def status(text: str, name: str = "") -> Message:
    """One line of text, of the thing ``name`` if there is one."""
    return {"status": text, "id": name} if name else {"status": text}


def step(text: str, name: str) -> Message:
    """What is done now with the thing ``name``, which keeps its line on a terminal."""
    return {"status": text, "progressDetail": {}, "id": name}


def progress_message(text: str, name: str, current: int, total: int) -> Message:
    """How far it is, in bytes. The bar's text is what clients of old print as it is."""
    filled = min(50, current * 50 // total) if total else 0
    bar = "=" * max(0, filled - 1) + ">" if filled else ">"
    return {
        "status": text,
        "progressDetail": {"current": current, "total": total},
        "progress": f"[{bar:<50}] {human_size(current):>8}/{human_size(total)}",
        "id": name,
    }


class Meter:
    """Tells how far one thing is, not more often than people can read."""

    def __init__(self, tell: Tell, text: str, name: str, total: int) -> None:
        self._tell = tell
        self._text = text
        self._name = name
        self._total = total
        self._next = 0.0

    def at(self, current: int) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + _SILENCE
            self._tell(progress_message(self._text, self._name, current, self._total))


async def message_stream(work: Callable[[Tell], Coroutine[Any, Any, None]]) -> AsyncIterator[Message]:
    """Does ``work`` and yields what it tells. Its error is raised at the end; who stops listening ends it."""
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    task = asyncio.create_task(work(messages.put_nowait))
    task.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        while (message := await messages.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # raised above where somebody listens
            await task


Open = Callable[[Descriptor], AsyncGenerator[bytes, None]]
"""The bytes of a blob, from wherever it comes from."""


class Transfer:
    """One layer's. ``name`` is what progress calls it."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.name = short(descriptor.digest)
        self.staged: asyncio.Future[StagedLayer] = asyncio.get_running_loop().create_future()
        self.listeners: list[Tell] = []
        self.task: asyncio.Task[None] | None = None
        self.left = asyncio.Event()
        self.last: Message | None = None
        self.area = ""
        self.again = 0

    def tell(self, message: Message) -> None:
        self.last = message
        for listener in self.listeners:
            listener(message)


class Transfers:
    def __init__(self, store: Store, at_once: int) -> None:
        """Of all layers that are wanted ``at_once`` are transferred: each has a connection, a thread, two processes."""
        self._store = store
        self._transfers: dict[str, Transfer] = {}
        self.limit(at_once)

    def limit(self, at_once: int) -> None:
        """Sets how many there may be, from the next transfer on: those that wait do so for one that is under way."""
        self._slots = asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def join(self, descriptor: Descriptor, source: Open, tell: Tell) -> AsyncIterator[Transfer]:
        """Takes part in the transfer of a layer, which begins with the first who does, and ends with the last.

        ``tell`` gets its progress. Whoever joins later is told how far it is.
        """
        transfer = self._transfers.get(descriptor.digest)
        if transfer is None or transfer.descriptor.size != descriptor.size or _has_failed(transfer):
            transfer = Transfer(descriptor)
            self._transfers[descriptor.digest] = transfer
            transfer.task = asyncio.create_task(self._run(transfer, source))
        transfer.listeners.append(tell)
        if transfer.last is not None:
            tell(transfer.last)
        try:
            yield transfer
        finally:
            transfer.listeners.remove(tell)
            if not transfer.listeners:
                await self._end(transfer)

    async def take(self, transfer: Transfer, parent: str, diff_id: str) -> None:
        """Waits for a layer and puts it to its place upon ``parent``. Raises what was wrong with it."""
        staged = await asyncio.shield(transfer.staged)
        if staged.diff_id != check_digest(diff_id):
            raise InvalidParameter(
                f"layers from manifest don't match image configuration: layer {transfer.descriptor.digest} "
                f"unpacks to {staged.diff_id}, expected {diff_id}"
            )
        if chain_id_of(parent, diff_id) in self._store.layers:
            return  # another pull was quicker
        if not staged.layer:
            transfer.again += 1
            area = f"{transfer.area}/again-{transfer.again}"
            os.mkdir(area, 0o700)
            staged = await unpack_again(self._store.blobs, staged, area)
            self._store.layers.add(staged, parent)
            return
        taken = msgspec.structs.replace(staged)
        staged.layer, staged.blob = "", ""
        self._store.layers.add(taken, parent)

    async def _run(self, transfer: Transfer, source: Open) -> None:
        try:
            async with self._store.staging.area() as area:
                transfer.area = area
                try:
                    staged = await self._receive(transfer, source, area)
                except Exception as error:  # handed to those who wait, who raise it
                    transfer.staged.set_exception(error)
                    transfer.staged.exception()  # they may all have gone
                    return
                transfer.staged.set_result(staged)
                await transfer.left.wait()
        finally:
            if self._transfers.get(transfer.descriptor.digest) is transfer:
                del self._transfers[transfer.descriptor.digest]

    async def _receive(self, transfer: Transfer, source: Open, area: str) -> StagedLayer:
        descriptor, slots = transfer.descriptor, self._slots
        if slots.locked():
            transfer.tell(step("Waiting", transfer.name))
        meter = Meter(transfer.tell, "Downloading", transfer.name, descriptor.size)
        received = 0
        # What was received waits for the layers below it without a slot, which those may need
        async with slots, LayerIngest(area, descriptor.digest, descriptor.size) as layer:
            async with contextlib.aclosing(source(descriptor)) as chunks:
                async for chunk in chunks:
                    await layer.write(chunk)
                    received += len(chunk)
                    meter.at(received)
            transfer.tell(step("Verifying Checksum", transfer.name))
            transfer.tell(step("Download complete", transfer.name))
            return await layer.finish()

    async def _end(self, transfer: Transfer) -> None:
        """Nobody is interested any more."""
        transfer.left.set()
        if transfer.task is not None:
            if not transfer.staged.done():
                transfer.task.cancel()
            await asyncio.wait((transfer.task,))
        if not transfer.staged.done():
            transfer.staged.cancel()


def _has_failed(transfer: Transfer) -> bool:
    return transfer.staged.done() and transfer.staged.exception() is not None


def short(digest: str) -> str:
    """The twelve digits that progress shows."""
    return digest.removeprefix("sha256:")[:12]
