"""/containers/prune, /images/prune, /build/prune and /system/df: what is on the disk, and what of it nobody needs"""

from typing import Any

from wherry.api.request import Request
from wherry.api.versions import adapt_image_list
from wherry.engine.disk_usage import KINDS
from wherry.engine.engine import Engine


async def build_cache(request: Request, engine: Engine) -> Any:
    """Its limit has had several names: reserved-space is today's, keep-storage that before API 1.48."""
    keep = request.integer("reserved-space") or request.integer("max-used-space") or request.integer("keep-storage")
    pruned = engine.builder.prune(
        everything=request.flag("all"),
        keep_bytes=keep or 0,
        filters=request.filters(),
        min_free=request.integer("min-free-space") or 0,
    )
    engine.events.publish("builder", "prune", "", {"reclaimed": str(pruned["SpaceReclaimed"])})
    return pruned


async def disk_usage(request: Request, engine: Engine) -> Any:
    kinds = request.texts("type") if request.version >= (1, 42) else ()
    found = await engine.disk_usage.measure(kinds or KINDS)
    for image in found.get("Images", ()):
        containers = image["Containers"]  # known here, though an older list says -1
        adapt_image_list(request.version, [image])
        image["Containers"] = containers
    if request.version < (1, 42):
        found["BuilderSize"] = sum(record["Size"] for record in found.get("BuildCache", ()))
    return found
