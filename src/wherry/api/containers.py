"""/containers: create, list, inspect, and what changes a container's state"""

from typing import Any

from aiohttp import web

from wherry.api import response
from wherry.api.decode import fit, take
from wherry.api.request import Request
from wherry.api.versions import adapt_container, adapt_container_list, adapt_create
from wherry.engine.engine import Engine
from wherry.engine.update import Update
from wherry.model.config import ContainerConfig
from wherry.model.errors import InvalidParameter, NotSupported
from wherry.model.host import HostConfig
from wherry.model.network import NetworkingConfig


async def create(request: Request, engine: Engine) -> web.Response:
    body = await request.json_object()
    if not body:
        raise InvalidParameter("config cannot be empty in order to create a container")
    host = fit(take(body, "HostConfig"), HostConfig, "HostConfig")
    networking = fit(take(body, "NetworkingConfig"), NetworkingConfig, "NetworkingConfig")
    if not host.runtime and isinstance(runtime := body.get("Runtime"), str):
        host.runtime = runtime  # which is where docker-py puts it
    config = fit(body, ContainerConfig)
    adapt_create(request.version, config, host, networking)
    container_id, warnings = await engine.containers.create(
        config, host, networking, request.text("name") or None, request.text("platform") or None
    )
    return response.json({"Id": container_id, "Warnings": warnings}, 201)


async def list_all(request: Request, engine: Engine) -> Any:
    found = engine.views.list_all(
        show_all=request.flag("all"),
        limit=request.integer("limit"),
        size=request.flag("size"),
        filters=request.filters(),
    )
    return adapt_container_list(request.version, found)


async def inspect(request: Request, engine: Engine) -> Any:
    found = engine.views.inspect(request.name, size=request.flag("size"))
    return adapt_container(request.version, found)


async def start(request: Request, engine: Engine) -> None:
    length = request.http.content_length
    if request.http.body_exists and (length is None or length > 7):
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if request.text("checkpoint"):
        raise NotSupported("wherry does not restore checkpoints")
    await engine.containers.start(request.name)


async def stop(request: Request, engine: Engine) -> None:
    await engine.containers.stop(request.name, request.integer("t"), _signal(request))


async def restart(request: Request, engine: Engine) -> None:
    await engine.containers.restart(request.name, request.integer("t"), _signal(request))


def _signal(request: Request) -> str | None:
    """Since API 1.42; what older clients say there has never been heard."""
    return (request.text("signal") or None) if request.version >= (1, 42) else None


async def kill(request: Request, engine: Engine) -> None:
    await engine.containers.kill(request.name, request.text("signal") or "SIGKILL")


async def rename(request: Request, engine: Engine) -> None:
    engine.containers.rename(request.name, request.text("name"))


async def update(request: Request, engine: Engine) -> Any:
    return {"Warnings": await engine.updates.update(request.name, await request.json(Update))}


async def resize(request: Request, engine: Engine) -> web.Response:
    rows, columns = request.size("h", "resize height"), request.size("w", "resize width")
    await engine.containers.resize(request.name, rows, columns)
    return response.empty(200)


async def remove(request: Request, engine: Engine) -> None:
    if request.flag("link"):
        engine.connections.unlink(request.name)
        return
    await engine.containers.remove(request.name, force=request.flag("force"), volumes=request.flag("v"))


async def changes(request: Request, engine: Engine) -> web.Response:
    return response.json(engine.views.changes(request.name))  # null where nothing has changed, as Docker has it


async def export(request: Request, engine: Engine) -> web.StreamResponse:
    return await response.stream(request, engine.views.export(request.name), "application/octet-stream")
