"""What a build leaves for other machines: ``--cache-to`` a registry or a directory of the client's."""

from typing import Any, NamedTuple

import msgspec

from wherry.buildkit.build import Build, Solved
from wherry.buildkit.content import ContentStore
from wherry.common import reference
from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.engine.engine import Engine
from wherry.engine.image.bundle import Bundle, flag, read_format
from wherry.registry.auth import NOBODY


class CacheExport(NamedTuple):
    type: str
    attributes: dict[str, str]


def read(request: Any) -> list[CacheExport]:
    """Those that a Solve asks for. Raises NotSupported, InvalidParameter: before anything is built."""
    found = [CacheExport(each.type, dict(each.attrs)) for each in request.cache.exports]
    for each in found:
        if each.type not in ("inline", "registry", "local"):
            raise NotSupported(f"cache export of type {each.type} is not supported: expected inline, registry or local")
        if each.attributes.get("mode", "min") not in ("min", "max"):
            raise InvalidParameter(f"invalid mode {each.attributes['mode']} of the cache: expected min or max")
        needed = {"registry": "ref", "local": "dest"}.get(each.type, "")
        if needed and not each.attributes.get(needed):
            raise InvalidParameter(f"{each.type} cache exporter requires {needed}")
        if needed == "ref":
            reference.parse_to_tag(each.attributes["ref"])
        for name in ("image-manifest", "ignore-error"):
            flag(each.attributes, name)
        read_format(each.attributes)
    return found


async def export(engine: Engine, build: Build, solved: Solved, exports: list[CacheExport]) -> dict[str, str]:
    """What the client is told of it. Raises EngineError."""
    response: dict[str, str] = {}
    for each in exports:
        if each.type == "inline" or not solved.results:
            continue
        try:
            response |= await _export(engine, build, solved, each)
        except EngineError:
            if not flag(each.attributes, "ignore-error"):
                raise
    return response


async def _export(engine: Engine, build: Build, solved: Solved, each: CacheExport) -> dict[str, str]:
    records = list(build.records.values())
    if each.attributes.get("mode", "min") == "min":
        records = engine.builder.cache.of_results(records, [result.image for result in solved.results.values()])
    form, as_image = read_format(each.attributes), flag(each.attributes, "image-manifest", default=True)
    with build.step(f"exporting cache to {'registry' if each.type == 'registry' else 'client directory'}") as vertex:
        vertex.status("preparing build cache for export", 0, 0, done=True)
        async with engine.caches.bundle(records, form, image_manifest=as_image) as made:
            if each.type == "registry":
                await _push(engine, build, made, each.attributes["ref"], flag(each.attributes, "registry.insecure"))
            else:
                await _write(build, made, each.attributes["dest"])
            vertex.status(f"writing cache manifest {made.root.digest}", 0, 0, done=True)
    return {"cache.manifest": msgspec.json.encode(made.root).decode()}


async def _push(engine: Engine, build: Build, made: Bundle, ref: str, insecure: bool) -> None:
    name = reference.parse_to_tag(ref)
    credentials = await build.session.credentials(name.domain) if build.session else NOBODY
    async for _ in engine.exports.push(made, name, credentials, by_digest=False, insecure=insecure):
        pass


async def _write(build: Build, made: Bundle, directory: str) -> None:
    if build.session is None:
        raise InvalidParameter("there is no session to send the cache to")
    store = ContentStore(build.session, f"local:{directory}")
    for digest, layer in made.layers.items():
        await store.write(digest, layer.path)
    for digest, document in made.documents.items():
        await store.write(digest, document)
