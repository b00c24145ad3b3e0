"""/events, and /containers/{name}/ logs, stats and wait: what goes on while a client listens"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.api.versions import Version
from wherry.engine.engine import Engine
from wherry.model.errors import InvalidParameter

_encode = msgspec.json.Encoder().encode

# These put frames together again, and are spared one for each line. Others take a frame for a line, as Docker's are:
# docker-py's ``for line in container.logs(stream=True)``.
_JOINING_FRAMES = ("Docker-Client/", "wherry")


async def events(request: Request, engine: Engine) -> web.StreamResponse:
    since, until = request.moment("since"), request.moment("until")
    if since is not None and until is not None and until < since:
        raise InvalidParameter(
            f"`since` time ({request.text('since')}) cannot be after `until` time ({request.text('until')})"
        )
    found = engine.events.subscribe(request.filters(), since, until)
    return await response.stream(request, _told(found, request.version), response.JSON, at_once=True)


async def _told(found: AsyncIterator[dict[str, Any]], version: Version) -> AsyncIterator[bytes]:
    async for event in found:
        if version < (1, 46) and event["Type"] == "image" and event["Action"] == "create":
            continue  # told since API 1.46
        yield _encode(event) + b"\n"


async def logs(request: Request, engine: Engine) -> web.StreamResponse:
    stdout, stderr = request.flag("stdout"), request.flag("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tty = engine.containers.get(request.name).config.tty
    chunks = engine.views.logs(
        request.name,
        stdout=stdout,
        stderr=stderr,
        follow=request.flag("follow"),
        since=request.moment("since"),
        until=request.moment("until") or None,
        tail=_tail(request.text("tail")),
        timestamps=request.flag("timestamps"),
        details=request.flag("details"),
        by_line=not request.http.headers.get("User-Agent", "").startswith(_JOINING_FRAMES),
    )
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
    waiter = engine.containers.waiter(request.name, condition)
    answer = await response.begin(request, response.JSON)
    code, failure = await waiter
    body = {"StatusCode": code} | ({"Error": {"Message": failure}} if failure else {})
    await answer.write(_encode(body) + b"\n")
    return answer
