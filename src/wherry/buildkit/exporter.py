"""Where the result of a build goes: into the image store under its names, to registries, or to the client."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from wherry.buildkit import messages
from wherry.buildkit.build import Build, Solved
from wherry.buildkit.content import ContentStore
from wherry.buildkit.filesync import send_directory
from wherry.buildkit.session import Session
from wherry.buildkit.trace import Vertex
from wherry.common import reference
from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.common.reference import Reference
from wherry.engine.engine import Engine
from wherry.engine.image.bundle import Bundle, flag, read_format
from wherry.registry.auth import NOBODY

_IMAGE = ("moby", "image")
_ARCHIVES = ("oci", "docker")
_SEND = "/moby.filesync.v1.FileSend/DiffCopy"
_PIECE = 1 << 20

# What an exporter may be told beside annotations. Of the last two lines all holds anyway: an image is always unpacked,
# always whole in the store, and says its own digest.
_PACKING = frozenset(("compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"))
_ATTRIBUTES = {
    "image": _PACKING
    | {"name", "push", "push-by-digest", "registry.insecure", "store", "buildinfo", "attestation-inline"}
    | {
        "unpack",
        "dangling-name-prefix",
        "danging-name-prefix",
        "name-canonical",
        "prefer-image-digest",
        "oci-artifact",
        "containerimage.config",
    },
    "archive": _PACKING | {"name", "tar", "dest", "buildinfo"},
    "files": frozenset(("platform-split", "attestation-prefix", "dest", "mode")),
}


class Export(NamedTuple):
    """One exporter; ``number`` is by what the client knows where its output goes."""

    number: int
    type: str
    attributes: dict[str, str]

    def is_set(self, name: str, *, default: bool = False) -> bool:
        return flag(self.attributes, name, default=default)

    @property
    def names(self) -> list[Reference]:
        found = self.attributes.get("name", "").split(",")
        return [reference.parse_to_tag(name) for name in found if name and name != "*"]

    @property
    def stays(self) -> bool:
        """Whether the image is in the store afterwards."""
        return self.type in _IMAGE

    @property
    def leaves(self) -> bool:
        """Whether the image goes to where nobody knows how it was made, but for what is attested of it."""
        return self.type in _ARCHIVES or (self.type in _IMAGE and self.is_set("push"))


def read(request: Any) -> list[Export]:
    """Reads what a Solve asks for. Raises NotSupported and InvalidParameter, before anything is built."""
    found = [Export(number, each.type, dict(each.attrs)) for number, each in enumerate(request.exporters)]
    if not found and request.exporter:
        found = [Export(0, request.exporter, dict(request.exporter_attrs))]
    check(found)
    return found


def check(exports: list[Export]) -> None:
    """Raises NotSupported, InvalidParameter."""
    for export in exports:
        if export.type not in (*_IMAGE, *_ARCHIVES, "local", "tar"):
            raise NotSupported(
                f"exporter {export.type} is not supported: expected image, registry, docker, oci, local or tar"
            )
        for name in ("push", "push-by-digest", "tar", "platform-split", "rewrite-timestamp"):
            export.is_set(name)
        read_format(export.attributes)
        if export.is_set("push") and not export.names:
            raise InvalidParameter("tag is needed when pushing to registry")
        if export.attributes.get("mode", "merge") not in ("merge", "copy", "delete", ""):
            raise InvalidParameter(f"invalid mode {export.attributes['mode']} of the local exporter")


def config_of(exports: list[Export]) -> bytes:
    """The image's configuration, as a client that sends a graph gives it to an exporter."""
    found = (each.attributes.get("containerimage.config", "") for each in exports)
    return next(filter(None, found), "").encode()


def warnings(exports: Sequence[Export]) -> list[str]:
    """Warns of options that the exporter does not know."""
    found = []
    for each in exports:
        kind = "image" if each.type in _IMAGE else "archive" if each.type in _ARCHIVES else "files"
        unknown = {name for name in each.attributes if not name.startswith("annotation")} - _ATTRIBUTES[kind]
        found += [f"exporter {each.type} does not know the option {name}" for name in sorted(unknown)]
    return found


async def export(engine: Engine, build: Build, solved: Solved, exports: list[Export]) -> dict[str, str]:
    """What the client is told of it; nothing for a build without a result. Raises EngineError."""
    response: dict[str, str] = {}
    if not solved.results:
        return response
    for each in exports:
        if each.type in _IMAGE:
            response |= await _to_store(engine, build, solved, each)
        elif each.type in _ARCHIVES:
            response |= await _to_archive(engine, build, solved, each)
        else:
            await _send_files(engine, build, solved, each)
    return response


# --- images


async def _to_store(engine: Engine, build: Build, solved: Solved, each: Export) -> dict[str, str]:
    form = read_format(each.attributes)
    response = {"image.name": ",".join(map(str, each.names))} if each.names else {}
    if not each.is_set("push"):
        with build.step("exporting to image") as vertex:
            image, root = await engine.exports.put_names(solved.for_export(inline_only=False), form, each.names)
            _tell_names(vertex, each, root or image)
        return {**response, "containerimage.digest": root or image, "containerimage.config.digest": image}
    with build.step("exporting to image") as vertex:
        async with engine.exports.bundle(solved.for_export(inline_only=True), form, each.names) as made:
            image = engine.exports.put_names_of(made, each.names)
            _tell_names(vertex, each, made.root.digest)
            vertex.end()
            await _push(engine, build, each, made)
    response |= {"containerimage.digest": made.root.digest, "containerimage.descriptor": _descriptor(made)}
    return {**response, "containerimage.config.digest": image}


