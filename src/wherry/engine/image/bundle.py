"""Images ready to leave: manifests, packed layers, and the index where there are several images or attestations.

``bundle`` makes the documents and packs the layers. What becomes of them is somebody else's: an archive, a directory, a
registry, or a name in the store, which only needs the documents.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from wherry.common.errors import InvalidParameter, NotSupported
from wherry.common.reference import Reference
from wherry.common.tar import END, header
from wherry.engine import platforms
from wherry.engine.image.attestation import Attestation, Statement
from wherry.engine.platforms import name as platform_name
from wherry.engine.platforms import parse as parse_platform
from wherry.model.image import (
    ATTESTATION,
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    INDEXES,
    MANIFEST,
    MANIFESTS,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    STATEMENT,
    ArchiveItem,
    Descriptor,
    Index,
    Manifest,
    Platform,
    decode,
)
from wherry.storage.content import digest_of, hexadecimal
from wherry.storage.images import Image
from wherry.storage.layers import Layer
from wherry.storage.store import Store
from wherry.storage.tar.compression import MEDIA_TYPES, Compression
from wherry.storage.tar.writer import directory_entry, file_entry
from wherry.storage.worker import client, jobs

_COMPRESSIONS: dict[str, Compression] = {"uncompressed": "", "gzip": "gzip", "zstd": "zstd"}
_LEVELS = {"gzip": 9, "zstd": 22}
_DOCKER_TYPES = {
    MANIFEST: DOCKER_MANIFEST,
    INDEX: DOCKER_INDEX,
    CONFIG: DOCKER_CONFIG,
    MEDIA_TYPES[""]: "application/vnd.docker.image.rootfs.diff.tar",
    MEDIA_TYPES["gzip"]: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_KINDS = {media_type: kind for kind, media_type in MEDIA_TYPES.items()}
_ANNOTATION = re.compile(
    r"annotation(-(?P<where>index|manifest|index-descriptor|manifest-descriptor))?(\[(?P<platform>[^\]]+)\])?\.(?P<key>.+)"
)
_MANIFESTS = MANIFESTS | INDEXES
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20
_UNKNOWN = Platform("unknown", "unknown")


class Annotations(msgspec.Struct, frozen=True):
    """By where they go (``manifest``, ``index``, …) and the platform that they are for ("" for all)."""

    found: dict[tuple[str, str], dict[str, str]] = {}

    def of(self, where: str, platform: Platform | None = None) -> dict[str, str]:
        own = self.found.get((where, platform_name(platform)), {}) if platform is not None else {}
        return {**self.found.get((where, ""), {}), **own}


class Format(msgspec.Struct, frozen=True):
    """How layers are packed, and what documents are called. ``force``: also those that came packed otherwise."""

    compression: Compression = "gzip"
    level: int | None = None
    force: bool = False
    oci: bool = True
    annotations: Annotations = Annotations()

    @property
    def is_usual(self) -> bool:
        """Whether layers leave as a push would send them."""
        return self.compression == "gzip" and self.level is None and not self.force

    def media_type(self, oci: str) -> str:
        return oci if self.oci else _DOCKER_TYPES.get(oci, oci)


def read_format(attributes: Mapping[str, str]) -> Format:
    """What an exporter's attributes say. Raises InvalidParameter, NotSupported."""
    kind = attributes.get("compression", "gzip")
    if kind == "estargz":
        raise NotSupported("compression=estargz is not supported: expected gzip, zstd or uncompressed")
    if kind not in _COMPRESSIONS:
        raise InvalidParameter(f"unsupported compression type {kind}: expected gzip, zstd or uncompressed")
    level = attributes.get("compression-level", "")
    if level and not (level.isascii() and level.isdigit() and int(level) <= _LEVELS.get(kind, 0)):
        raise InvalidParameter(f"invalid compression-level {level} for {kind}: expected 0 to {_LEVELS.get(kind, 0)}")
    oci = flag(attributes, "oci-mediatypes", default=True)
    if kind == "zstd" and not oci:
        raise InvalidParameter('exporter option "compression=zstd" conflicts with "oci-mediatypes=false"')
    annotations: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in attributes.items():
        if found := _ANNOTATION.fullmatch(name):
            platform = platform_name(parse_platform(found["platform"])) if found["platform"] else ""
            annotations.setdefault((found["where"] or "manifest", platform), {})[found["key"]] = value
    if not oci and annotations:
        raise InvalidParameter('cannot export annotations with "oci-mediatypes=false"')
    force = flag(attributes, "force-compression")
    return Format(_COMPRESSIONS[kind], int(level) if level else None, force, oci, Annotations(annotations))


