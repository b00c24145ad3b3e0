"""/volumes"""

from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.common.errors import InvalidParameter, NotSupported, Unavailable
from wherry.engine.engine import Engine


class CreateRequest(msgspec.Struct, rename="pascal"):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


async def list_all(request: Request, engine: Engine) -> Any:
    try:
        filters = request.filters()
    except InvalidParameter as error:
        raise InvalidParameter(f"error reading volume filters: {error.message}") from None
    volumes, warnings = await engine.volumes.list_all(filters)
    return {"Volumes": volumes, "Warnings": warnings or None}


async def create(request: Request, engine: Engine) -> web.Response:
    asked = await request.json(CreateRequest)
    if asked.cluster_volume_spec is not None:
        raise NotSupported("wherry has no swarm mode, and so no cluster volumes")
    volume = await engine.volumes.create(
        asked.name, driver=asked.driver, options=asked.driver_opts, labels=asked.labels
    )
    return response.json(volume, 201)


async def update(request: Request, engine: Engine) -> web.Response:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def remove(request: Request, engine: Engine) -> None:
    await engine.volumes.remove(request.name, force=request.flag("force"))


async def export(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /volumes/{name}/export, which only wherry has: a tar of the volume's content."""
    return await response.stream(request, engine.archives.export_volume(request.name), response.TAR)


async def import_(request: Request, engine: Engine) -> web.Response:
    """POST /volumes/{name}/import, which only wherry has: unpacks the body into the volume."""
    await engine.archives.import_volume(request.name, request.body())
    return response.empty(200)


async def prune(request: Request, engine: Engine) -> Any:
    filters = request.filters()
    if request.version < (1, 42):
        filters["all"] = ["true"]  # until then, volumes with a name were pruned too
    return await engine.volumes.prune(filters)
