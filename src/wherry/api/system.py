"""/_ping, /version, /info, /plugins"""

from typing import Any

from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.api.versions import adapt_info
from wherry.engine.engine import Engine

_PING = response.HEADERS | {
    "Builder-Version": "1",  # the classic builder, without BuildKit's session
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
    "Content-Type": "text/plain; charset=utf-8",
}


async def ping(request: Request, engine: Engine) -> web.Response:
    return web.Response(body=b"" if request.http.method == "HEAD" else b"OK", headers=_PING)


async def version(request: Request, engine: Engine) -> Any:
    return engine.system.version()


async def info(request: Request, engine: Engine) -> Any:
    return adapt_info(request.version, engine.system.info())


async def plugins(request: Request, engine: Engine) -> Any:
    return []
