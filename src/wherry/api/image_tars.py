"""Images as tars, in and out: load, save, import; and pull, which shares its path with import"""

from aiohttp import web

from wherry.api import platforms, response
from wherry.api.registry import credentials
from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.model.errors import InvalidParameter


async def load(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /images/load: docker-py knows an archive that is refused by the error in the stream, not by a status."""
    progress = engine.images.load(
        request.body(), quiet=request.flag("quiet", default=True), platform=platforms.asked(request, since=(1, 48))
    )
    return await response.json_stream(request, progress, fails_in_stream=True)


async def save(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /images/get and /images/{name}/get"""
    names = [request.name] if request.name else request.texts("names")
    return await response.stream(
        request, engine.images.save(names, platforms.asked(request, since=(1, 48))), response.TAR
    )


async def create(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /images/create: ``fromImage`` pulls, ``fromSrc`` imports ("-" is the body)."""
    platform = request.text("platform") if request.version >= (1, 32) else ""
    tag = request.text("tag")
    if image := request.text("fromImage"):
        progress = engine.images.pull(image, tag, platform, credentials(request))
    else:
        source = request.text("fromSrc")
        if not source:
            raise InvalidParameter("nothing to make an image of: either fromImage or fromSrc must be given")
        progress = engine.images.import_(
            request.body() if source == "-" else source,
            repo=request.text("repo"),
            tag=tag,
            message=request.text("message") or f"Imported from {source}",
            changes=request.texts("changes"),
            platform=platform,
        )
    return await response.json_stream(request, progress)
