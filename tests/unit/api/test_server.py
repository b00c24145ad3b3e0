"""Routing, versions, errors, headers: what stands around every handler."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.waiting import until
from wherry.api.routes import ROUTES, find
from wherry.common.errors import Conflict, NotFound, NotModified


def raising(error: Exception) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        raise error

    return call


async def test_ping_says_what_clients_negotiate_with(client: Any) -> None:
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        answer = await client(method, "/_ping")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["Api-Version"] == "1.54"
        assert answer.headers["Docker-Experimental"] == "false"
        assert answer.headers["Ostype"] == "linux"
        assert answer.headers["Server"].startswith("Wherry/")
        assert answer.headers["Builder-Version"] == "2"
        assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert answer.headers["Pragma"] == "no-cache"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.54"])
async def test_every_version_that_is_spoken_is_served(client: Any, prefix: str) -> None:
    assert (await client("GET", f"{prefix}/_ping")).status == 200


async def test_heads_may_be_as_long_as_in_docker(client: Any) -> None:
    """A build's arguments are in its address, and the log-ins for all registries in a field."""
    long = "x" * 400_000
    assert (await client("GET", f"/_ping?buildargs={long}", **{"X-Registry-Config": long})).status == 200


async def test_a_version_too_new(client: Any) -> None:
    answer = await client("GET", "/v1.55/_ping")
    assert answer.status == 400
    assert answer.message == "client version 1.55 is too new. Maximum supported API version is 1.54"


async def test_a_version_too_old(client: Any) -> None:
    answer = await client("GET", "/v1.23/_ping")
    assert answer.status == 400
    assert answer.message == (
        "client version 1.23 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version"
    )


async def test_who_copies_images_may_be_older(client: Any, engine: SimpleNamespace) -> None:
    engine.images.save = raising(NotFound("No such image: x"))
    assert (await client("GET", "/v1.22/images/get?names=x")).status == 404
    assert (await client("GET", "/v1.21/images/get?names=x")).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("PUT", "/containers/json"),
        ("GET", "/v1.54/nothing/x/y"),
        ("POST", "/sessions"),
    ],
)
async def test_an_unknown_page(client: Any, method: str, path: str) -> None:
    answer = await client(method, path)
    assert (answer.status, answer.json) == (404, {"message": "page not found"})


async def test_options_are_always_fine(client: Any) -> None:
    assert (await client("OPTIONS", "/containers/json")).status == 200


async def test_errors_have_a_message_and_their_status(client: Any, engine: SimpleNamespace) -> None:
    engine.views.inspect = raising(NotFound("No such container: x"))
    answer = await client("GET", "/containers/x/json")
    assert (answer.status, answer.json) == (404, {"message": "No such container: x"})
    assert answer.headers["Content-Type"] == "application/json"
    engine.containers.rename = raising(Conflict("in use"))
    assert (await client("POST", "/containers/x/rename?name=y")).status == 409


async def test_not_modified_has_no_body(client: Any, engine: SimpleNamespace) -> None:
    async def start(name: str) -> None:
        raise NotModified("container already started")

    engine.containers.start = start
    answer = await client("POST", "/containers/x/start")
    assert (answer.status, answer.body) == (304, b"")


async def test_a_mistake_of_ours_is_an_error_and_the_server_lives_on(client: Any, engine: SimpleNamespace) -> None:
    engine.views.inspect = raising(ZeroDivisionError("oh"))
    answer = await client("GET", "/containers/x/json")
    assert answer.status == 500
    assert "ZeroDivisionError" in answer.message
    assert (await client("GET", "/_ping")).status == 200


@pytest.mark.parametrize("noun", ["swarm", "services", "nodes", "tasks", "secrets", "configs"])
async def test_no_swarm(client: Any, noun: str) -> None:
    answer = await client("GET", f"/{noun}")
    assert answer.status == 503
    assert answer.message.startswith("This node is not a swarm manager.")


@pytest.mark.parametrize(
    ("route", "status", "message"),
    [
        ("POST /session", 400, "this is for BuildKit's clients"),
        ("POST /grpc", 400, "this is for BuildKit's clients"),
        ("POST /plugins/pull?remote=some/thing", 501, "wherry does not manage plugins"),
        ("GET /plugins/privileges?remote=some/thing", 501, "wherry does not manage plugins"),
        ("GET /plugins/some/thing:1/json", 404, 'plugin "some/thing:1" not found'),
        ("DELETE /plugins/some/thing:1", 404, 'plugin "some/thing:1" not found'),
        ("POST /plugins/thing/enable?timeout=0", 404, 'plugin "thing" not found'),
        ("GET /containers/box/checkpoints", 501, "wherry does not make checkpoints"),
        ("POST /swarm/init", 501, "wherry has no swarm mode"),
        ("POST /swarm/leave", 503, "This node is not part of a swarm"),
        ("POST /services/some/update?version=1", 503, "This node is not a swarm manager."),
    ],
)
async def test_what_is_not_there_is_told_in_one_line(client: Any, route: str, status: int, message: str) -> None:
    method, path = route.split()
    answer = await client(method, path)
    assert answer.status == status
    assert answer.message.startswith(message)


