"""/auth, /distribution, /images/search and /images/{name}/push: what goes to registries"""

from typing import Any

from aiohttp import web

from wherry.api import platforms, response
from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.registry.credentials import Credentials, from_header


def credentials(request: Request) -> Credentials:
    """The log-in that came along."""
    return from_header(request.http.headers.get("X-Registry-Auth", ""))


async def log_in(request: Request, engine: Engine) -> Any:
    """POST /auth"""
    return await engine.registry.log_in(await request.json(Credentials))


async def search(request: Request, engine: Engine) -> Any:
    """GET /images/search"""
    return await engine.registry.search(
        request.text("term"), request.integer("limit"), request.filters(), credentials(request)
    )


async def distribution(request: Request, engine: Engine) -> Any:
    """GET /distribution/{name}/json"""
    return await engine.registry.distribution(request.name, credentials(request))


async def manifest(request: Request, engine: Engine) -> Any:
    """GET /distribution/{name}/manifest: wherry's own, for ``manifest inspect``"""
    return await engine.registry.manifest(request.name, credentials(request), insecure=request.flag("insecure"))


async def push(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /images/{name}/push"""
    platform = platforms.asked(request, since=(1, 46))
    progress = engine.pushes.push(request.name, request.text("tag"), platform, credentials(request))
    return await response.json_stream(request, progress)
