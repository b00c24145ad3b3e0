"""/containers: create, list, inspect, and what changes a container's state"""

import asyncio
import base64
import contextlib
import functools
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from wherry.api import response
from wherry.api.headers import HEADERS
from wherry.api.hijack import Hijacked, hijack, read_detach_keys
from wherry.api.request import Request, fit, take
from wherry.api.versions import Version, adapt_container, adapt_container_list, adapt_create, adapt_event
from wherry.common import times
from wherry.common.detach_keys import DetachDetector
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.container.update import Update
from wherry.engine.engine import Engine
from wherry.model.container import ContainerConfig, HostConfig
from wherry.model.network import NetworkingConfig
from wherry.runtime.logging.reader import LogQuery
from wherry.storage.worker.jobs import PathStat


async def create(request: Request, engine: Engine) -> web.Response:
    if not request.http.body_exists:
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    body = await request.json_object()
    if not body:
        raise InvalidParameter("config cannot be empty in order to create a container")
    host = fit(take(body, "HostConfig"), HostConfig, "HostConfig")
    networking = fit(take(body, "NetworkingConfig"), NetworkingConfig, "NetworkingConfig")
    if not host.runtime and isinstance(runtime := body.get("Runtime"), str):
        host.runtime = runtime  # which is where docker-py puts it
    config = fit(body, ContainerConfig)
    warnings = adapt_create(request.version, config, host, networking)
    container_id, more = await engine.containers.create(
        config, host, networking, request.text("name") or None, request.text("platform") or None
    )
    return response.json({"Id": container_id, "Warnings": [*warnings, *more]}, 201)


async def list_all(request: Request, engine: Engine) -> Any:
    found = await engine.views.list_all(
        show_all=request.flag("all"), limit=request.integer("limit"), filters=request.filters()
    )
    if request.flag("size"):
        await engine.views.add_sizes(found)
    return adapt_container_list(request.version, found)


async def inspect(request: Request, engine: Engine) -> Any:
    found = await engine.views.inspect(request.name, size=request.flag("size"))
    return adapt_container(request.version, found)


async def start(request: Request, engine: Engine) -> None:
    length = request.http.content_length
    if request.http.body_exists and (length is None or length > 7):
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if request.text("checkpoint"):
        raise NotSupported("wherry does not restore checkpoints")
    await engine.containers.start(request.name)


async def stop(request: Request, engine: Engine) -> None:
    await engine.containers.stop(request.name, request.integer("t"), _signal(request))


async def restart(request: Request, engine: Engine) -> None:
    await engine.containers.restart(request.name, request.integer("t"), _signal(request))


def _signal(request: Request) -> str | None:
    """Since API 1.42; what older clients say there has never been heard."""
    return (request.text("signal") or None) if request.version >= (1, 42) else None


async def kill(request: Request, engine: Engine) -> None:
    await engine.containers.kill(request.name, request.text("signal") or "SIGKILL")


async def rename(request: Request, engine: Engine) -> None:
    engine.containers.rename(request.name, request.text("name"))


async def update(request: Request, engine: Engine) -> Any:
    return {"Warnings": await engine.updates.update(request.name, await request.json(Update))}


async def resize(request: Request, engine: Engine) -> web.Response:
    rows, columns = request.size("h"), request.size("w")
    await engine.containers.resize(request.name, rows, columns)
    return response.empty(200)


async def remove(request: Request, engine: Engine) -> None:
    if request.flag("link"):
        engine.endpoints.unlink(request.name)
        return
    await engine.containers.remove(request.name, force=request.flag("force"), volumes=request.flag("v"))


async def changes(request: Request, engine: Engine) -> web.Response:
    return response.json(engine.views.changes(request.name))  # null where nothing has changed, as Docker has it


async def export(request: Request, engine: Engine) -> web.StreamResponse:
    return await response.stream(request, engine.views.export(request.name), "application/octet-stream")


# Attach: a container's streams over the connection that asked, or over a websocket

_HEADER = 8  # bytes before each piece of output: which stream, three zeros, the length


