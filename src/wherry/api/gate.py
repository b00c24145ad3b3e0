"""Who comes: while the engine starts ``_ping`` is answered at once, and all else waits for the engine.

An engine that was killed is started again with clients at its door. What it has to load, and to find out about the
containers that run, takes it longer than they should wait for a sign of life.

Later, who comes is made a connection of aiohttp's when its first request has its turn: that takes five times as long as
to let it in, and thousands may come at once.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import cast

from wherry.api import headers
from wherry.api.turns import LOOKS, Turns
from wherry.api.versions import parse_version
from wherry.common.errors import InvalidParameter
from wherry.engine.config import EngineConfig

Serve = Callable[[], asyncio.Protocol]

_PING = re.compile(rb"(GET|HEAD) (?:/v([0-9.]{1,9}))?/_ping(?:\?[^ ]*)? HTTP/1\.1\r\n")
_OF_A_BODY = re.compile(rb"\r\n(?:content-length|transfer-encoding|expect):", re.IGNORECASE)
_HELD = 1 << 16  # bytes of a connection
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class Gate:
    """``gate.protocol`` is what a listening socket makes for each connection. For unix sockets: what may come over
    others has to be looked at first."""

    def __init__(self, config: EngineConfig) -> None:
        self._serve: Serve | None = None
        self._turns = Turns()
        self._waiting: set[Waiting] = set()
        self._answers = {} if config.authorization_plugins else _answers(config)  # those are asked of a ping, too

    def protocol(self) -> asyncio.Protocol:
        return Waiting(self._waiting, self._answers) if self._serve is None else Arrival(self._serve, self._turns)

    def open(self, serve: Serve, turns: Turns) -> None:
        """Hands over all who wait, and from now on lets in who comes. ``serve`` makes a connection's protocol."""
        self._serve, self._turns = serve, turns
        for each in list(self._waiting):
            each.hand_over(serve())


class Waiting(asyncio.Protocol):
    """A connection that waits."""

    def __init__(self, waiting: "set[Waiting]", answers: Mapping[bytes, bytes]) -> None:
        """``answers`` are those to ``_ping``, by the request's method; where there are none it waits as well."""
        self._waiting = waiting
        self._answers = answers
        self._data = b""
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._waiting.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._data and self._is_answered():
            pass
        if b"\r\n\r\n" in self._data or len(self._data) > _HELD:
            self._transport.pause_reading()  # the rest waits with the client

    def _is_answered(self) -> bool:
        """Whether the data began with a ``_ping``, which has been answered."""
        head, end, rest = self._data.partition(b"\r\n\r\n")
        asked = _PING.match(head + b"\r\n")
        if not self._answers or not end or asked is None or _OF_A_BODY.search(head) or not _is_spoken(asked[2]):
            return False
        self._data = rest
        self._transport.write(self._answers[asked[1]])
        if _CLOSES.search(head):
            self._data = b""
            self._transport.close()
        return True

    def eof_received(self) -> bool:
        self._has_ended = True
        return bool(self._data)  # who has asked for something still gets his answer

    def connection_lost(self, error: Exception | None) -> None:
        self._waiting.discard(self)

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        self._waiting.discard(self)
        if self._transport.is_closing():
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._data:
            protocol.data_received(self._data)
        if self._has_ended:
            if not protocol.eof_received():
                self._transport.close()
        else:
            self._transport.resume_reading()


class Arrival(asyncio.Protocol):
    """A connection that has sent nothing yet, or waits for its first turn."""

    __slots__ = ("_data", "_serve", "_transport", "_turns")

    def __init__(self, serve: Serve, turns: Turns) -> None:
        self._serve = serve
        self._turns = turns
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._data or not (data.startswith(LOOKS) or self._turns.is_free):
            if not self._data:
                self._transport.pause_reading()
                self._turns.wait(self._go_on)
            self._data += data
        else:
            self._hand_over(data)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._hand_over(self._data)

    def _hand_over(self, data: bytes) -> None:
        protocol = self._serve()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)


def _is_spoken(version: bytes | None) -> bool:
    try:
        return version is None or bool(parse_version(version.decode()))
    except InvalidParameter:
        return False


def _answers(config: EngineConfig) -> dict[bytes, bytes]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.of_ping(config).items())
    return {
        method: f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for method, body in ((b"GET", "OK"), (b"HEAD", ""))
    }
