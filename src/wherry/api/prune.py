"""/containers/prune, /images/prune, /build/prune and /system/df: what is on the disk, and what of it nobody needs"""

from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.engine.disk_usage import KINDS
from wherry.engine.engine import Engine


async def containers(request: Request, engine: Engine) -> web.Response:
    return response.json(await engine.prune.containers(request.filters()))


async def images(request: Request, engine: Engine) -> web.Response:
    return response.json(await engine.prune.images(request.filters()))


async def build_cache(request: Request, engine: Engine) -> web.Response:
    """There is none."""
    return response.json({"CachesDeleted": None, "SpaceReclaimed": 0})


async def disk_usage(request: Request, engine: Engine) -> web.Response:
    found = await engine.disk_usage.measure(request.texts("type") or KINDS)
    if request.version < (1, 44):
        for image in found.get("Images", ()):
            image["VirtualSize"] = image["Size"]
    if request.version < (1, 42):
        found["BuilderSize"] = 0
    return response.json(found)