def flag(attributes: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A switch as Go reads it. Raises InvalidParameter."""
    text = attributes.get(name)
    if text is None:
        return default
    if text in ("1", "t", "T", "true", "TRUE", "True", ""):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidParameter(f"non-bool value specified for {name}: {text}")


class Result(msgspec.Struct, frozen=True):
    """The image that was built for a platform, and what is attested of it."""

    image: str
    attestations: tuple[Attestation, ...] = ()


class Packed(msgspec.Struct, frozen=True):
    """A layer in the form in which it leaves; ``path`` is "" for one that was only packed to know its digest."""

    descriptor: Descriptor
    layer: Layer
    path: str


class Bundle(msgspec.Struct):
    """``root`` leads to everything: ``documents`` and ``layers``, both by digest.

    ``manifests`` are the media types of those documents that are no blobs to a registry. ``images`` are those in it,
    each with its manifest; ``kept`` are the documents of each image and what they are.
    """

    root: Descriptor = msgspec.field(default_factory=lambda: Descriptor("", "", 0))
    documents: dict[str, bytes] = {}
    manifests: dict[str, str] = {}
    layers: dict[str, Packed] = {}
    images: list[tuple[Image, Descriptor]] = []
    kept: dict[str, list[tuple[bytes, str]]] = {}


async def bundle(
    store: Store, area: str, results: Sequence[Result], form: Format, names: Sequence[Reference], *, files: bool
) -> Bundle:
    """``files``: the layers are wanted themselves, in ``area``, and not only what they would be. Raises EngineError."""
    packer = _Packer(store, area, form, files=files)
    made = Bundle()
    entries, attested = [], []
    for result in results:
        image = store.images.get(result.image)
        platform = platforms.of_image(image)
        manifest, raw = await _manifest(store, packer, made, image, form)
        described = msgspec.structs.replace(
            manifest, platform=platform, annotations=form.annotations.of("manifest-descriptor", platform) or None
        )
        entries.append(described)
        made.images.append((image, manifest))
        kept = made.kept.setdefault(image.id, [(raw, manifest.media_type)])
        if result.attestations:
            attested.append(_attest(made, manifest, platform, result.attestations, names, kept))
    if len(entries) == 1 and not attested:
        if form.annotations.of("index") or form.annotations.of("index-descriptor"):
            raise InvalidParameter("index annotations not supported for single platform export")
        made.root = entries[0]
        return made
    if attested and not form.oci:
        raise InvalidParameter('cannot export attestations with "oci-mediatypes=false"')
    index = Index(
        media_type=form.media_type(INDEX),
        manifests=[*entries, *attested],
        annotations=form.annotations.of("index") or msgspec.UNSET,
    )
    raw = msgspec.json.encode(index)
    made.root = add_document(made, raw, index.media_type)
    made.root.annotations = form.annotations.of("index-descriptor") or None
    for kept in made.kept.values():
        kept.append((raw, index.media_type))
    return made


async def pack_layers(store: Store, area: str, layers: Sequence[Layer], form: Format) -> list[Packed]:
    """Layers in the form in which they leave, as files in ``area`` where those here are others. Raises EngineError."""
    return await _Packer(store, area, form, files=True).pack_all(layers)


async def _manifest(
    store: Store, packer: "_Packer", made: Bundle, image: Image, form: Format
) -> tuple[Descriptor, bytes]:
    """Packs an image's layers and writes its manifest."""
    layers = await packer.pack_all(store.images.layers(image))
    made.layers |= {each.descriptor.digest: each for each in layers}
    manifest = Manifest(
        media_type=form.media_type(MANIFEST),
        config=add_document(made, store.images.raw(image.id), form.media_type(CONFIG)),
        layers=[each.descriptor for each in layers],
        annotations=form.annotations.of("manifest", platforms.of_image(image)) or msgspec.UNSET,
    )
    raw = msgspec.json.encode(manifest)
    return add_document(made, raw, manifest.media_type), raw


def add_document(made: Bundle, raw: bytes, media_type: str) -> Descriptor:
    """Puts a document into a bundle; what others call it by."""
    digest = digest_of(raw)
    made.documents[digest] = raw
    if media_type in _MANIFESTS:
        made.manifests[digest] = media_type
    return Descriptor(media_type, digest, len(raw))


def _attest(
    made: Bundle,
    manifest: Descriptor,
    platform: Platform,
    attestations: Sequence[Attestation],
    names: Sequence[Reference],
    kept: list[tuple[bytes, str]],
) -> Descriptor:
    """The manifest of what is attested of an image, as BuildKit puts it into the index."""
    layers = []
    for each in attestations:
        raw = Statement.of(each, names, platform, manifest.digest).encode()
        statement = add_document(made, raw, STATEMENT)
        statement.annotations = {"in-toto.io/predicate-type": each.predicate_type}
        layers.append(statement)
        kept.append((raw, STATEMENT))
    config = msgspec.json.encode(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    kept.append((config, CONFIG))
    raw = msgspec.json.encode(Manifest(config=add_document(made, config, CONFIG), layers=layers))
    kept.append((raw, ATTESTATION))
    found = add_document(made, raw, MANIFEST)
    found.platform = _UNKNOWN
    found.annotations = {
        "vnd.docker.reference.digest": manifest.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return found


class _Packer:
    """Packs each layer once, several side by side."""

    def __init__(self, store: Store, area: str, form: Format, *, files: bool) -> None:
        self._store = store
        self._area = area
        self._form = form
        self._files = files
        self._tasks: dict[str, asyncio.Task[Packed]] = {}
        self._slots = asyncio.Semaphore(os.cpu_count() or 1)

    async def pack_all(self, layers: Sequence[Layer]) -> list[Packed]:
        for layer in layers:
            if layer.diff_id not in self._tasks:
                self._tasks[layer.diff_id] = asyncio.create_task(self._pack(layer))
        try:
            return [await self._tasks[layer.diff_id] for layer in layers]
        except BaseException:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            raise

    async def _pack(self, layer: Layer) -> Packed:
        form, store = self._form, self._store
        was = _KINDS[layer.media_type]
        if (was == form.compression and (not form.force or form.level is None)) or (was and not form.force):
            descriptor = Descriptor(form.media_type(layer.media_type), layer.blob, layer.blob_size)
            return Packed(descriptor, layer, store.blobs.path(layer.blob))
        media_type = form.media_type(MEDIA_TYPES[form.compression])
        known = store.layers.pushed_as(layer) if form.is_usual and not self._files else None
        if known is not None:
            return Packed(Descriptor(media_type, known.digest, known.size), layer, "")
        target = f"{self._area}/packed-{hexadecimal(layer.diff_id)}" if self._files else ""
        source = store.blobs.path(layer.blob)
        job = jobs.Pack(source=source, was=was, target=target, packing=form.compression, level=form.level)
        async with self._slots:
            done = await client.run(job)
        if form.is_usual and layer.plain:
            store.layers.note_pushed(layer.diff_id, done.digest, done.size)
        return Packed(Descriptor(media_type, done.digest, done.size), layer, target)


def keep(store: Store, made: Bundle) -> None:
    """Keeps the documents in the store, with the images that they are of."""
    with store.images.transaction():
        for image_id, documents in made.kept.items():
            for raw, media_type in documents:
                store.images.keep_document(image_id, raw, media_type)


def stored(store: Store, digest: str, media_type: str) -> Bundle:
    """The bundle of a document that is kept. Its layers are packed again where they are not kept as they left."""
    made = Bundle()
    made.root = _take(store, made, Descriptor(media_type, digest, 0))
    return made


def _take(store: Store, made: Bundle, found: Descriptor) -> Descriptor:
    raw = store.blobs.read(found.digest)
    taken = add_document(made, raw, found.media_type)
    if found.media_type in INDEXES:
        for each in decode(raw, Index, found.digest).manifests:
            _take(store, made, each)
        return taken
    manifest = decode(raw, Manifest, found.digest)
    add_document(made, store.blobs.read(manifest.config.digest), manifest.config.media_type)
    image = store.images.find(manifest.config.digest)
    if image is None:  # what is attested
        for statement in manifest.layers:
            add_document(made, store.blobs.read(statement.digest), statement.media_type)
        return taken
    made.images.append((image, taken))
    for descriptor, layer in zip(manifest.layers, store.images.layers(image), strict=True):
        path = store.blobs.path(descriptor.digest) if descriptor.digest in store.blobs else ""
        made.layers[descriptor.digest] = Packed(descriptor, layer, path)
    return taken


# --- archives


def members(made: Bundle, names: Sequence[Reference], *, docker: bool) -> dict[str, bytes | str]:
    """The files of an OCI layout by their names: contents, or for layers the paths of files here.

    ``docker``: with Docker's own description beside it.
    """
    index = Index(manifests=[_named(made.root, name) for name in names] or [made.root])
    found: dict[str, bytes | str] = {_blob(digest): raw for digest, raw in made.documents.items()}
    found |= {_blob(digest): layer.path for digest, layer in made.layers.items()}
    found["index.json"] = msgspec.json.encode(index)
    found["oci-layout"] = _LAYOUT
    if docker:
        found["manifest.json"] = msgspec.json.encode([_item(made, image, each, names) for image, each in made.images])
    return found


def _named(root: Descriptor, name: Reference) -> Descriptor:
    annotations = {
        **(root.annotations or {}),
        NAME_ANNOTATION: str(name),
        REF_ANNOTATION: name.tag,
    }
    return msgspec.structs.replace(root, annotations=annotations)


def _item(made: Bundle, image: Image, manifest: Descriptor, names: Sequence[Reference]) -> ArchiveItem:
    found = msgspec.json.decode(made.documents[manifest.digest], type=Manifest)
    return ArchiveItem(
        config=_blob(image.id),
        repo_tags=[name.familiar for name in names] or None,
        layers=[_blob(layer.digest) for layer in found.layers],
    )


async def tar(found: Mapping[str, bytes | str]) -> AsyncIterator[bytes]:
    """An archive of members; the same ones give the same bytes."""
    yield header(directory_entry("blobs/")) + header(directory_entry("blobs/sha256/"))
    for name in sorted(found):
        content = found[name]
        if isinstance(content, bytes):
            yield header(file_entry(name, len(content))) + content + bytes(-len(content) % 512)
            continue
        with await asyncio.to_thread(open, content, "rb", 0) as file:
            size = os.fstat(file.fileno()).st_size
            yield header(file_entry(name, size))
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk
            yield bytes(-size % 512)
    yield END


def _blob(digest: str) -> str:
    return f"blobs/sha256/{hexadecimal(digest)}"
