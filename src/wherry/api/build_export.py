"""POST /build/export, for wherry's own client: what was built goes to where its command line says."""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.common import reference
from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.common.reference import Reference
from wherry.engine.builder import provenance
from wherry.engine.builder.builder import Finished
from wherry.engine.engine import Engine
from wherry.engine.image import bundle
from wherry.engine.image.bundle import Bundle, Format, Result, flag, read_format
from wherry.model.image import Descriptor
from wherry.registry.auth import NOBODY, Credentials, from_config_header

_EXPORTED = "X-Wherry-Exported"  # base64 of JSON: what --metadata-file is to say


class _Wanted(msgspec.Struct):
    """``token`` is what the build's last event has said. ``attest`` are BuildKit's options ("attest:sbom")."""

    token: str
    type: str
    attributes: dict[str, str] = {}
    names: list[str] = []
    attest: dict[str, str] = {}


async def export(request: Request, engine: Engine) -> web.StreamResponse:
    """An archive for what is one, else lines of JSON: of the push, and at last what ``--metadata-file`` is to say."""
    wanted = await request.json(_Wanted)
    finished = engine.builder.finished(wanted.token)
    credentials = from_config_header(request.http.headers.get("X-Registry-Config", ""))
    names = [reference.parse_to_tag(name) for name in wanted.names]
    if wanted.type == "cache":
        return await _export_cache(request, engine, wanted, finished, credentials)
    provenance.check(wanted.attest)
    results = await engine.builder.attest(finished, wanted.attest, wanted.token, wanted.names)
    form = read_format(wanted.attributes)
    if wanted.type in ("oci", "docker"):
        if wanted.type == "docker" and (len(results) > 1 or results[0].attestations):
            raise NotSupported("an archive of Docker's has one image and nothing attested of it: use type=oci")
        async with engine.exports.bundle(results, form, names) as made:
            pieces = engine.exports.archive(made, names, docker=wanted.type == "docker")
            headers = {_EXPORTED: _encoded(_described(engine, made.root, results, names))}
            return await response.stream(request, pieces, response.TAR, headers=headers)
    if wanted.type == "tar":
        by_platform = zip(finished.images, results, strict=True)
        folders = {each[0].replace("/", "_") if len(results) > 1 else "": each[1] for each in by_platform}
        return await response.stream(request, engine.exports.files(folders), response.TAR)
    if wanted.type != "image":
        raise InvalidParameter(f"invalid output type {wanted.type}")
    return await response.stream(request, _to_store(engine, wanted, results, form, names, credentials), response.JSON)


async def _to_store(
    engine: Engine,
    wanted: _Wanted,
    results: Sequence[Result],
    form: Format,
    names: Sequence[Reference],
    credentials: Mapping[str, Credentials],
) -> AsyncIterator[bytes]:
    if not flag(wanted.attributes, "push"):
        image, root = await engine.exports.put_names(results, form, names)
        yield _line({"exported": _digests(root or image, image, names)})
        return
    if not names:
        raise InvalidParameter("tag is needed when pushing to registry")
    async with engine.exports.bundle(results, form, names) as made:
        engine.exports.put_names_of(made, names)
        for name in names:
            async for line in _push(engine, wanted, made, name, credentials):
                yield line
        yield _line({"exported": _described(engine, made.root, results, names)})


async def _push(
    engine: Engine, wanted: _Wanted, made: Bundle, name: Reference, credentials: Mapping[str, Credentials]
) -> AsyncIterator[bytes]:
    by_digest, insecure = (flag(wanted.attributes, key) for key in ("push-by-digest", "registry.insecure"))
    known = credentials.get(name.domain, NOBODY)
    try:
        async for message in engine.exports.push(made, name, known, by_digest=by_digest, insecure=insecure):
            yield _line(message)
    except EngineError as error:
        yield _line({"errorDetail": {"message": f"push {name.familiar}: {error.message}"}})


async def _export_cache(
    request: Request,
    engine: Engine,
    wanted: _Wanted,
    finished: Finished,
    credentials: Mapping[str, Credentials],
) -> web.StreamResponse:
    records = list(finished.records.values())
    mode = wanted.attributes.get("mode", "min")
    if mode not in ("min", "max"):
        raise InvalidParameter(f"invalid mode {mode} of the cache: expected min or max")
    if mode == "min":
        records = engine.builder.cache.of_results(records, finished.images.values())
    form, as_image = read_format(wanted.attributes), flag(wanted.attributes, "image-manifest", default=True)
    async with engine.caches.bundle(records, form, image_manifest=as_image) as made:
        if not (ref := wanted.attributes.get("ref", "")):
            return await response.stream(request, bundle.tar(bundle.members(made, [], docker=False)), response.TAR)
        pushing = _push(engine, wanted, made, reference.parse_to_tag(ref), credentials)
        return await response.stream(request, pushing, response.JSON)


def _digests(root: str, image: str, names: Sequence[Reference]) -> dict[str, Any]:
    found = {"containerimage.digest": root, "containerimage.config.digest": image}
    return {**found, "image.name": ",".join(map(str, names))} if names else found


def _described(
    engine: Engine, root: Descriptor, results: Sequence[Result], names: Sequence[Reference]
) -> dict[str, Any]:
    said = _digests(root.digest, engine.exports.primary(results), names)
    return {**said, "containerimage.descriptor": msgspec.to_builtins(root)}


def _encoded(value: Any) -> str:
    return base64.b64encode(msgspec.json.encode(value)).decode()


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\r\n"
