"""``save``: images into one archive that is both Docker's and an OCI layout, as Docker writes it since version 25.

The same images give the same bytes: members are in the order of their names, and no time is in it. Layers and manifests
are as they came, so that what was pulled, saved and loaded elsewhere is still the same by every digest.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from wherry.common import reference
from wherry.common.errors import NotFound
from wherry.common.reference import Reference
from wherry.common.tar import END, header
from wherry.model.image import (
    CONFIG,
    MANIFEST,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    ArchiveItem,
    Descriptor,
    Index,
    Manifest,
    Platform,
)
from wherry.storage.content import Blobs, digest_of, hexadecimal
from wherry.storage.images import Image, Images
from wherry.storage.layers import Layer
from wherry.storage.tar.writer import directory_entry, file_entry

_CHUNK = 1 << 20
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass
class _Chosen:
    """One image to be saved, and the names it is to have in the archive."""

    image: Image
    names: list[Reference] = field(default_factory=list)


Variants = Callable[[str], Iterable[str]]
"""The ids of those images of a name that are wanted."""


class Saver:
    def __init__(self, blobs: Blobs, images: Images) -> None:
        self._blobs = blobs
        self._images = images

    def choose(self, names: Sequence[str], variants: Variants | None = None) -> list[_Chosen]:
        """The images that these names mean: a name without a tag means all its tags. Raises NotFound."""
        chosen: dict[str, _Chosen] = {}
        for text in names:
            for image_id, name in self._meant(text):
                for each in variants(name.familiar if name else text) if variants else (image_id,):
                    entry = chosen.setdefault(each, _Chosen(self._images.get(each)))
                    if name is not None and name not in entry.names:
                        entry.names.append(name)
        return list(chosen.values())

    def _meant(self, text: str) -> list[tuple[str, Reference | None]]:
        if reference.is_image_id(text):
            return [(self._images.get(text).id, None)]
        parsed = reference.parse(text)
        if not parsed.tag and not parsed.digest and (tags := self._images.tags(parsed.name)):
            return [(image_id, name) for name, image_id in tags]
        try:
            image = self._images.get(text)
        except NotFound:
            raise NotFound(f"No such image: {text}") from None
        by_name = self._images.resolve(parsed) == image.id
        return [(image.id, parsed.with_default_tag() if by_name and not parsed.digest else None)]

    async def save(self, names: Sequence[str], variants: Variants | None = None) -> AsyncIterator[bytes]:
        """The archive, in pieces. Raises NotFound before the first."""
        chosen = self.choose(names, variants)
        documents: dict[str, bytes] = {}
        layers: dict[str, Layer] = {}
        items: list[ArchiveItem] = []
        index = Index()
        repositories: dict[str, dict[str, str]] = {}
        for entry in chosen:
            chain = self._images.layers(entry.image)
            raw = self._images.raw(entry.image.id)
            manifest, media_type = self._manifest(entry.image, raw, chain)
            layers |= {_blob(layer.blob): layer for layer in chain}
            documents[_blob(entry.image.id)] = raw
            documents[_blob(digest_of(manifest))] = manifest
            items.append(self._item(entry, chain))
            index.manifests += _descriptors(entry, manifest, media_type)
            for name in entry.names if chain else ():
                top = hexadecimal(chain[-1].blob)
                repositories.setdefault(name.familiar_name, {})[name.tag] = top
        self._link_parents(chosen, items)
        documents["index.json"] = msgspec.json.encode(index)
        documents["manifest.json"] = msgspec.json.encode(items)
        documents["oci-layout"] = _LAYOUT
        if repositories:
            documents["repositories"] = msgspec.json.encode(repositories)
        yield header(directory_entry("blobs/")) + header(directory_entry("blobs/sha256/"))
        for member in sorted([*documents, *layers]):
            if member in documents:
                data = documents[member]
                yield header(file_entry(member, len(data))) + data + _padding(len(data))
                continue
            layer = layers[member]
            yield header(file_entry(member, layer.blob_size))
            async for chunk in self._read(layer):
                yield chunk
            yield _padding(layer.blob_size)
        yield END

    async def _read(self, layer: Layer) -> AsyncIterator[bytes]:
        with self._blobs.open(layer.blob) as file:
            offset = 0
            while offset < layer.blob_size:
                # In a thread, for the disk may have to be waited for.
                chunk = await asyncio.to_thread(os.pread, file.fileno(), _CHUNK, offset)
                if not chunk:
                    raise NotFound(f"content {layer.blob} is cut off")
                offset += len(chunk)
                yield chunk

    def _manifest(self, image: Image, raw: bytes, chain: list[Layer]) -> tuple[bytes, str]:
        """The manifest that the image came with, or a new one."""
        known = self._images.manifest(image.id)
        if known is not None and known[0] in self._blobs:
            return self._blobs.read(known[0]), known[1]
        manifest = Manifest(
            config=Descriptor(CONFIG, image.id, len(raw)),
            layers=[Descriptor(layer.media_type, layer.blob, layer.blob_size) for layer in chain],
        )
        return msgspec.json.encode(manifest), MANIFEST

    def _item(self, entry: _Chosen, chain: list[Layer]) -> ArchiveItem:
        sources = {
            layer.diff_id: {"mediaType": layer.media_type, "size": layer.blob_size, "digest": layer.blob}
            for layer in chain
        }
        return ArchiveItem(
            config=_blob(entry.image.id),
            repo_tags=[name.familiar for name in entry.names] or None,
            layers=[_blob(layer.blob) for layer in chain],
            layer_sources=sources,
        )

    def _link_parents(self, chosen: list[_Chosen], items: list[ArchiveItem]) -> None:
        known = {entry.image.id for entry in chosen}
        for entry, item in zip(chosen, items, strict=True):
            if entry.image.parent in known:
                item.parent = entry.image.parent


def _descriptors(entry: _Chosen, manifest: bytes, media_type: str) -> list[Descriptor]:
    """The image's places in the index: one for each of its names."""
    config = entry.image.config
    platform = Platform(config.architecture, config.os, config.variant)
    digest = digest_of(manifest)
    if not entry.names:
        return [Descriptor(media_type, digest, len(manifest), platform=platform)]
    return [
        Descriptor(
            media_type,
            digest,
            len(manifest),
            annotations={NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag},
            platform=platform,
        )
        for name in entry.names
    ]


def _blob(digest: str) -> str:
    return f"blobs/sha256/{hexadecimal(digest)}"


def _padding(size: int) -> bytes:
    return bytes(-size % 512)