def _tell_names(vertex: Vertex, each: Export, digest: str) -> None:
    vertex.status(f"writing image {digest}", 0, 0, done=True)
    for name in each.names:
        vertex.status(f"naming to {name}", 0, 0, done=True)


async def _push(engine: Engine, build: Build, each: Export, made: Bundle) -> None:
    by_digest, insecure = each.is_set("push-by-digest"), each.is_set("registry.insecure")
    for name in each.names:
        with build.step(f"pushing {name}") as vertex:
            credentials = await build.session.credentials(name.domain) if build.session else NOBODY
            pushing = engine.exports.push(made, name, credentials, by_digest=by_digest, insecure=insecure)
            async for message in pushing:
                _show(vertex, message)


def _show(vertex: Vertex, message: Mapping[str, Any]) -> None:
    """A message of Docker's push."""
    layer, detail, said = message.get("id"), message.get("progressDetail") or {}, str(message.get("status", ""))
    if isinstance(layer, str):
        done = said in ("Pushed", "Layer already exists") or said.startswith("Mounted")
        vertex.status(f"pushing layer {layer}", detail.get("current", 0), detail.get("total", 0), done=done)


def _descriptor(made: Bundle) -> str:
    return b64encode(msgspec.json.encode(made.root)).decode()


async def _to_archive(engine: Engine, build: Build, solved: Solved, each: Export) -> dict[str, str]:
    """Sends an archive: as a tar, or blob by blob into the client's directory."""
    session = _session(build)
    results = solved.for_export(inline_only=each.type == "oci")
    if each.type == "docker" and (len(results) > 1 or any(result.attestations for result in results)):
        raise NotSupported("docker exporter does not support exporting manifest lists, use the oci exporter instead")
    form = read_format(each.attributes)
    with build.step(f"exporting to {each.type} image format") as vertex:
        async with engine.exports.bundle(results, form, each.names) as made:
            vertex.status(f"exporting manifest {made.root.digest}", 0, 0, done=True)
            if each.is_set("tar", default=True):
                pieces = engine.exports.archive(made, each.names, docker=each.type == "docker")
                await _send(session, each.number, pieces)
            else:
                store = ContentStore(session, "export")
                for digest, layer in made.layers.items():
                    await store.write(digest, layer.path)
                for digest, document in made.documents.items():
                    await store.write(digest, document)
    response = {
        "containerimage.digest": made.root.digest,
        "containerimage.config.digest": solved.image,
        "containerimage.descriptor": _descriptor(made),
    }
    return response | ({"image.name": ",".join(map(str, each.names))} if each.names else {})


# --- files


async def _send_files(engine: Engine, build: Build, solved: Solved, each: Export) -> None:
    """The files of the images: as they are for one, in a folder a platform for several."""
    session = _session(build)
    split = each.is_set("platform-split", default=len(solved.results) > 1)
    if not split and len(solved.results) > 1:
        raise InvalidParameter("platform-split=false needs files that differ by platform: expected one platform")
    images = {platform.replace("/", "_") if split else "": each for platform, each in solved.results.items()}
    prefix = each.attributes.get("attestation-prefix", "")
    if each.type == "tar":
        with build.step("sending tarball"):
            await _send(session, each.number, engine.exports.files(images, prefix))
        return
    with build.step("exporting to client directory"):
        async with engine.exports.unpacked(images, prefix) as directory:
            await send_directory(session, directory, _metadata(each.number))


async def _send(session: Session, number: int, pieces: AsyncIterator[bytes]) -> None:
    async with session.channel.call(_SEND, _metadata(number)) as call:
        async for chunk in pieces:
            for at in range(0, len(chunk), _PIECE):
                await call.send(messages.Bytes(data=chunk[at : at + _PIECE]))
            await asyncio.sleep(0)
        await call.send_end()
        await call.finish()


def _metadata(number: int) -> list[tuple[str, str]]:
    return [("buildkit-attachable-exporter-id", str(number))]


def _session(build: Build) -> Session:
    if build.session is None:
        raise InvalidParameter("there is no session to send the result to")
    return build.session


# What a build leaves for other machines: ``--cache-to`` a registry or a directory of the client's.


class CacheExport(NamedTuple):
    type: str
    attributes: dict[str, str]


def read_cache_form(request: Any) -> list[CacheExport]:
    """Reads what a Solve asks for. Raises NotSupported and InvalidParameter, before anything is built."""
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


async def export_cache(engine: Engine, build: Build, solved: Solved, exports: list[CacheExport]) -> dict[str, str]:
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
                await _push_cache(
                    engine, build, made, each.attributes["ref"], flag(each.attributes, "registry.insecure")
                )
            else:
                await _write(build, made, each.attributes["dest"])
            vertex.status(f"writing cache manifest {made.root.digest}", 0, 0, done=True)
    return {"cache.manifest": msgspec.json.encode(made.root).decode()}


async def _push_cache(engine: Engine, build: Build, made: Bundle, ref: str, insecure: bool) -> None:
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
