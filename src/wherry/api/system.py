"""/_ping, /version, /info, /plugins"""

from typing import Any, NoReturn

from aiohttp import web

from wherry.api import grpc, headers
from wherry.api.request import Request
from wherry.api.versions import adapt_disk_usage, adapt_image_list, adapt_info
from wherry.common.errors import InvalidParameter, NotFound, NotSupported, Unavailable
from wherry.engine.engine import Engine
from wherry.engine.network.options import NOT_A_MANAGER
from wherry.engine.prune import KINDS


async def ping(request: Request, engine: Engine) -> web.Response:
    return web.Response(body=b"" if request.http.method == "HEAD" else b"OK", headers=headers.of_ping(engine.config))


async def version(request: Request, engine: Engine) -> Any:
    return engine.system.version()


async def info(request: Request, engine: Engine) -> Any:
    found = adapt_info(request.version, engine.system.info())
    return found | engine.system.bridge_filters() if request.version < (1, 50) else found


async def plugins(request: Request, engine: Engine) -> Any:
    return []


# /containers/prune, /images/prune, /build/prune and /system/df: what is on the disk, and what of it nobody needs


async def build_cache(request: Request, engine: Engine) -> Any:
    """keep-storage is reserved-space as it was called before API 1.48."""
    try:
        for name in ("keep-storage", "max-used-space", "reserved-space", "min-free-space"):
            request.integer(name)
    except InvalidParameter as error:
        text = f"{name} is in bytes and expects an integer, got {request.text(name)}"
        raise InvalidParameter(f"{text}: {error.message}") from None
    filters = request.filters()
    try:
        pruned = engine.builder.cache.prune(
            everything=request.flag("all"),
            filters=filters,
            reserved=request.integer("reserved-space") or request.integer("keep-storage") or 0,
            max_used=request.integer("max-used-space") or 0,
            min_free=request.integer("min-free-space") or 0,
        )
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to prune build cache: {error.message}") from None
    pruned["SpaceReclaimed"] += await grpc.service(engine).sources.prune()
    engine.events.publish("builder", "prune", "", {"reclaimed": str(pruned["SpaceReclaimed"])})
    return pruned


async def disk_usage(request: Request, engine: Engine) -> Any:
    kinds = request.texts("type") if request.version >= (1, 42) else ()
    found = await engine.disk_usage.measure(kinds or KINDS)
    for image in found.get("Images", ()):
        containers = image["Containers"]  # known here, though an older list says -1
        adapt_image_list(request.version, [image])
        image["Containers"] = containers
    return adapt_disk_usage(request.version, found, verbose=request.flag("verbose"))


# What this engine does not have, answered as an engine without it does: swarm mode, managed plug-ins, BuildKit.


async def not_a_manager(request: Request, engine: Engine) -> NoReturn:
    raise Unavailable(NOT_A_MANAGER)


async def not_in_a_swarm(request: Request, engine: Engine) -> NoReturn:
    raise Unavailable("This node is not part of a swarm")


async def no_swarm(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry has no swarm mode")


async def no_such_plugin(request: Request, engine: Engine) -> NoReturn:
    raise NotFound(f'plugin "{request.name}" not found')


async def no_plugins(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry does not manage plugins: a volume plugin that runs is used by the name of its socket")


async def no_checkpoints(request: Request, engine: Engine) -> NoReturn:
    raise NotSupported("wherry does not make checkpoints of containers")
