"""Manifests and indexes as a registry serves them: checked before anything in them is believed.

The bytes are what counts, for their digest is the image's name in the registry; they are kept as they came, with every
field that is not understood here.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.model import manifests
from wherry.model.errors import InvalidParameter, NotSupported
from wherry.model.manifests import Descriptor, Index, Manifest
from wherry.registry.errors import WrongContent, printable

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or an index; what registries themselves take."""
MAX_CONFIG = 8 << 20
"""Bytes of an image's configuration, as for an archive's."""
MAX_LAYERS = 127
"""Docker's own depth of an image."""
MAX_ENTRIES = 4096
"""Of an index."""
MAX_BLOB = 1 << 40
"""Bytes of one layer."""

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
# What the configuration of an image is called; other artifacts have others.
_CONFIGS = frozenset((
    manifests.CONFIG, "application/vnd.docker.container.image.v1+json", "application/octet-stream", "text/html", "",
))  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A manifest or an index: its bytes, what they are, and their digest."""

    raw: bytes
    media_type: str
    digest: str

    @property
    def is_index(self) -> bool:
        return self.media_type in manifests.INDEXES

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def index(self) -> Index:
        """Raises InvalidParameter."""
        found = manifests.decode(self.raw, Index, self.digest)
        if len(found.manifests) > MAX_ENTRIES:
            raise InvalidParameter(
                f"{self.digest}: an index with {len(found.manifests)} entries (limit: {MAX_ENTRIES})"
            )
        _check(found.manifests, self.digest, MAX_MANIFEST)
        return found

    def manifest(self) -> Manifest:
        """Raises InvalidParameter for what is wrong or too much, NotSupported for what is no image."""
        found = manifests.decode(self.raw, Manifest, self.digest)
        if found.config.media_type not in _CONFIGS:
            kind = printable(found.config.media_type)
            raise NotSupported(f"{self.digest}: not an image, but something of the kind {kind}")
        if len(found.layers) > MAX_LAYERS:
            raise InvalidParameter(f"max depth exceeded: {len(found.layers)} layers (limit: {MAX_LAYERS})")
        _check([found.config], self.digest, MAX_CONFIG)
        _check(found.layers, self.digest, MAX_BLOB)
        return found


def parse(raw: bytes, media_type: str, expected: str = "") -> Document:
    """A document with this Content-Type. ``expected`` is the digest that was asked for, if it was by one.

    Raises WrongContent for another digest, InvalidParameter for what could be read in two ways (CVE-2021-41190).
    """
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if expected and digest != expected:
        raise WrongContent(f"manifest verification failed for digest {expected}: it came with the digest {digest}")
    members = _members(raw, digest)
    media_type = media_type.partition(";")[0].strip().lower()
    stated = members.get("mediaType")
    if members.get("schemaVersion") == 1 or media_type.startswith(_SCHEMA_1):
        raise NotSupported(
            "Docker Image manifest version 2, schema 1 is not supported any more: "
            "pull the image with an older engine, and push it again"
        )
    known = manifests.MANIFESTS | manifests.INDEXES
    if media_type not in known:
        media_type = stated if isinstance(stated, str) and stated in known else _guess(members, digest)
    if stated not in (None, "", media_type):
        raise InvalidParameter(f"{digest}: served as {media_type}, but says that it is {printable(str(stated))}")
    wrong = {"config", "layers"} if media_type in manifests.INDEXES else {"manifests"}
    if any(members.get(name) is not None for name in wrong | {"fsLayers"}):
        raise InvalidParameter(f"{digest}: a document that is both a manifest and an index")
    return Document(raw, media_type, digest)


def _members(raw: bytes, digest: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise InvalidParameter(f"{digest}: not a manifest: no valid JSON") from None
    if not isinstance(found, dict):
        raise InvalidParameter(f"{digest}: not a manifest: no JSON object")
    return found


def _guess(members: dict[str, Any], digest: str) -> str:
    if "manifests" in members:
        return manifests.INDEX
    if "config" in members:
        return manifests.MANIFEST
    raise NotSupported(f"{digest}: a document of an unknown kind, not an image")


def _check(descriptors: Sequence[Descriptor], where: str, largest: int) -> None:
    sizes: dict[str, int] = {}
    for descriptor in descriptors:
        if not _DIGEST.fullmatch(descriptor.digest):
            raise InvalidParameter(
                f"{where}: invalid digest {printable(descriptor.digest[:100])!r} (only sha256 is supported)"
            )
        if not 0 <= descriptor.size <= largest:
            raise InvalidParameter(
                f"{where}: {descriptor.digest} has a size of {descriptor.size} bytes (limit: {largest})"
            )
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise InvalidParameter(f"{where}: {descriptor.digest} has two sizes")
