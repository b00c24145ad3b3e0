"""Volumes, and the points in a container's tree where something is mounted."""

import msgspec

from wherry.model.host import MountRequest


class Volume(msgspec.Struct):
    """A volume; ``driver`` is "local" or the name of a plug-in. ``created`` in nanoseconds since the epoch.

    Anonymous ones go with their container. ``labels`` and ``options`` are as they were asked for: None is not {}.
    """

    name: str
    created: int
    driver: str = "local"
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    anonymous: bool = False


class MountPoint(msgspec.Struct):
    """One thing mounted in a container, as it was settled when the container was made.

    ``source`` is a path of the host, but for an image, where it is the image's id. ``propagation`` is of binds only.
    ``copy`` says that an empty volume is filled from the image; ``anonymous`` that the volume was made for this
    container. ``request`` is the ``--mount`` it came from, if it did.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    copy: bool = False
    anonymous: bool = False
    request: MountRequest | None = None
