"""Attach: a container's streams over the connection that asked, or over a websocket"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from wherry.api import response
from wherry.api.detach import DetachDetector, parse_keys
from wherry.api.hijack import Hijacked, hijack
from wherry.api.request import Request
from wherry.engine.engine import Engine

_HEADER = 8  # bytes before each piece of output: which stream, three zeros, the length


async def attach(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /containers/{name}/attach"""
    keys = parse_keys(request.text("detachKeys"))
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
            on_detach=functools.partial(engine.containers.detached, container.id),
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
    return engine.views.logs(
        container_id,
        stdout=stdout,
        stderr=stderr,
        follow=False,
        since=None,
        until=None,
        tail=None,
        timestamps=False,
        details=False,
    )


async def attach_websocket(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /containers/{name}/attach/ws: one message a piece of output, without frames, and the input likewise."""
    keys = parse_keys(request.text("detachKeys"))
    container = engine.containers.get(request.name)
    config = container.config
    chosen = request.version >= (1, 42)  # older ones attach to everything
    stdin, stdout, stderr = (request.flag(name) or not chosen for name in ("stdin", "stdout", "stderr"))
    answer = web.WebSocketResponse()
    if not answer.can_prepare(request.http):
        return response.error("the request is not a websocket handshake", 400)
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
                engine.containers.detached(container.id)
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
