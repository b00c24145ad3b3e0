"""Streamed answers: when the head goes out, how failures are told, and that nobody goes on when the client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.common.errors import InvalidParameter, NotFound
from wherry.runtime.logging.reader import LogQuery


async def test_events_send_their_head_before_anything_happens(client: Any, engine: SimpleNamespace) -> None:
    happened: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asked, ended = [], asyncio.Event()

    async def subscribe(filters: Any, since: int | None, until: int | None) -> AsyncIterator[dict[str, Any]]:
        asked.append((filters, since, until))
        try:
            while True:
                yield await happened.get()
        finally:
            ended.set()

    engine.events.subscribe = subscribe
    reader, writer = await client.send("GET", '/events?filters={"type":["container"]}&since=1.5')
    status, headers = await client.head(reader)
    assert (status, headers["Content-Type"]) == (200, "application/jsonl")
    assert asked == [({"type": ["container"]}, 1_500_000_000, None)]
    event = {"Type": "container", "Action": "start"}
    happened.put_nowait(event)
    await reader.readline()
    assert json.loads(await reader.readline()) == event
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_client_that_goes_is_no_error(
    client: Any, engine: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def subscribe(*arguments: Any) -> AsyncIterator[dict[str, Any]]:
        try:
            while True:
                await asyncio.sleep(0)
                yield {"Type": "container", "Action": "start"}
        finally:
            ended.set()

    engine.events.subscribe = subscribe
    reader, writer = await client.send("GET", "/events")
    await client.head(reader)
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.sleep(0)
    assert caplog.records == []


async def test_what_fails_before_the_head_has_its_own_status(client: Any, engine: SimpleNamespace) -> None:
    async def subscribe(*arguments: Any) -> AsyncIterator[dict[str, Any]]:
        raise InvalidParameter("invalid filter 'x'")
        yield {}

    engine.events.subscribe = subscribe
    answer = await client("GET", "/events")
    assert (answer.status, answer.message) == (400, "invalid filter 'x'")


async def test_image_creation_is_told_since_1_46(client: Any, engine: SimpleNamespace) -> None:
    async def subscribe(*arguments: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"Type": "image", "Action": "create"}
        yield {"Type": "image", "Action": "tag"}

    engine.events.subscribe = subscribe
    assert len((await client("GET", "/v1.46/events")).body.splitlines()) == 2
    assert len((await client("GET", "/v1.45/events")).body.splitlines()) == 1


async def test_load_takes_the_body_as_it_comes(client: Any, engine: SimpleNamespace) -> None:
    async def load(stream: AsyncIterator[bytes], quiet: bool, wanted: Any) -> AsyncIterator[dict[str, Any]]:
        size = 0
        async for chunk in stream:
            size += len(chunk)
        yield {"stream": f"{size} {quiet}"}

    engine.images.load = load
    answer = await client("POST", "/images/load?quiet=0", raw=b"x" * 3_000_000, Content_Type="application/x-tar")
    assert (answer.status, json.loads(answer.body)) == (200, {"stream": "3000000 False"})


async def test_progress_that_fails_ends_with_a_line_that_says_so(client: Any, engine: SimpleNamespace) -> None:
    async def load(stream: AsyncIterator[bytes], quiet: bool, wanted: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"stream": "one"}
        raise InvalidParameter("the tar is broken")

    engine.images.load = load
    answer = await client("POST", "/images/load", raw=b"x")
    assert answer.status == 200
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"stream": "one"},
        {"errorDetail": {"message": "the tar is broken"}, "error": "the tar is broken"},
    ]


async def test_an_upload_that_is_refused_early_still_gets_its_answer(client: Any, engine: SimpleNamespace) -> None:
    async def load(stream: AsyncIterator[bytes], quiet: bool, wanted: Any) -> AsyncIterator[dict[str, Any]]:
        raise InvalidParameter("not a tar")
        yield {}

    engine.images.load = load
    answer = await client("POST", "/images/load", raw=b"x" * 5_000_000)
    assert (answer.status, json.loads(answer.body)["error"]) == (200, "not a tar")  # as Docker says it here


async def test_an_import_that_is_refused_has_its_own_status(client: Any, engine: SimpleNamespace) -> None:
    async def import_(stream: AsyncIterator[bytes], **options: object) -> AsyncIterator[dict[str, Any]]:
        raise InvalidParameter("not a tar")
        yield {}

    engine.images.import_ = import_
    answer = await client("POST", "/images/create?fromSrc=-", raw=b"x" * 5_000_000)
    assert (answer.status, answer.message) == (400, "not a tar")


async def test_a_tar_that_fails_in_its_middle_is_cut_off(client: Any, engine: SimpleNamespace) -> None:
    async def save(names: list[str], wanted: Any) -> AsyncIterator[bytes]:
        assert names == ["a:1", "b"]
        yield b"half"
        raise NotFound("gone")

    engine.images.save = save
    reader, writer = await client.send("GET", "/images/get?names=a:1&names=b")
    status, headers = await client.head(reader)
    assert (status, headers["Content-Type"]) == (200, "application/x-tar")
    assert await reader.read() == b"4\r\nhalf\r\n"  # without the chunk of size 0 that says "whole"
    writer.close()


async def test_the_source_is_held_back_while_the_client_does_not_read(client: Any, engine: SimpleNamespace) -> None:
    made = 0

    async def save(names: list[str], wanted: Any) -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield bytes(1 << 16)

    engine.images.save = save
    reader, writer = await client.send("GET", "/images/x/get")
    await client.head(reader)
    before = -1
    while made != before:
        before = made
        await asyncio.sleep(0.05)
    assert made < 200
    writer.close()


async def test_logs(client: Any, engine: SimpleNamespace) -> None:
    asked = []
    tty = False

    async def logs(name: str, wanted: LogQuery, follow: bool) -> AsyncIterator[bytes]:
        asked.append((wanted, follow))
        yield b"\1\0\0\0\0\0\0\2hi"

    engine.containers.get = lambda name: SimpleNamespace(config=SimpleNamespace(tty=tty))
    engine.views.logs = logs
    answer = await client("GET", "/containers/x/logs?stdout=1&tail=5&since=2&timestamps=1")
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert answer.body.endswith(b"hi")
    assert asked == [
        (LogQuery(stdout=True, stderr=False, tail=5, since=2_000_000_000, timestamps=True, by_line=True), False)
    ]
    older = await client("GET", "/v1.41/containers/x/logs?stdout=1&tail=all")
    assert older.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert asked[1][0].tail is None
    tty = True
    terminal = await client("GET", "/containers/x/logs?stdout=1")
    assert terminal.headers["Content-Type"] == "application/vnd.docker.raw-stream"


async def test_logs_of_neither_stream(client: Any) -> None:
    answer = await client("GET", "/containers/x/logs")
    assert (answer.status, answer.message) == (400, "Bad parameters: you must choose at least one stream")


async def test_following_ends_with_the_client(client: Any, engine: SimpleNamespace) -> None:
    ended = asyncio.Event()

    async def logs(name: str, wanted: LogQuery, follow: bool) -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.set()

    engine.containers.get = lambda name: SimpleNamespace(config=SimpleNamespace(tty=False))
    engine.views.logs = logs
    reader, writer = await client.send("GET", "/containers/x/logs?stdout=1&follow=1")
    assert (await client.head(reader))[0] == 200
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize(
    ("version", "accept", "kind"),
    [
        ("/v1.51", "*/*", "application/json"),
        ("/v1.51", "application/x-ndjson", "application/x-ndjson"),
        ("", "application/json", "application/jsonl"),
        ("", "application/json-seq;q=0, application/x-ndjson;q=0.5", "application/x-ndjson"),
        ("", "application/json-seq", "application/json-seq"),
    ],
)
async def test_events_come_as_the_client_reads_them(
    client: Any, engine: SimpleNamespace, version: str, accept: str, kind: str
) -> None:
    event = {"status": "start", "id": "1", "from": "app", "Type": "container", "Action": "start", "Actor": {"ID": "1"}}

    async def subscribe(*asked: Any) -> AsyncIterator[dict[str, Any]]:
        yield event

    engine.events.subscribe = subscribe
    answer = await client("GET", f"{version}/events?until=1", Accept=accept)
    assert answer.headers["Content-Type"] == kind
    assert answer.body.startswith(b"\x1e" if kind == "application/json-seq" else b"{") and answer.body.endswith(b"}\n")
    told = json.loads(answer.body.lstrip(b"\x1e"))
    assert told == (event if version else {name: event[name] for name in ("Type", "Action", "Actor")})


@pytest.mark.parametrize(("method", "path"), [("GET", "/images/get?names=a"), ("POST", "/images/load?quiet=1")])
async def test_several_platforms(client: Any, engine: SimpleNamespace, method: str, path: str) -> None:
    asked: list[Any] = []

    async def answer(*given: Any, wanted: Any = None, **options: Any) -> AsyncIterator[Any]:
        asked.append(wanted or given[-1])
        yield b"tar" if method == "GET" else {"stream": "done"}

    engine.images.save = engine.images.load = answer
    two = "&platform=" + '{"os":"linux","architecture":"amd64"}&platform={"os":"linux","architecture":"arm64"}'
    assert (await client(method, path + two)).status == 200
    assert asked == [["linux/amd64", "linux/arm64"]]
    refused = await client(method, f"/v1.51{path}{two}")
    assert (refused.status, refused.message[:48]) == (400, "multiple platform parameters are not supported i")
