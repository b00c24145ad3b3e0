"""The near end of a relay: a socket of ours, between whose other end and a client everything is carried."""

import asyncio
from typing import Protocol, cast


class Far(Protocol):
    """The client's side. Each side stops the other's reading while it cannot write."""

    half_open: bool  # whether the client's input goes on when there is no more output

    def send(self, data: bytes) -> None: ...

    def near_ended(self) -> None:
        """No more will come to be sent."""

    def near_lost(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Side(asyncio.Protocol):
    """One of two that are joined; its transport may be gone already when the other one speaks of it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class NearEnd(Side):
    def __init__(self, far: Far) -> None:
        super().__init__()
        self._far = far

    def data_received(self, data: bytes) -> None:
        self._far.send(data)

    def eof_received(self) -> bool:
        self._far.near_ended()
        return self._far.half_open

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._far.near_lost()

    def pause_writing(self) -> None:
        self._far.pause_reading()

    def resume_writing(self) -> None:
        self._far.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """No more will be written."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
