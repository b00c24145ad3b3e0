"""An HTTP/2 connection inside a call of another: each message carries some of its bytes."""

import asyncio
from typing import Any, cast

from wherry.buildkit import messages
from wherry.buildkit.grpc import Call
from wherry.buildkit.http2 import Connection

_HIGH = 1 << 20  # bytes not sent yet at which the inner connection is told to wait


class _Transport(asyncio.Transport):
    """What the inner connection writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.size = 0
        self._closing = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self.size += len(data)
            self.queue.put_nowait(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return self.size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self.queue.put_nowait(None)


async def carry(call: Call, inner: Connection) -> None:
    """Carries a connection's bytes both ways until either side ends."""
    transport = _Transport()
    inner.connection_made(cast(asyncio.BaseTransport, transport))

    async def send() -> None:
        while (data := await transport.queue.get()) is not None:
            if transport.size > _HIGH:
                inner.pause_writing()
            await call.send(messages.Bytes(data=data))
            transport.size -= len(data)
            if transport.size <= _HIGH:
                inner.resume_writing()

    async def receive() -> None:
        async for message in call.messages(messages.Bytes):
            inner.data_received(message.data)

    tasks = [asyncio.create_task(send()), asyncio.create_task(receive())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        inner.connection_lost(None)
