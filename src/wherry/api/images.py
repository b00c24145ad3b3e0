"""/images: list, inspect, history, tag, remove; /commit"""

from typing import Any

from aiohttp import web

from wherry.api import response
from wherry.api.request import Request, asked_platform, asked_platforms, fit, read_platform
from wherry.api.versions import Version, adapt_image, adapt_image_list
from wherry.common.errors import InvalidParameter
from wherry.engine.engine import Engine
from wherry.engine.image.images import Commit
from wherry.model.container import ContainerConfig
from wherry.registry.auth import Credentials, from_header

# Compose 1 asks by the newest API that there is, and ends without the ContainerConfig that went with API 1.45.
_OF_COMPOSE_1 = Version(1, 44)


async def list_all(request: Request, engine: Engine) -> Any:
    filters = request.filters()
    if request.version < (1, 25) and request.text("filter"):
        filters.setdefault("reference", [request.text("filter")])
    identity = request.flag("identity") and request.version >= (1, 54)
    with_manifests = request.flag("manifests") and request.version >= (1, 47)
    if identity and not with_manifests:
        raise InvalidParameter("conflicting options: identity requires manifests=1")
    found = engine.images.list_all(
        show_all=request.flag("all"),
        filters=filters,
        digests=request.flag("digests"),
        shared_size=request.flag("shared-size"),
        manifests=with_manifests,
        identity=identity,
    )
    return adapt_image_list(request.version, found)


async def inspect(request: Request, engine: Engine) -> Any:
    found = engine.images.inspect(
        request.name,
        platform=asked_platform(request, since=(1, 49)),
        manifests=request.flag("manifests") and request.version >= (1, 48),
    )
    version = request.version
    if request.http.headers.get("User-Agent", "").startswith("docker-compose/1."):
        version = min(version, _OF_COMPOSE_1)
    return adapt_image(version, found)


async def history(request: Request, engine: Engine) -> Any:
    return engine.images.history(request.name, asked_platform(request, since=(1, 48)))


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
        platforms=[read_platform(text) for text in wanted],
    )


async def commit(request: Request, engine: Engine) -> web.Response:
    """POST /commit"""
    body = await request.json_object()
    asked = Commit(
        repo=request.text("repo"),
        tag=request.text("tag"),
        comment=request.text("comment"),
        author=request.text("author"),
        pause=request.flag("pause", default=True),
        changes=request.texts("changes"),
        config=fit(body, ContainerConfig) if body else None,
    )
    return response.json({"Id": await engine.images.commit(request.text("container"), asked)}, 201)


# /auth, /distribution, /images/search and /images/{name}/push: what goes to registries


def credentials(request: Request) -> Credentials:
    """The log-in that came along."""
    return from_header(request.http.headers.get("X-Registry-Auth", ""))


async def log_in(request: Request, engine: Engine) -> Any:
    """POST /auth"""
    return await engine.registry.log_in(await request.json(Credentials))


async def search(request: Request, engine: Engine) -> Any:
    """GET /images/search"""
    try:
        limit = request.integer("limit")
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid limit specified: {error.message}") from None
    return await engine.registry.search(request.text("term"), limit, request.filters(), credentials(request))


async def distribution(request: Request, engine: Engine) -> Any:
    """GET /distribution/{name}/json"""
    return await engine.registry.distribution(request.name, credentials(request))


async def manifest(request: Request, engine: Engine) -> Any:
    """GET /distribution/{name}/manifest: wherry's own, for ``manifest inspect``"""
    return await engine.registry.manifest(request.name, credentials(request), insecure=request.flag("insecure"))


async def push(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /images/{name}/push"""
    platform = asked_platform(request, since=(1, 46))
    progress = engine.pushes.push(request.name, request.text("tag"), platform, credentials(request))
    return await response.json_stream(request, progress)


# Images as tars, in and out: load, save, import; and pull, which shares its path with import


async def load(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /images/load: docker-py knows an archive that is refused by the error in the stream, not by a status."""
    progress = engine.images.load(
        request.body(), quiet=request.flag("quiet", default=True), wanted=asked_platforms(request)
    )
    return await response.json_stream(request, progress, fails_in_stream=True)


async def save(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /images/get and /images/{name}/get"""
    names = [request.name] if request.name else request.texts("names")
    return await response.stream(request, engine.images.save(names, asked_platforms(request)), response.TAR)


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
