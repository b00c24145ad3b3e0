"""An image's configuration: the JSON whose digest is the image's id."""

from typing import Any

import msgspec

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
