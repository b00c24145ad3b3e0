"""/images: list, inspect, history, tag, remove; /commit"""

from typing import Any

from aiohttp import web

from wherry.api import platforms, response
from wherry.api.decode import fit
from wherry.api.request import Request
from wherry.api.versions import Version, adapt_image, adapt_image_list
from wherry.engine.engine import Engine
from wherry.model.config import ContainerConfig
from wherry.model.errors import InvalidParameter

# Compose 1 asks by the newest API that there is, and ends without the ContainerConfig that went with API 1.45.
_OF_COMPOSE_1 = Version(1, 44)


async def list_all(request: Request, engine: Engine) -> Any:
    filters = request.filters()
    if request.version < (1, 25) and request.text("filter"):
        filters.setdefault("reference", [request.text("filter")])
    found = engine.images.list_all(
        show_all=request.flag("all"),
        filters=filters,
        digests=request.flag("digests"),
        shared_size=request.flag("shared-size"),
        manifests=request.flag("manifests") and request.version >= (1, 47),
    )
    return adapt_image_list(request.version, found)


async def inspect(request: Request, engine: Engine) -> Any:
    found = engine.images.inspect(
        request.name,
        platform=platforms.asked(request, since=(1, 49)),
        manifests=request.flag("manifests") and request.version >= (1, 48),
    )
    version = request.version
    if request.http.headers.get("User-Agent", "").startswith("docker-compose/1."):
        version = min(version, _OF_COMPOSE_1)
    return adapt_image(version, found)


async def history(request: Request, engine: Engine) -> Any:
    return engine.images.history(request.name, platforms.asked(request, since=(1, 48)))


async def tag(request: Request, engine: Engine) -> web.Response:
    engine.images.tag(request.name, request.text("repo"), request.text("tag"))
    return response.empty(201)


async def remove(request: Request, engine: Engine) -> Any:
    if not request.name.strip():
        raise InvalidParameter("image name cannot be blank")
    wanted = request.texts("platforms") if request.version >= (1, 50) else []
    return await engine.images.remove(
        request.name,
        force=request.flag("force"),
        prune=not request.flag("noprune"),
        platforms=[platforms.read(text) for text in wanted],
    )


async def commit(request: Request, engine: Engine) -> web.Response:
    """POST /commit"""
    body = await request.json_object()
    image_id = await engine.images.commit(
        request.text("container"),
        repo=request.text("repo"),
        tag=request.text("tag"),
        comment=request.text("comment"),
        author=request.text("author"),
        pause=request.flag("pause", default=True),
        changes=request.texts("changes"),
        config=fit(body, ContainerConfig) if body else None,
    )
    return response.json({"Id": image_id}, 201)
