"""/exec and /containers/{name}/exec"""

import contextlib
import functools
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.hijack import Hijacked, frame, hijack, read_detach_keys
from wherry.api.request import Request
from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.engine import Engine
from wherry.model.container import ExecConfig


class StartRequest(msgspec.Struct, rename="pascal"):
    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


async def create(request: Request, engine: Engine) -> web.Response:
    config = await request.json(ExecConfig)
    try:
        read_detach_keys(config.detach_keys)
    except InvalidParameter:
        raise EngineError(f"Invalid escape keys ({config.detach_keys}) provided") from None
    if request.version < (1, 42):
        config.console_size = None
    return response.json({"Id": engine.execs.create(request.name, config)}, 201)


async def start(request: Request, engine: Engine) -> web.StreamResponse:
    """Joins the connection to the new process, unless it is detached.

    The answer goes out before the process is started, as Docker does it, so a process that cannot be started is told of
    in the stream: clients print that, and then ask for the exit code. Whether there are frames in it is for the client
    to say here, whatever it said when it made the exec: docker-py never asks for a terminal's stream.
    """
    asked = await request.json(StartRequest)
    record = engine.execs.get(request.name)
    config = record.config
    console = asked.console_size if asked.tty and request.version >= (1, 42) else None
    begin = functools.partial(
        engine.execs.start, request.name, tty=asked.tty, detach=asked.detach, console_size=console
    )
    if asked.detach:
        await begin()
        return response.empty(200)
    async with hijack(
        request,
        response.stream_type(request, asked.tty),
        stdin=config.attach_stdin,
        stdin_closes=not config.tty,
        detach_keys=read_detach_keys(config.detach_keys) if config.tty else b"",
        framed=config.tty and not asked.tty,
    ) as client:
        try:
            sock = await begin()
        except EngineError as failure:
            text = f"{failure.message}\r\n".encode()
            await client.write(text if asked.tty else frame(text))
            sock = None
        with sock or contextlib.nullcontext():
            # Who sees the end of the output asks for the exit code next, so that has to be known then.
            await client.join(sock, record.exited)
    return Hijacked()


async def resize(request: Request, engine: Engine) -> web.Response:
    rows, columns = request.size("h"), request.size("w")
    await engine.execs.resize(request.name, rows, columns)
    return response.empty(200)


async def kill(request: Request, engine: Engine) -> web.Response:
    """An extension of the API: Docker has no way to end an exec."""
    engine.execs.kill(request.name, request.text("signal"))
    return response.empty(204)


async def inspect(request: Request, engine: Engine) -> Any:
    return engine.execs.inspect(request.name)
