"""Swarm mode, which this engine does not have, answered as an engine does that is in no swarm."""

from aiohttp import web

from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.model.errors import NotSupported, Unavailable


async def not_a_manager(request: Request, engine: Engine) -> web.Response:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )


async def not_in_a_swarm(request: Request, engine: Engine) -> web.Response:
    raise Unavailable("This node is not part of a swarm")


async def no_swarm(request: Request, engine: Engine) -> web.Response:
    raise NotSupported("wherry has no swarm mode")
