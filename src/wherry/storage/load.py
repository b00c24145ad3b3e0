"""``load`` and ``import``: images out of tar archives.

A worker reads the archive once, from beginning to end, and unpacks whatever looks like a layer on the way; only then
are the documents looked at that say what belongs together, for they may come last. All or nothing: what the archive
says is checked as a whole before the first image is there, and what was made for nothing goes with the staging area.
"""

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from wherry.common import reference
from wherry.common.errors import InvalidParameter
from wherry.common.platforms import host_architecture
from wherry.common.reference import InvalidReference, Reference
from wherry.model.image import (
    INDEXES,
    MANIFESTS,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    ArchiveItem,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    RootFS,
    decode,
)
from wherry.storage.content import Blobs, chain_id_of, check_digest, digest_of, hexadecimal
from wherry.storage.images import Images
from wherry.storage.ingest import unpack_again
from wherry.storage.layers import Layers
from wherry.storage.staging import Staging
from wherry.storage.tar.reader import shown
from wherry.storage.worker import client, jobs
from wherry.storage.worker.jobs import StagedLayer

Wanted = Callable[[Platform], bool]

_LINKS_AT_MOST = 16
_INDEXES_AT_MOST = 4  # one inside the other


class Loaded(msgspec.Struct):
    """One image that a load brought. ``replaced`` are names that another image had until now, with its id."""

    id: str
    names: list[Reference]
    replaced: list[tuple[Reference, str]]


class Progress(msgspec.Struct):
    """Bytes of one layer that were read so far, and how many it has."""

    name: str
    current: int
    total: int


@dataclass
class _Found:
    """One image as the archive describes it."""

    config: bytes
    layers: list[str]  # members
    names: list[Reference]
    parent: str = ""
    manifest: tuple[bytes, str] | None = None

    def decoded(self) -> ImageConfig:
        return decode(self.config, ImageConfig, "image configuration")

    def platform(self) -> Platform:
        config = self.decoded()
        return Platform(config.architecture, config.os or "linux", config.variant)


@dataclass
class _Archive:
    """What the worker has found. Names are those inside the archive, without a leading slash."""

    documents: dict[str, bytes] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    layers: dict[str, StagedLayer] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        """The member that a name means. Docker's old archives keep a layer once and link to it."""
        name = os.path.normpath(name.lstrip("/"))
        for _ in range(_LINKS_AT_MOST):
            if name not in self.links:
                break
            name = self.links[name]
        return name

    def document(self, name: str) -> bytes:
        found = self.documents.get(self.resolve(name))
        if found is None:
            raise InvalidParameter(f"invalid archive: {shown(name)} is missing")
        return found

    def blob(self, descriptor: Descriptor) -> bytes:
        """A document of an OCI layout by its digest, checked."""
        name = f"blobs/sha256/{hexadecimal(descriptor.digest)}"
        data = self.document(name)
        if digest_of(data) != descriptor.digest:
            raise InvalidParameter(f"invalid archive: {name} has the digest {digest_of(data)}")
        return data

    def layer(self, name: str) -> StagedLayer:
        member = self.resolve(name)
        if member in self.broken:
            raise InvalidParameter(f"invalid archive: {shown(name)}: {self.broken[member]}")
        if member not in self.layers:
            raise InvalidParameter(f"invalid archive: {shown(name)} is missing, or is not a layer")
        return self.layers[member]


