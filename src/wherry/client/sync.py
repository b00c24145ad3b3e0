"""The library for programs without an event loop: the faces of engine.py's classes, containers.py's and the others'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.client import containers, engine, images, process, resources
from wherry.client.blocking import face, plain

if TYPE_CHECKING:
    from wherry.client.endpoint import TLS

Engine = face(engine.AsyncEngine)
Container = face(containers.AsyncContainer)
ContainerCollection = face(containers.AsyncContainerCollection)
Image = face(images.AsyncImage)
ImageCollection = face(images.AsyncImageCollection)
Network = face(resources.AsyncNetwork)
NetworkCollection = face(resources.AsyncNetworkCollection)
Process = face(process.AsyncProcess)
Volume = face(resources.AsyncVolume)
VolumeCollection = face(resources.AsyncVolumeCollection)


def connect(host: str = "", *, tls: TLS | None = None) -> Engine:
    """An engine: that at `host`, or of WHERRY_HOST or DOCKER_HOST, or this machine's, which is started if need be.

    `host` is unix:///path, tcp://name:port (with `tls`), or ssh://[user@]name. Nothing is sent before the first use.
    Raises HostError for an address that cannot be one.

    >>> import wherry
    >>> with wherry.connect() as engine:
    ...     engine.run("busybox", ["echo", "hi"]).output
    'hi\\n'
    """
    return plain(engine.AsyncEngine(engine.client_of(host, tls, None)))
