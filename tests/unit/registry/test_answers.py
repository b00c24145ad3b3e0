"""What a server says that is no registry, or a bad one: each ends in an error that is told, and none in a bug's."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from wherry.common.errors import EngineError
from wherry.model.image import Descriptor
from wherry.registry import http, search
from wherry.registry.auth import Credentials
from wherry.registry.endpoints import Endpoint, Registries
from wherry.registry.repository import Repository
from wherry.registry.session import Session

Answer = Callable[[bytes], bytes]
"""The whole answer to the head of a request."""
CAPTAIN = Credentials(username="captain", password="s3cret")
MANIFEST = json.dumps({"schemaVersion": 2, "config": {"digest": f"sha256:{'0' * 64}", "size": 1}, "layers": []})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "delay", lambda failures, asked, attempts: 0 if failures < 3 else None)


@contextlib.asynccontextmanager
async def speaking_to(answer: Answer) -> AsyncIterator[tuple[Session, str]]:
    """A session with a server that answers so, and the server's host."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                writer.write(answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    registries = Registries()
    registries.note(Endpoint(f"http://{host}"))
    try:
        async with Session(registries, CAPTAIN, idle_seconds=5, environment={}) as session:
            yield session, host
    finally:
        server.close()


def reply(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def error_of(work: Awaitable[object]) -> str:
    with pytest.raises(EngineError) as caught:
        await asyncio.wait_for(work, 30)
    assert "s3cret" not in caught.value.message
    return caught.value.message


NONSENSE = [
    "http://[::1",
    "http://x:99999/",
    "http://x:port/",
    "http://\xff/",
    "http://a..b/",
    "http://[zz]/",
    "ftp://x/",
]


@pytest.mark.parametrize("address", NONSENSE)
async def test_addresses(address: str) -> None:
    async with speaking_to(lambda head: reply("307 Moved", f"Location: {address}")) as (session, host):
        assert "not an address" in await error_of(Repository(session, host, "x").manifest("1"))
        pushing = Repository(session, host, "x", pushing=True)
        assert "not an address" in await error_of(pushing.put_manifest("1", b"{}", "a/b"))
    challenge = f'WWW-Authenticate: Bearer realm="{address}"'
    async with speaking_to(lambda head: reply("401 No", challenge)) as (session, host):
        assert "not an address" in await error_of(Repository(session, host, "x").manifest("1"))


@pytest.mark.parametrize(
    "status", ["204 Nothing", "206 Part", "300 Many", "301 Moved", "304 Same", "000 What", "999 Odd"]
)
async def test_statuses(status: str) -> None:
    async with speaking_to(lambda head: reply(status, "Location: /elsewhere")) as (session, host):
        await error_of(Repository(session, host, "x").manifest("1"))


@pytest.mark.parametrize("status", ["300 Many", "301 Moved", "302 Found", "303 Other", "304 Same"])
async def test_a_push_is_not_done_because_it_is_sent_elsewhere(status: str) -> None:
    async with speaking_to(lambda head: reply(status, "Location: /elsewhere")) as (session, host):
        text = await error_of(Repository(session, host, "x", pushing=True).put_manifest("1", b"{}", "a/b"))
        assert text.startswith(f"received unexpected HTTP status: {status[:3]}")


@pytest.mark.parametrize("body", [b'{"tags": 5}', b'{"tags": {"a": 1}}', b'{"tags": "abc"}', b'{"tags": null}', b"[]"])
async def test_lists_that_are_none(body: bytes) -> None:
    async with speaking_to(lambda head: reply("200 OK", body=body)) as (session, host):
        assert await Repository(session, host, "x").tags() == []


@pytest.mark.parametrize("body", [b'{"token": "\xff"}', b'{"tags": ["\xff"]}', b"[" * 9999, b""])
async def test_no_json(body: bytes) -> None:
    async with speaking_to(lambda head: reply("200 OK", body=body)) as (session, host):
        await error_of(Repository(session, host, "x").tags())
        await error_of(search.search(session, host, "x", 5))

    def token(head: bytes) -> bytes:
        if b" /token" in head:
            return reply("200 OK", body=body)
        where = head.partition(b"Host: ")[2].partition(b"\r")[0].decode()
        return reply("401 No", f'WWW-Authenticate: Bearer realm="http://{where}/token"', body=body)

    async with speaking_to(token) as (session, host):
        await error_of(Repository(session, host, "x").manifest("1"))


@pytest.mark.parametrize(
    "wait", ["²", "-1", "9" * 400, "Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +9999999"]
)
async def test_waits_of_no_time(wait: str) -> None:
    assert http.retry_after(wait) in (None, math.inf, 0)
    async with speaking_to(lambda head: reply("429 Busy", f"Retry-After: {wait}")) as (session, host):
        assert "too many requests" in await error_of(Repository(session, host, "x").manifest("1"))


async def test_nothing_is_packed_that_was_not_asked_for() -> None:
    def answer(head: bytes) -> bytes:
        if b"gzip" in head.lower():
            return reply("200 OK", "Content-Encoding: gzip", body=gzip.compress(MANIFEST.encode()))
        return reply("200 OK", body=MANIFEST.encode())

    async with speaking_to(answer) as (session, host):
        assert (await Repository(session, host, "x").manifest("1")).raw == MANIFEST.encode()


async def test_what_a_registry_leads_to_is_not_there() -> None:
    """It is not asked by TLS then, and it is said what is not there."""
    async with speaking_to(lambda head: reply("307 Moved", "Location: http://127.0.0.1:1/x")) as (session, host):
        text = await error_of(Repository(session, host, "x").manifest("1"))
    assert text == 'Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused'


async def test_a_push_follows_where_it_is_sent_as_a_whole() -> None:
    asked: list[bytes] = []

    def answer(head: bytes) -> bytes:
        asked.append(head.partition(b" HTTP")[0])
        moved = b" /v2/" in head
        return reply("307 Moved", "Location: /elsewhere") if moved else reply("201 Created")

    async with speaking_to(answer) as (session, host):
        await Repository(session, host, "x", pushing=True).put_manifest("1", b"", "a/b")
    assert asked == [b"PUT /v2/x/manifests/1", b"PUT /elsewhere"]


async def test_a_registry_that_starts_anew_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away, connections are refused."""
    refused = asyncio.Event()

    def patience(failures: int, asked: float | None, attempts: int) -> float:
        if failures > 1:
            refused.set()
        return 0.01

    monkeypatch.setattr(http, "delay", patience)
    data = b"cargo" * 1000
    descriptor = Descriptor("a/b", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Range: bytes=2000-" in head:
            rest = data[2000:]
            writer.write(reply("206 Part", f"Content-Range: bytes 2000-{len(data) - 1}/{len(data)}", body=rest))
        else:
            writer.write(reply("200 OK", body=data)[: -len(data) + 2000])
            server.close()
        await writer.drain()
        writer.close()

    async def answers(endpoint: Endpoint) -> bool:
        return True

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    registries = Registries()
    registries.note(Endpoint(f"http://127.0.0.1:{port}"))
    async with Session(registries, environment={}) as session:
        await session.try_each(f"127.0.0.1:{port}", answers)
        reading = asyncio.create_task(Repository(session, f"127.0.0.1:{port}", "x").document(descriptor))
        await asyncio.wait_for(refused.wait(), 30)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        assert await asyncio.wait_for(reading, 30) == data
        server.close()


@pytest.mark.parametrize(
    "proxy", ["socks5://s3cret:x@127.0.0.1:1", "http://[::1", "foo://x", "http://x:99999", ":", "http://"]
)
async def test_proxies_that_are_none(proxy: str) -> None:
    async with Session(Registries(), CAPTAIN, environment={"HTTPS_PROXY": proxy}) as session:
        text = await error_of(Repository(session, "registry.test", "x").manifest("1"))
    assert text.startswith("proxyconnect tcp: ")


async def test_a_cut_behind_the_last_byte() -> None:
    """There is nothing to go on with; a registry would refuse a range of nothing."""
    data = b"cargo" * 100
    descriptor = Descriptor("a/b", f"sha256:{'0' * 64}", len(data))
    arrived = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"Range:" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(reply("416 No"))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(data), data))
            await arrived.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    registries = Registries()
    registries.note(Endpoint(f"http://{host}"))
    async with Session(registries, environment={}) as session:
        got = bytearray()
        async for chunk in Repository(session, host, "x").blob(descriptor):
            got += chunk
            if len(got) == len(data):
                arrived.set()
        assert got == data
    server.close()