class Loader:
    def __init__(self, blobs: Blobs, layers: Layers, images: Images, staging: Staging) -> None:
        self._blobs = blobs
        self._layers = layers
        self._images = images
        self._staging = staging

    async def load(
        self, stream: AsyncIterable[bytes], wanted: Wanted | None = None
    ) -> AsyncIterator[Progress | Loaded]:
        """Takes in a Docker archive or an OCI layout, in a tar that may be compressed.

        ``wanted``: only the images for such platforms.

        Raises InvalidParameter for everything that is wrong with it; then nothing of it is there.
        """
        async with self._staging.area() as area:
            archive = _Archive()
            job = jobs.ReceiveArchive(staging=area, known=tuple(sorted(self._layers.blobs())))
            async with client.working(job, input=stream) as worker:
                async for event in worker.events():
                    if "progress" in event:
                        yield Progress(_short(event["member"]), event["progress"], event["total"])
                    else:
                        self._note(archive, event)
            held: list[str] = []
            try:
                found = _describe(archive, wanted)
                for image in found:
                    held += await self._take_layers(archive, image, area)
                loaded = self._add(found)
            finally:
                self._layers.release(held)
                self._images.collect_layers()
        self._staging.sync_later()
        for made in loaded:
            yield made

    async def import_tar(self, stream: AsyncIterable[bytes], config: ImageConfig) -> str:
        """Makes an image with one layer of a tar that may be compressed; its id. ``config`` lacks the diff id only."""
        async with self._staging.area() as area:
            staged = await client.run(jobs.ReceiveLayer(staging=area), input=stream)
            layer = self._layers.add(staged, "")
            try:
                complete = msgspec.structs.replace(config, rootfs=RootFS(diff_ids=[layer.diff_id]))
                image_id = self._images.create(complete)
            finally:
                self._layers.release([layer.chain_id])
        self._staging.sync_later()
        return image_id

    async def _take_layers(self, archive: _Archive, image: _Found, area: str) -> list[str]:
        """Puts an image's layers to their places. They are held until they are released."""
        config = image.decoded()
        if config.os not in ("", "linux"):
            raise InvalidParameter(f"cannot load {shown(config.os)} image on linux")
        diff_ids = config.rootfs.diff_ids
        if len(image.layers) != len(diff_ids):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(image.layers)}, got {len(diff_ids)}"
            )
        held: list[str] = []
        parent = ""
        for number, (name, diff_id) in enumerate(zip(image.layers, diff_ids, strict=True)):
            staged = archive.layer(name)
            chain_id = chain_id_of(parent, check_digest(diff_id))
            if staged.diff_id != diff_id:
                raise InvalidParameter(
                    f'invalid diffID for layer {number}: expected "{diff_id}", got "{staged.diff_id}"'
                )
            if not self._layers.hold(chain_id):
                await self._take_layer(staged, parent, area)
            held.append(chain_id)
            parent = chain_id
        return held

    async def _take_layer(self, staged: StagedLayer, parent: str, area: str) -> None:
        if not staged.layer:
            # Taken by another image of the archive upon other layers, or never unpacked because its blob was here.
            staging = f"{area}/again-{len(os.listdir(area))}"
            os.mkdir(staging, 0o700)
            staged = await unpack_again(self._blobs, staged, staging)
        self._layers.add(staged, parent)
        staged.layer = ""

    def _add(self, found: list[_Found]) -> list[Loaded]:
        loaded = []
        with self._images.transaction():
            for image in found:
                image_id = self._images.add(image.config, documents=[image.manifest] if image.manifest else [])
                replaced = []
                for name in image.names:
                    before = self._images.tag(image_id, name, is_new=False)
                    if before is not None:
                        replaced.append((name, before))
                loaded.append(Loaded(image_id, image.names, replaced))
            known = {image.id for image in loaded}
            for image, made in zip(found, loaded, strict=True):
                if image.parent in known and image.parent != made.id:
                    self._images.set_parent(made.id, image.parent)
        return loaded

    def _note(self, archive: _Archive, event: dict[str, Any]) -> None:
        name = event.get("member", "")
        if "document" in event:
            archive.documents[name] = event["document"].encode("utf-8", "surrogateescape")
        elif "broken" in event:
            archive.broken[name] = event["broken"]
        elif "link" in event:
            archive.links[event["link"]] = event["target"]
        elif name:
            if "diff_id" not in event:  # it was not unpacked, because a layer was made of that blob before
                layer = self._layers.with_blob(event["digest"])
                event |= {"diff_id": layer.diff_id, "size": layer.size}
            archive.layers[name] = msgspec.convert(event, StagedLayer)


def _short(name: str) -> str:
    """What progress calls a layer: Docker's twelve digits, out of either kind of archive."""
    base = os.path.basename(name)
    return (os.path.basename(os.path.dirname(name)) if base == "layer.tar" else base)[:12]


def _describe(archive: _Archive, wanted: Wanted | None) -> list[_Found]:
    found = _images(archive, wanted)
    return found if wanted is None else [image for image in found if wanted(image.platform())] or _refuse(wanted)


def _images(archive: _Archive, wanted: Wanted | None) -> list[_Found]:
    if "manifest.json" in archive.documents:
        found = _docker_archive(archive)
        if "index.json" in archive.documents:
            _add_manifests(archive, found)
        return found
    if "index.json" in archive.documents:
        index = decode(archive.documents["index.json"], Index, "index.json")
        return _oci_layout(archive, index, wanted, 0)
    raise InvalidParameter("invalid archive: it has neither a manifest.json nor an index.json")


