"""What this engine does not have, answered as an engine without it does: swarm mode, managed plug-ins, BuildKit."""

from typing import NoReturn

from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.model.errors import NotFound, NotSupported, Unavailable


async def not_a_manager(request: Request, engine: Engine) -> NoReturn:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
        "swarm and try again."
    )


async def not_in_a_swarm(request: Request, engine: Engine) -> NoReturn:
    raise Unavailable("This node is not part of a swarm")


async def no_swarm(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry has no swarm mode")


async def no_such_plugin(request: Request, engine: Engine) -> NoReturn:
    raise NotFound(f'plugin "{request.name}" not found')


async def no_plugins(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry does not manage plugins: a volume plugin that runs is used by the name of its socket")


async def no_buildkit(request: Request, engine: Engine) -> NoReturn:
    """/session and /grpc, where BuildKit's clients begin, and /build for them."""
    raise NotSupported("BuildKit's protocol is not supported: build with DOCKER_BUILDKIT=0, or with wherry build")


async def no_checkpoints(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry does not make checkpoints of containers")
