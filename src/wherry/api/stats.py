"""GET /containers/{name}/stats"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.engine.engine import Engine

_encode = msgspec.json.Encoder().encode


async def stats(request: Request, engine: Engine) -> web.StreamResponse:
    """One sample after another, or a single one with ``stream=0``."""
    stream = request.flag("stream", default=True)
    one_shot = request.version >= (1, 41) and request.flag("one-shot")
    samples = engine.views.stats(request.name, stream=stream, one_shot=one_shot)
    return await response.stream(request, _lines(samples), response.JSON)


async def _lines(samples: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for sample in samples:
        yield _encode(sample) + b"\n"