async def attach_streams(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /containers/{name}/attach"""
    keys = read_detach_keys(request.text("detachKeys"))
    container = engine.containers.get(request.name)
    config = container.config
    stdin, stdout, stderr = (request.flag(name) for name in ("stdin", "stdout", "stderr"))
    sock = None
    if request.flag("stream"):
        sock = await engine.containers.attach(container.id, stdin=stdin, stdout=stdout, stderr=stderr)
    history = _history(request, engine, container.id, stdout, stderr)
    with sock or contextlib.nullcontext():
        async with hijack(
            request,
            response.stream_type(request, config.tty),
            stdin=stdin and config.open_stdin,
            stdin_closes=config.stdin_once and not config.tty,
            detach_keys=keys if config.tty else b"",
            on_detach=functools.partial(engine.containers.detached, container.id, _docker_cli(request)),
        ) as client:
            if history is not None:
                async for chunk in history:
                    await client.write(chunk)
            await client.join(sock)
    return Hijacked()


def _history(
    request: Request, engine: Engine, container_id: str, stdout: bool, stderr: bool
) -> AsyncIterator[bytes] | None:
    """What was printed before, when the client asks for it."""
    if not request.flag("logs"):
        return None
    return engine.views.logs(container_id, LogQuery(stdout=stdout, stderr=stderr))


async def attach_websocket(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /containers/{name}/attach/ws: one message a piece of output, without frames, and the input likewise."""
    keys = read_detach_keys(request.text("detachKeys"))
    container = engine.containers.get(request.name)
    config = container.config
    chosen = request.version >= (1, 42)  # older ones attach to everything
    stdin, stdout, stderr = (request.flag(name) or not chosen for name in ("stdin", "stdout", "stderr"))
    answer = web.WebSocketResponse()
    if not answer.can_prepare(request.http):
        return response.error("not websocket protocol", 400)
    history = _history(request, engine, container.id, stdout, stderr)
    sock = None
    if request.flag("stream"):
        sock = await engine.containers.attach(container.id, stdin=stdin, stdout=stdout, stderr=stderr)
    with sock or contextlib.nullcontext():
        await answer.prepare(request.http)
        if history is not None:
            async for chunk in history:
                for piece in (chunk,) if config.tty else _unframe(chunk)[0]:
                    await answer.send_bytes(piece)
        if sock is not None:
            detector = DetachDetector(keys) if config.tty else None
            await _join_websocket(answer, sock, config.tty, stdin and config.open_stdin, detector)
            if detector is not None and detector.complete:
                engine.containers.detached(container.id, _docker_cli(request))
        await answer.close()
    return answer


async def _join_websocket(
    answer: web.WebSocketResponse, sock: socket.socket, tty: bool, stdin: bool, detector: DetachDetector | None
) -> None:
    """Carries both ways until either side ends."""
    tasks = (
        asyncio.ensure_future(_send_output(answer, sock, tty)),
        asyncio.ensure_future(_take_input(answer, sock, stdin, detector)),
    )
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _send_output(answer: web.WebSocketResponse, sock: socket.socket, tty: bool) -> None:
    loop = asyncio.get_running_loop()
    rest = b""
    while data := await loop.sock_recv(sock, 1 << 16):
        if tty:
            await answer.send_bytes(data)
            continue
        pieces, rest = _unframe(rest + data)
        for piece in pieces:
            await answer.send_bytes(piece)


async def _take_input(
    answer: web.WebSocketResponse, sock: socket.socket, stdin: bool, detector: DetachDetector | None
) -> None:
    loop = asyncio.get_running_loop()
    async for message in answer:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or not stdin:
            continue
        data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
        if detector is not None:
            data = detector.feed(data)
        if data:
            await loop.sock_sendall(sock, data)
        if detector is not None and detector.complete:
            return


def _unframe(data: bytes) -> tuple[list[bytes], bytes]:
    """What the whole frames hold, and the rest."""
    pieces, at = [], 0
    while at + _HEADER <= len(data):
        end = at + _HEADER + int.from_bytes(data[at + 4 : at + _HEADER])
        if end > len(data):
            break
        pieces.append(data[at + _HEADER : end])
        at = end
    return pieces, data[at:]


# /events, and /containers/{name}/ logs, stats and wait: what goes on while a client listens

_encode = msgspec.json.Encoder().encode

# These put frames together again, and are spared one for each line. Others take a frame for a line, as Docker's are:
# docker-py's ``for line in container.logs(stream=True)``.
_JOINING_FRAMES = ("Docker-Client/", "wherry")


async def events(request: Request, engine: Engine) -> web.StreamResponse:
    since, until = request.timestamp("since"), request.timestamp("until")
    if since is not None and until is not None and until < since:
        raise InvalidParameter(
            f"`since` time ({request.text('since')}) cannot be after `until` time ({request.text('until')})"
        )
    found = engine.events.subscribe(request.filters(), since, until)
    kind = _events_type(request)
    return await response.stream(request, _told(found, request.version, kind), kind, at_once=True)


_JSON_SEQUENCE = "application/json-seq"  # RFC 7464: each text behind a record separator
_EVENTS_TYPES = ("application/jsonl", "application/x-ndjson", _JSON_SEQUENCE)


def _events_type(request: Request) -> str:
    """What the client asks for by name, and otherwise what its version of the API expects."""
    for accepted in ",".join(request.http.headers.getall("Accept", [])).split(","):
        kind, *parameters = (part.strip().lower() for part in accepted.split(";"))
        if kind in _EVENTS_TYPES and not any(re.fullmatch(r"q=0(\.0{0,3})?", each) for each in parameters):
            return kind
    return response.JSON if request.version < (1, 52) else _EVENTS_TYPES[0]


async def _told(found: AsyncIterator[dict[str, Any]], version: Version, kind: str) -> AsyncIterator[bytes]:
    mark = b"\x1e" if kind == _JSON_SEQUENCE else b""
    async for event in found:
        if version < (1, 46) and event["Type"] == "image" and event["Action"] == "create":
            continue  # told since API 1.46
        yield mark + _encode(adapt_event(version, event)) + b"\n"


async def logs(request: Request, engine: Engine) -> web.StreamResponse:
    stdout, stderr = request.flag("stdout"), request.flag("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tty = engine.containers.get(request.name).config.tty
    wanted = LogQuery(
        stdout=stdout,
        stderr=stderr,
        since=request.timestamp("since"),
        until=request.timestamp("until") or None,
        tail=_tail(request.text("tail")),
        timestamps=request.flag("timestamps"),
        details=request.flag("details"),
        by_line=not request.http.headers.get("User-Agent", "").startswith(_JOINING_FRAMES),
    )
    chunks = engine.views.logs(request.name, wanted, follow=request.flag("follow"))
    return await response.stream(request, chunks, response.stream_type(request, tty), at_once=True)


def _tail(text: str) -> int | None:
    """How many lines of the end; all of them for "all" and for what is no number, as Docker has it."""
    return int(text) if text.isascii() and text.isdigit() else None


async def stats(request: Request, engine: Engine) -> web.StreamResponse:
    """One sample after another, or a single one with ``stream=0``."""
    stream = request.flag("stream", default=True)
    one_shot = request.version >= (1, 41) and request.flag("one-shot")
    samples = engine.views.stats(request.name, stream=stream, one_shot=one_shot)
    return await response.stream(request, _lines(samples), response.JSON)


async def _lines(samples: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for sample in samples:
        yield _encode(sample) + b"\n"


async def wait(request: Request, engine: Engine) -> web.StreamResponse:
    """The head goes out once the engine listens: a client that has it may start the container and lose nothing."""
    condition = request.text("condition") or "not-running"
    if request.version < (1, 30):
        code, _ = await engine.containers.waiter(request.name, "not-running")
        return response.json({"StatusCode": code})
    waiter = engine.containers.waiter(request.name, condition, _docker_cli(request))
    answer = await response.begin(request, response.JSON)
    code, failure = await waiter
    body = {"StatusCode": code} | ({"Error": {"Message": failure}} if failure else {})
    await answer.write(_encode(body) + b"\n")
    return answer


def _docker_cli(request: Request) -> int | None:
    """The process on this machine that asks, if it is Docker's CLI.

    It looks for the detach keys, too, but not where the first of them is typed twice. When they are found here and not
    there, it goes on waiting for the container, on another connection: that wait is then to be over.
    """
    is_docker = request.http.headers.get("User-Agent", "").startswith("Docker-Client/")
    peer = request.peer() if is_docker else None
    return peer.pid or None if peer else None


# /containers/{name}/archive: a container's files as tars, out and in

_STAT = "X-Docker-Container-Path-Stat"


async def stat(request: Request, engine: Engine) -> web.Response:
    """HEAD: what there is at the path, in a header."""
    found = await engine.archives.stat(request.name, request.text("path"))
    return web.Response(headers=HEADERS | _headers(found))


async def get(request: Request, engine: Engine) -> web.StreamResponse:
    """GET: the same header, and a tar."""
    async with engine.archives.get(request.name, request.text("path")) as (found, chunks):
        return await response.stream(request, chunks, response.TAR, headers=_headers(found))


async def put(request: Request, engine: Engine) -> web.Response:
    """PUT: unpacks the body below the path."""
    await engine.archives.put(
        request.name,
        request.text("path"),
        request.body(),
        keep_kinds=request.flag("noOverwriteDirNonDir"),
        as_user=request.flag("copyUIDGID"),
    )
    return response.empty(200)


def _headers(found: PathStat) -> dict[str, str]:
    text: dict[str, Any] = msgspec.to_builtins(found) | {"mtime": times.rfc3339(found.mtime)}
    return {_STAT: base64.b64encode(msgspec.json.encode(text)).decode()}