async def test_names_may_hold_slashes() -> None:
    match = find("GET", "/images/docker.io/library/debian:12/json")
    assert match is not None
    assert match.name == "docker.io/library/debian:12"
    removal = find("DELETE", "/images/quay.io/a/json")
    assert removal is not None
    assert removal.name == "quay.io/a/json"


async def test_a_name_may_begin_with_the_slash_that_inspect_shows() -> None:
    match = find("POST", "/containers//mine/start")
    assert match is not None
    assert match.name == "mine"


async def test_every_route_is_found_again() -> None:
    for route, handler in ROUTES.items():
        method, path = route.split()
        match = find(method, path.replace("{name}", "some"))
        assert match is not None, route
        assert match.handler is handler, route
        assert match.name == ("some" if "{name}" in path else ""), route


async def test_what_changes_state_is_carried_through_when_the_client_leaves(
    client: Any, engine: SimpleNamespace
) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def start(name: str) -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    engine.containers.start = start
    _, writer = await client.send("POST", "/containers/x/start")
    await begun.wait()
    writer.close()
    await writer.wait_closed()
    may_end.set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_start_that_waits_for_its_turn_leaves_the_queue_with_its_client(
    client: Any, engine: SimpleNamespace
) -> None:
    begun = asyncio.Event()

    async def start(name: str) -> None:
        async with engine.starts.place():
            begun.set()

    engine.containers.start = start
    async with engine.starts.place():
        _, writer = await client.send("POST", "/containers/x/start")
        await until(lambda: engine.starts.standing.waiting == 1)
        writer.close()
        await until(lambda: engine.starts.standing.waiting == 0)
    assert engine.starts.standing.under_way == 0
    assert not begun.is_set()


async def test_who_only_asks_is_answered_between_many_who_change_something(
    client: Any, engine: SimpleNamespace
) -> None:
    begun = 0

    async def kill(name: str, signal: str) -> None:
        nonlocal begun
        begun += 1
        time.sleep(0.002)  # noqa: ASYNC251  # of a processor

    engine.containers.kill = kill
    asking = [await client.open() for _ in range(60)]
    await client("GET", "/_ping")  # all are known to the server by now
    for _, writer in asking:
        writer.write(b"POST /containers/x/kill HTTP/1.1\r\nHost: engine\r\n\r\n")
    assert (await client("GET", "/_ping")).status == 200
    assert begun < 30
    answers = await asyncio.gather(*(client.head(reader) for reader, _ in asking))
    assert [status for status, _ in answers] == [204] * 60
    for _, writer in asking:
        writer.close()


async def test_a_wait_ends_with_its_client(client: Any, engine: SimpleNamespace) -> None:
    future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()
    future.add_done_callback(lambda _: gone.set())
    engine.containers.waiter = lambda name, condition, client: future
    reader, writer = await client.send("POST", "/containers/x/wait?condition=next-exit")
    assert (await client.head(reader))[0] == 200
    writer.close()
    await asyncio.wait_for(gone.wait(), 5)
    assert future.cancelled()


async def test_a_stream_that_is_cut_off_leaves_a_line_in_the_log(
    client: Any, engine: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    engine.containers.waiter = lambda name, condition, client: future
    reader, writer = await client.send("POST", "/containers/x/wait")
    assert (await client.head(reader))[0] == 200
    future.set_exception(Conflict("it is gone"))
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert "failed in its middle: it is gone" in caplog.text
    assert "Traceback" not in caplog.text


async def test_wait_sends_its_head_at_once_and_the_code_later(client: Any, engine: SimpleNamespace) -> None:
    future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    engine.containers.waiter = lambda name, condition, client: future
    reader, writer = await client.send("POST", "/containers/x/wait")
    status, headers = await client.head(reader)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    future.set_result((137, "out of memory"))
    assert b'{"StatusCode":137,"Error":{"Message":"out of memory"}}' in await reader.readuntil(b"}}")
    writer.close()


async def test_a_body_that_waits_to_be_asked_for(client: Any, engine: SimpleNamespace) -> None:
    engine.execs.create = lambda name, config: "1"
    reader, writer = await client.open()
    writer.write(
        b"POST /containers/x/exec HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
        b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b'{"Cmd":["ls"]}')
    assert (await client.head(reader))[0] == 201
    writer.close()


async def test_what_is_not_http_is_refused(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00nonsense", b"POST /commit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ"):
        reader, writer = await client.open()
        writer.write(nonsense + b"\r\n\r\n")
        answer = await reader.read()
        assert answer.split()[1] == b"400"
        assert b'{"message":"malformed HTTP request: ' in answer
        writer.close()
    assert "Traceback" not in caplog.text
    assert (await client("GET", "/_ping")).status == 200


async def test_a_client_that_closes_its_half_at_once_is_answered(client: Any, engine: SimpleNamespace) -> None:
    reader, writer = await client.send("GET", "/_ping")
    writer.write_eof()
    status, _ = await client.head(reader)
    assert (status, await reader.read()) == (200, b"OK")
    writer.close()


async def test_a_client_that_goes_after_closing_its_half_ends_its_request(client: Any, engine: SimpleNamespace) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def top(name: str, options: str) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    engine.views.top = top
    _, writer = await client.send("GET", "/containers/x/top")
    writer.write_eof()
    await asked.wait()
    assert not ended.is_set()
    writer.close()
    await ended.wait()
