"""GET /events"""

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


async def events(request: Request, engine: Engine) -> web.StreamResponse:
    since, until = request.moment("since"), request.moment("until")
    if since is not None and until is not None and until < since:
        raise InvalidParameter(
            f"`since` time ({request.text('since')}) cannot be after `until` time ({request.text('until')})"
        )
    found = engine.events.subscribe(request.filters(), since, until)
    return await response.stream(request, _lines(found, request.version), response.JSON, at_once=True)


async def _lines(found: AsyncIterator[dict[str, Any]], version: Version) -> AsyncIterator[bytes]:
    async for event in found:
        if version < (1, 46) and event["Type"] == "image" and event["Action"] == "create":
            continue  # told since API 1.46
        yield _encode(event) + b"\n"
