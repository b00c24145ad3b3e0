"""/containers/{name}/archive: a container's files as tars, out and in"""

import base64
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.engine import clock
from wherry.engine.engine import Engine
from wherry.storage.files import PathStat

_STAT = "X-Docker-Container-Path-Stat"


async def stat(request: Request, engine: Engine) -> web.Response:
    """HEAD: what there is at the path, in a header."""
    found = await engine.archives.stat(request.name, request.text("path"))
    return web.Response(headers=response.HEADERS | _headers(found))


async def get(request: Request, engine: Engine) -> web.StreamResponse:
    """GET: the same header, and a tar."""
    async with engine.archives.get(request.name, request.text("path")) as (found, chunks):
        return await response.stream(request, chunks, response.TAR, headers=_headers(found))


async def put(request: Request, engine: Engine) -> web.Response:
    """PUT: unpacks the body below the path."""
    await engine.archives.put(
        request.name,
        request.text("path"),
        request.body(),
        keep_kinds=request.flag("noOverwriteDirNonDir"),
        as_user=request.flag("copyUIDGID"),
    )
    return response.empty(200)


def _headers(found: PathStat) -> dict[str, str]:
    text: dict[str, Any] = msgspec.to_builtins(found) | {"mtime": clock.rfc3339(found.mtime)}
    return {_STAT: base64.b64encode(msgspec.json.encode(text)).decode()}
