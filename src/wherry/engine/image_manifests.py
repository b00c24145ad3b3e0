"""The platforms of an image: the manifests of the index that it was pulled by, and which of them are here."""

from collections.abc import Iterable
from typing import Any

import msgspec

from wherry.engine.roster import Roster
from wherry.model import manifests
from wherry.model.errors import InvalidParameter
from wherry.model.manifests import Descriptor, Index, Manifest, Platform
from wherry.storage.images import Image
from wherry.storage.store import Store

_ATTESTATION = "attestation-manifest"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"


def describe(image: Image, store: Store, roster: Roster) -> list[dict[str, Any]]:
    """The API's ImageManifestSummary of each. An image that came without an index has its own manifest alone."""
    found: dict[str, Descriptor] = {}
    for digest, _ in store.images.indexes(image.id):
        for descriptor in _entries(digest, store):
            found[descriptor.digest] = descriptor
    own = store.images.manifest(image.id)
    if own is not None and own[0] not in found:
        config = image.config
        platform = Platform(config.architecture, config.os, config.variant)
        found[own[0]] = Descriptor(own[1], own[0], store.blobs.size(own[0]), platform=platform)
    return [_summary(descriptor, store, roster) for descriptor in found.values()]


def _entries(digest: str, store: Store) -> Iterable[Descriptor]:
    try:
        return manifests.decode(store.blobs.read(digest), Index, digest).manifests
    except InvalidParameter:
        return ()  # it was read when the image was pulled, by other rules than today's


def _summary(descriptor: Descriptor, store: Store, roster: Roster) -> dict[str, Any]:
    image_id = store.images.of_manifest(descriptor.digest)
    annotations = descriptor.annotations or {}
    content = _content(descriptor.digest, store) if image_id else 0
    found: dict[str, Any] = {
        "ID": descriptor.digest,
        "Descriptor": msgspec.to_builtins(descriptor),
        "Available": image_id is not None,
        "Size": {"Content": content, "Total": content},
    }
    if annotations.get(_REFERENCE_TYPE) == _ATTESTATION:
        return found | {"Kind": "attestation", "AttestationData": {"For": annotations.get(_REFERENCE_DIGEST, "")}}
    unpacked = store.images.get(image_id).size if image_id else 0
    found["Size"]["Total"] += unpacked
    users = [live.record.id for live in roster if image_id and live.record.image_id == image_id]
    platform = descriptor.platform or Platform()
    return found | {
        "Kind": "image",
        "ImageData": {
            "Platform": msgspec.to_builtins(platform),
            "Size": {"Unpacked": unpacked},
            "Containers": users,
        },
    }


def _content(digest: str, store: Store) -> int:
    """Bytes of a manifest's blobs that are here."""
    manifest = manifests.decode(store.blobs.read(digest), Manifest, digest)
    blobs = {descriptor.digest: descriptor.size for descriptor in (manifest.config, *manifest.layers)}
    return sum(size for blob, size in blobs.items() if blob in store.blobs)