def _docker_archive(archive: _Archive) -> list[_Found]:
    items = decode(archive.documents["manifest.json"], list[ArchiveItem], "manifest.json")
    found = []
    for item in items:
        names = []
        for text in item.repo_tags or ():
            name = reference.parse(text)
            if not name.tag:
                raise InvalidReference(f'invalid tag "{shown(text)}"')
            names.append(name)
        parent = item.parent if isinstance(item.parent, str) else ""
        found.append(_Found(archive.document(item.config), list(item.layers or ()), names, parent))
    return found


def _add_manifests(archive: _Archive, found: list[_Found]) -> None:
    """Where an archive is of both kinds, its OCI half has the manifests that the images were pulled with."""
    by_config = {digest_of(image.config): image for image in found}
    index = decode(archive.documents["index.json"], Index, "index.json")
    for descriptor in index.manifests:
        if descriptor.media_type not in MANIFESTS:
            continue
        raw = archive.blob(descriptor)
        manifest = decode(raw, Manifest, descriptor.digest)
        image = by_config.get(manifest.config.digest)
        if image is None:
            continue
        blobs = [archive.layer(name).digest for name in image.layers]
        if blobs == [layer.digest for layer in manifest.layers]:
            image.manifest = (raw, descriptor.media_type)


def _oci_layout(archive: _Archive, index: Index, wanted: Wanted | None, depth: int) -> list[_Found]:
    if depth > _INDEXES_AT_MOST:
        raise InvalidParameter("invalid archive: its indexes are nested too deep")
    found = []
    for descriptor in _fitting(index.manifests, wanted):
        names = _annotated_names(descriptor)
        raw = archive.blob(descriptor)
        if descriptor.media_type in INDEXES:
            inner = decode(raw, Index, descriptor.digest)
            images = _oci_layout(archive, inner, wanted, depth + 1)
            for image in images:
                image.names += names
            found += images
        elif descriptor.media_type in MANIFESTS:
            manifest = decode(raw, Manifest, descriptor.digest)
            layers = [_checked_layer(archive, layer) for layer in manifest.layers]
            image = _Found(archive.blob(manifest.config), layers, names, manifest=(raw, descriptor.media_type))
            # An image with several names is in the index once for each.
            same = next((other for other in found if other.manifest == image.manifest), None)
            if same is not None:
                same.names += names
            else:
                found.append(image)
        else:
            raise InvalidParameter(f"invalid archive: a manifest of the kind {shown(descriptor.media_type)}")
    return found


def _checked_layer(archive: _Archive, descriptor: Descriptor) -> str:
    name = f"blobs/sha256/{hexadecimal(descriptor.digest)}"
    found = archive.layer(name).digest
    if found != descriptor.digest:
        raise InvalidParameter(f"invalid archive: {name} has the digest {found}")
    return name


def _fitting(found: list[Descriptor], wanted: Wanted | None) -> list[Descriptor]:
    """The images that are for a wanted platform, or for this machine; and those that do not say for what they are.

    Where all are for one other platform, and none is wanted by name, there is nothing to choose.
    """
    fits = wanted or _is_this_machine
    fitting = [each for each in found if each.platform is None or fits(each.platform)]
    if fitting or not found:
        return fitting
    others = [each for each in found if each.platform is not None and each.platform.os != "unknown"]
    if wanted is None and others and all(each.platform == others[0].platform for each in others):
        return others
    return _refuse(wanted)


def _is_this_machine(platform: Platform) -> bool:
    return (platform.os, platform.architecture) == ("linux", host_architecture())


def _refuse(wanted: Wanted | None) -> NoReturn:
    what = "the platform that was asked for" if wanted else f"linux/{host_architecture()}"
    raise InvalidParameter(f"the archive has no image for {what}")


def _annotated_names(descriptor: Descriptor) -> list[Reference]:
    annotations = descriptor.annotations or {}
    text = annotations.get(NAME_ANNOTATION, "")
    if not text:
        text = annotations.get(REF_ANNOTATION, "")
        if ":" not in text and "/" not in text:
            return []  # a tag alone names nothing
    return [reference.parse(text).with_default_tag()]
