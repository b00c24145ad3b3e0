"""An image's configuration: the JSON whose digest is the image's id."""

from typing import Any, TypeVar

import msgspec

from wherry.common.errors import InvalidParameter
from wherry.model.container import ContainerConfig


class RootFS(msgspec.Struct):
    """``diff_ids`` are the digests of the uncompressed layers, the lowest first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True):
    """How one step came about. ``empty_layer`` steps have no entry in the diff ids."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True):
    """The OCI image configuration with Docker's additions. Times are RFC 3339."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] = msgspec.field(default_factory=list, name="os.features")
    created: str | None = None
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    container: str = ""
    container_config: dict[str, Any] | None = None
    config: ContainerConfig | None = None
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] = []


# The documents of the OCI image specification, and those of Docker's archives, as far as they are read here.
#
# What is not declared is dropped from the structs, never from the bytes: these are kept and passed on as they came.

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
STATEMENT = "application/vnd.in-toto+json"
# What a manifest of attestations is noted as here, to be told from an image's; registries have it as an ordinary one.
ATTESTATION = "application/vnd.docker.attestation.manifest.v1+json"

MANIFESTS = frozenset((MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((INDEX, DOCKER_INDEX))

# Who wrote the archive says by these what the image is called; the first is a whole name.
NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"

Document = TypeVar("Document")


class Platform(msgspec.Struct, omit_defaults=True, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Manifest(msgspec.Struct, rename="camel", kw_only=True):
    schema_version: int = 2
    media_type: str = MANIFEST
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Index(msgspec.Struct, rename="camel", kw_only=True):
    schema_version: int = 2
    media_type: str = INDEX
    manifests: list[Descriptor] = []
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class ArchiveItem(msgspec.Struct, rename="pascal"):
    """One image in the manifest.json of a Docker archive."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None
    parent: str | msgspec.UnsetType = msgspec.UNSET
    layer_sources: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


def decode(data: bytes, kind: type[Document], name: str) -> Document:
    """A document of somebody else's. Raises InvalidParameter that names it; nesting without end too."""
    try:
        return msgspec.convert(without_nulls(msgspec.json.decode(data)), kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise InvalidParameter(f"{name}: {str(error)[:200]}") from None


def without_nulls(value: Any) -> Any:
    """The same without the members that are null, which is how Go writes what is not there."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(member) for member in value]
    return value
