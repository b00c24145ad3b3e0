"""Clients who come while the engine starts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from wherry.api.gate import Gate
from wherry.api.turns import LOOKS, Turns
from wherry.engine.config import EngineConfig


class Echo(asyncio.Protocol):
    """Says what it is given."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"<" + data + b">")

    def eof_received(self) -> None:
        self._transport.write(b"end")


class Standing:
    """A gate at a socket."""

    def __init__(self, gate: Gate, path: Path) -> None:
        self.gate = gate
        self._path = path

    async def connect(self) -> "Client":
        return Client(*await asyncio.open_unix_connection(self._path))


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, *lines: str) -> None:
        self.writer.write("\r\n".join((*lines, "", "")).encode())
        await self.writer.drain()

    async def answer(self) -> str:
        """The head of an answer, and its body."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return head + (await self._reader.readexactly(length)).decode()

    async def read(self, size: int = -1) -> bytes:
        return await asyncio.wait_for(self._reader.read(size) if size < 0 else self._reader.readexactly(size), 10)


@pytest.fixture
async def standing(tmp_path: Path) -> AsyncIterator[Standing]:
    gate = Gate(EngineConfig())
    path = tmp_path / "s"
    door = await asyncio.get_running_loop().create_unix_server(gate.protocol, path)
    yield Standing(gate, path)
    door.close()


async def test_ping_is_answered_and_all_else_waits(standing: Standing) -> None:
    other, client = await standing.connect(), await standing.connect()
    await other.ask("GET /containers/json HTTP/1.1", "Host: d")
    for path in ("/_ping", "/v1.41/_ping", "/_ping?x=1"):
        await client.ask(f"GET {path} HTTP/1.1", "Host: d")
        answer = await client.answer()
        assert answer.startswith("HTTP/1.1 200 OK\r\nApi-Version: 1.") and answer.endswith("\r\n\r\nOK")
        assert "Builder-Version: 2\r\n" in answer
    await client.ask("GET /info HTTP/1.1")
    standing.gate.open(Echo, Turns())
    assert await client.read(23) == b"<GET /info HTTP/1.1\r\n\r\n"
    assert await other.read(43) == b"<GET /containers/json HTTP/1.1\r\nHost: d\r\n\r\n"
    await other.ask("more")
    assert b"more" in await other.read(9)
    late = await standing.connect()
    await late.ask("GET /_ping HTTP/1.1")
    assert b"_ping" in await late.read(24)


async def test_one_after_the_other_and_in_pieces(standing: Standing) -> None:
    client = await standing.connect()
    client.writer.write(b"HEAD /_ping HTTP/1.1\r\n\r\nGET /_pi")
    assert (await client.answer()).endswith("Content-Length: 0\r\n\r\n")
    client.writer.write(b"ng HTTP/1.1\r\n\r\nGET /info HTTP/1.1\r\n\r\n")
    assert (await client.answer()).endswith("OK")
    standing.gate.open(Echo, Turns())
    assert (await client.read(23)).startswith(b"<GET /info")


async def test_who_says_that_it_was_all(standing: Standing) -> None:
    client, idle = await standing.connect(), await standing.connect()
    await client.ask("GET /info HTTP/1.1")
    for each in (client, idle):
        each.writer.write_eof()
    assert await idle.read() == b""
    standing.gate.open(Echo, Turns())
    assert await client.read() == b"<GET /info HTTP/1.1\r\n\r\n>end"


async def test_a_connection_that_is_to_be_closed_is(standing: Standing) -> None:
    client = await standing.connect()
    await client.ask("GET /_ping HTTP/1.1", "Connection: close")
    assert (await client.read()).endswith(b"OK")
    standing.gate.open(Echo, Turns())


@pytest.mark.parametrize(
    "request_line", ["GET /_ping HTTP/1.0", "POST /_ping HTTP/1.1", "GET /v9.9/_ping HTTP/1.1", "GET /x/_ping HTTP/1.1"]
)
async def test_what_the_engine_is_to_answer_itself(standing: Standing, request_line: str) -> None:
    client = await standing.connect()
    await client.ask(request_line)
    await (await standing.connect()).ask("GET /_ping HTTP/1.1")
    standing.gate.open(Echo, Turns())
    assert (await client.read(len(request_line) + 1))[1:].decode() == request_line


async def test_where_plug_ins_are_to_be_asked_a_ping_waits_too(tmp_path: Path) -> None:
    gate = Gate(EngineConfig(authorization_plugins=["judge"]))
    door = await asyncio.get_running_loop().create_unix_server(gate.protocol, tmp_path / "s")
    client = await Standing(gate, tmp_path / "s").connect()
    await client.ask("GET /_ping HTTP/1.1")
    await asyncio.sleep(0.05)
    gate.open(Echo, Turns())
    assert await client.read(6) == b"<GET /"
    door.close()


async def test_of_many_who_come_at_once_one_is_let_in_at_a_turn(standing: Standing) -> None:
    turns, begun = Turns(), []

    class Begun(Echo):
        def data_received(self, data: bytes) -> None:
            if not data.startswith(LOOKS):
                assert turns.take()
                begun.append(data)
            super().data_received(data)

    standing.gate.open(Begun, turns)
    clients = [await standing.connect() for _ in range(60)]
    for number, client in enumerate(clients):
        client.writer.write(f"POST /{number:02}".encode())
    looking = await standing.connect()
    looking.writer.write(b"GET /")
    assert await looking.read(7) == b"<GET />"
    assert len(begun) < 30
    clients[40].writer.close()  # who goes is let in no more, and holds up nobody
    for number, client in enumerate(clients):
        if number != 40:
            assert await client.read(10) == f"<POST /{number:02}>".encode()
    looking.writer.write(b"POST /x")
    assert await looking.read(9) == b"<POST /x>"
