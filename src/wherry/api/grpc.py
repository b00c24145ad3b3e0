"""POST /grpc and POST /session: connections that BuildKit's clients turn into HTTP/2."""

import asyncio
from typing import cast
from weakref import WeakKeyDictionary

from aiohttp import web

from wherry.api.connection import Connection
from wherry.api.hijack import Hijacked
from wherry.api.request import Request
from wherry.common.errors import InvalidParameter
from wherry.engine.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.buildkit.http2 import Connection as Http2Connection
    from wherry.buildkit.service import BuildKit

_services: "WeakKeyDictionary[Engine, BuildKit]" = WeakKeyDictionary()


def service(engine: Engine) -> "BuildKit":
    """The engine's one. It is imported when the first client asks: 15 MB that few engines need."""
    if engine not in _services:
        from wherry.buildkit.service import BuildKit

        _services[engine] = BuildKit(engine)
    return _services[engine]


async def grpc(request: Request, engine: Engine) -> web.StreamResponse:
    """The client asks: see ``buildkit.control``."""
    _check_upgrade(request)
    return await _take_over(request, service(engine).server().connection())


async def session(request: Request, engine: Engine) -> web.StreamResponse:
    """The engine asks: see ``buildkit.session``."""
    _check_upgrade(request)
    headers = request.http.headers
    opened = service(engine).open_session(
        headers.get("X-Docker-Expose-Session-Uuid", ""),
        headers.get("X-Docker-Expose-Session-Sharedkey", ""),
        headers.getall("X-Docker-Expose-Session-Grpc-Method", []),
    )
    return await _take_over(request, opened.connection)


def _check_upgrade(request: Request) -> None:
    if request.http.headers.get("Upgrade", "").lower() != "h2c":
        raise InvalidParameter("this is for BuildKit's clients: expected an upgrade to h2c")


async def _take_over(request: Request, protocol: "Http2Connection") -> web.StreamResponse:
    """Answers 101, and lets ``protocol`` have the connection until it ends."""
    transport = request.http.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    http = cast(Connection, transport.get_protocol())
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if http.held:
        protocol.data_received(http.held)
    if http.held_end:
        transport.close()
    transport.resume_reading()
    try:
        await asyncio.shield(protocol.closed)
    finally:
        transport.close()
        http.connection_lost(None)  # the server still counts it among its connections
    return Hijacked()
