"""A server in front of an engine made of plain functions, on a real socket and on uvloop, as in the daemon."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import uvloop

from wherry.api.server import Server
from wherry.engine.admission import Admission
from wherry.engine.config import EngineConfig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Client:
    """One request a connection, by hand, so that what goes over the wire is what the test says."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def send(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        lines = {"Host": "engine"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if data:
            lines |= {"Content-Length": str(len(data))}
            lines.setdefault("Content-Type", "application/json")
        reader, writer = await self.open()
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        return reader, writer

    async def __call__(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> Answer:
        headers["Connection"] = "close"
        reader, writer = await self.send(method, path, body, raw=raw, **headers)
        status, found = await self.head(reader)
        rest = await reader.read()
        if found.get("Transfer-Encoding") == "chunked":
            rest = _unchunk(rest)
        writer.close()
        return Answer(status, found, rest)


def _unchunk(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        whole += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return whole


@pytest.fixture
def engine() -> SimpleNamespace:
    """Tests put the functions that they need on its parts."""
    parts = ("containers", "execs", "images", "events", "system", "views")
    found = {part: SimpleNamespace() for part in parts}
    return SimpleNamespace(config=EngineConfig(), starts=Admission(1), **found)


@pytest.fixture
async def client(engine: SimpleNamespace, tmp_path: Path) -> AsyncIterator[Client]:
    server = Server(engine)
    path = str(tmp_path / "engine.sock")
    door = await asyncio.get_running_loop().create_unix_server(server.protocol, path)
    yield Client(path)
    door.close()
    await server.close()
