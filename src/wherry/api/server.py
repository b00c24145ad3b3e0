"""The HTTP server: takes requests apart, finds their handler, and turns what goes wrong into Docker's answers."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from wherry.api import grpc, response
from wherry.api.authorization import Authorization, Inquiry, check
from wherry.api.connection import Connection, HttpServer
from wherry.api.request import Request
from wherry.api.response import as_response
from wherry.api.routes import Match, find
from wherry.api.versions import CURRENT, parse_version
from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.engine import Engine

if TYPE_CHECKING:
    from wherry.buildkit.http2 import Connection as Http2Connection

log = logging.getLogger("wherry.api")

Observe = Callable[[Match, float], None]

_VERSIONED = re.compile(r"/v([0-9.]+)(/.*)", re.DOTALL)
_FINISH = 10.0  # seconds that requests under way get when the engine stops
_FAREWELL = 0.05  # and those that only wait for something; 0 would be forever


class Server:
    """Serves an engine. ``server.protocol`` is what a listening socket makes for each connection.

    >>> server = Server(engine)
    >>> await loop.create_unix_server(server.protocol, sock=sock)
    """

    def __init__(self, engine: Engine, observe: Observe | None = None) -> None:
        """``observe`` is told of each request how long it took."""
        self._engine = engine
        self._observe = observe
        self._authorization = Authorization()
        self._underway: set[asyncio.Task[Any]] = set()
        self.protocol = HttpServer(self._handle, self._http2)

    async def close(self) -> None:
        """Lets what changes state come to its end, unless it has not begun yet, then ends every connection."""
        self._engine.starts.close()
        if self._underway:
            await asyncio.wait(self._underway, timeout=_FINISH)
        await self.protocol.shutdown(_FAREWELL)

    def _http2(self) -> "Http2Connection | None":
        """None where plug-ins are to be asked of every request: in there they would not be."""
        if self._engine.config.authorization_plugins:
            return None
        return grpc.service(self._engine).server().connection()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        began = time.monotonic()
        inquiry: Inquiry | None = None
        try:
            inquiry = self._authorization.inquiry(self._engine.config.authorization_plugins, http)
            answer = await self._answer(http, inquiry)
        except EngineError as failure:
            answer = _failed(http, failure.message, failure.status)
        except web.HTTPException:
            raise
        except Exception as failure:  # a mistake of ours must not take the daemon with it, and must be seen
            if isinstance(failure, ConnectionError) and (http.transport is None or http.transport.is_closing()):
                raise  # the client has gone
            answer = _failed(http, as_response(failure), 500)
        if inquiry is not None and inquiry.allowed:
            answer = await _allowed(inquiry, http, answer)
        if self._engine.config.experimental and not answer.prepared:
            answer.headers["Docker-Experimental"] = "true"
        if isinstance(http.protocol, Connection):
            http.protocol.request_ended(http, answer)
        log.debug("%s %s: %s, %.1f ms", http.method, http.path_qs, answer.status, (time.monotonic() - began) * 1000)
        return answer

    async def _answer(self, http: web.BaseRequest, inquiry: Inquiry | None) -> web.StreamResponse:
        check(http, self._engine.config.hosts)
        _check_address(http)
        path, version = http.path, CURRENT
        if "//" in path:
            return _moved(http)
        versioned = _VERSIONED.fullmatch(path)
        match = find(http.method, versioned[2] if versioned else path)
        if match is None:
            return response.error("page not found", 404) if http.method != "OPTIONS" else response.empty(200)
        if versioned:
            version = parse_version(versioned[1], match.oldest)
        if http.headers.get("Expect", "").lower() == "100-continue" and http.transport is not None:
            http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await inquiry.ask() if inquiry is not None else None
        began = time.monotonic()
        found = await self._run(match, Request(http, version, match.name, body))
        if self._observe is not None:
            self._observe(match, time.monotonic() - began)
        if isinstance(found, web.StreamResponse):
            return found
        return response.empty() if found is None else response.json(found)

    async def _run(self, match: Match, request: Request) -> Any:
        if not match.carried_through:
            return await match.handler(request, self._engine)
        task = asyncio.ensure_future(match.handler(request, self._engine))
        self._underway.add(task)
        task.add_done_callback(self._underway.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_end_without_client)
            self._engine.starts.give_up(task)
            raise
        finally:
            # Its exception knows this frame, and would keep the request's body with it until the collector comes by.
            del task


def _end_without_client(task: "asyncio.Future[Any]") -> None:
    """Nobody is left to be told that it failed; a mistake of ours is to be seen all the same."""
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, Exception) and not isinstance(failure, ConnectionError | web.HTTPException):
        as_response(failure)


async def _allowed(inquiry: Inquiry, http: web.BaseRequest, answer: web.StreamResponse) -> web.StreamResponse:
    """The answer, or that it may not be had. A stream has been had by then."""
    try:
        await inquiry.ask_of_answer(answer)
    except EngineError as failure:
        if isinstance(answer, web.Response):
            return _failed(http, failure.message, failure.status)
        log.error("%s %s: %s", http.method, http.path, failure.message)
    return answer


def _check_address(http: web.BaseRequest) -> None:
    """Raises InvalidParameter for what no name and no path can be: see ``body.parse``."""
    address = http.raw_path
    if "%00" in address:
        raise InvalidParameter("invalid address: it has a null byte in it")
    try:
        address.encode()
    except UnicodeEncodeError:
        raise InvalidParameter("invalid address: it is no UTF-8; write such bytes as %XX") from None


def _moved(http: web.BaseRequest) -> web.Response:
    """Redirects to the path without empty parts, which clients get by an address that ends with a slash."""
    path, query, rest = http.raw_path.partition("?")
    answer = response.empty(301)
    answer.headers["Location"] = re.sub("/+", "/", path) + query + rest
    return answer


def _failed(http: web.BaseRequest, message: str, status: int) -> web.StreamResponse:
    """The answer to a request that failed; a stream that has begun can only be cut off."""
    if http.writer.output_size > 0:
        log.error("%s %s failed in its middle: %s", http.method, http.path, message)
        raise ConnectionResetError(message)
    if status == 500:
        log.error("%s %s: %s", http.method, http.path, message)
    return response.error(message, status)
