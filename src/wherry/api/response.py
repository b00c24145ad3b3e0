"""Answers: JSON, nothing, an error, or a stream."""

import asyncio
import errno
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web

from wherry.api.headers import HEADERS
from wherry.api.request import Request
from wherry.common.errors import EngineError

# What users are told of errors that are not the engine's own.

log = logging.getLogger(__name__)


def as_response(failure: Exception) -> str:
    """The message for an error; what is a mistake of ours is seen in the log."""
    if isinstance(failure, EngineError):
        return failure.message
    if _is_full(failure):
        return "no space left on device"
    log.error("this should not have happened", exc_info=failure)
    return f"internal error: {type(failure).__name__}: {failure}"


def _is_full(failure: Exception) -> bool:
    if isinstance(failure, sqlite3.Error):
        return getattr(failure, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)


RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
TAR = "application/x-tar"
JSON = "application/json"
_JSON_HEADERS = HEADERS | {"Content-Type": JSON}
_PLAIN_HEADERS = HEADERS | {"Content-Type": "text/plain; charset=utf-8"}
_encode = msgspec.json.Encoder().encode


def json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value) + b"\n", status=status, headers=_JSON_HEADERS)


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status, headers=HEADERS)


def plain(text: str, status: int = 200) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers=_PLAIN_HEADERS)


def error(message: str, status: int) -> web.Response:
    """``status`` 304 says that things are as asked already, without a body."""
    return empty(304) if status == 304 else json({"message": message}, status)


def stream_type(request: Request, tty: bool) -> str:
    """The content type of a container's output: framed, which is said since API 1.42, or a terminal's."""
    return RAW_STREAM if tty or request.version < (1, 42) else MULTIPLEXED_STREAM


async def begin(
    request: Request, content_type: str, headers: Mapping[str, str] = MappingProxyType({})
) -> web.StreamResponse:
    """Sends the head of a streamed answer at once."""
    response = web.StreamResponse(headers=HEADERS | {"Content-Type": content_type, **headers})
    await response.prepare(request.http)
    return response


async def stream(
    request: Request,
    chunks: AsyncIterator[bytes],
    content_type: str,
    *,
    at_once: bool = False,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> web.StreamResponse:
    """Sends what comes, as it comes, and no faster than the client reads.

    The head goes out with the first chunk, so that what fails before it is answered with its own status. ``at_once``
    is for those who may be silent for long: the head goes out as soon as the source waits for something.
    """
    following = asyncio.ensure_future(_next(chunks))
    try:
        if at_once:
            await asyncio.sleep(0)
        else:
            await asyncio.wait((following,))
        if following.done():
            following.result()
        response = await begin(request, content_type, headers)
        chunk = await following
        while chunk is not None:
            try:
                await response.write(chunk)
            except ConnectionError:
                break  # the client has gone, and needs no more
            chunk = await _next(chunks)
        return response
    finally:
        if not following.done():
            following.cancel()
            await asyncio.wait((following,))
        await _close(chunks)


async def json_stream(
    request: Request, items: AsyncIterator[Any], *, fails_in_stream: bool = False
) -> web.StreamResponse:
    """Progress: one JSON object a line. What fails after the first becomes the last line, as the status is gone;
    ``fails_in_stream``: also what fails before it."""
    return await stream(request, _json_lines(items, begun=fails_in_stream), JSON)


async def _json_lines(items: AsyncIterator[Any], *, begun: bool) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield _encode(item) + b"\r\n"
            begun = True
    except Exception as failure:
        if not begun or isinstance(failure, ConnectionError):  # of a client that has gone
            raise
        message = as_response(failure)
        yield _encode({"errorDetail": {"message": message}, "error": message}) + b"\r\n"
    finally:
        await _close(items)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _close(source: AsyncIterator[Any]) -> None:
    """Ends a generator now rather than when it is collected: it may hold descriptors, or listen."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
