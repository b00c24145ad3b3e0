"""/networks"""

from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.api.versions import adapt_network, adapt_network_list
from wherry.common.errors import InvalidParameter
from wherry.common.values import parse_bool
from wherry.engine.engine import Engine
from wherry.model.network import EndpointSettings, NetworkCreate


class ConnectRequest(msgspec.Struct):
    container: str = msgspec.field(default="", name="Container")
    endpoint_config: EndpointSettings | None = msgspec.field(default=None, name="EndpointConfig")


class DisconnectRequest(msgspec.Struct):
    container: str = msgspec.field(default="", name="Container")
    force: bool = msgspec.field(default=False, name="Force")


async def list_all(request: Request, engine: Engine) -> Any:
    return adapt_network_list(request.version, engine.networks.list(request.filters()))


async def create(request: Request, engine: Engine) -> web.Response:
    return response.json(engine.networks.create(await request.json(NetworkCreate)), 201)


async def inspect(request: Request, engine: Engine) -> Any:
    if verbose := request.text("verbose"):
        try:
            parse_bool(verbose)
        except ValueError as error:
            raise InvalidParameter(f"invalid value for verbose: {verbose}: {error}") from None
    found = engine.networks.inspect(request.name, scope=request.text("scope"))
    return adapt_network(request.version, found)


async def remove(request: Request, engine: Engine) -> None:
    engine.networks.remove(request.name)


async def connect(request: Request, engine: Engine) -> web.Response:
    asked = await request.json(ConnectRequest)
    await engine.endpoints.connect(request.name, asked.container, asked.endpoint_config)
    return response.empty(200)


async def disconnect(request: Request, engine: Engine) -> web.Response:
    asked = await request.json(DisconnectRequest)
    await engine.endpoints.disconnect(request.name, asked.container, force=asked.force)
    return response.empty(200)


async def prune(request: Request, engine: Engine) -> Any:
    return engine.networks.prune(request.filters())
