"""--use-api-socket: the engine's own socket in the container, and the credentials for registries beside it."""

from __future__ import annotations

import os

from wherry.cli.command import Session
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SOCKET = "/var/run/docker.sock"
CONFIG = "/run/secrets/docker/config.json"


class SocketError(ClientError):
    """The socket cannot be given to a container."""


def mount_socket(session: Session, body: dict[str, Any]) -> Callable[[str], None] | None:
    """Adds the mount to the body, and gives what has to be done once there is a container."""
    address = session.endpoint.address
    if not address.startswith("unix://"):
        raise SocketError(
            f"flag --use-api-socket can only be used with unix sockets: docker endpoint {address} incompatible"
        )
    mount = {"Type": "bind", "Source": address.removeprefix("unix://"), "Target": SOCKET, "BindOptions": {}}
    host = body["HostConfig"]
    host["Mounts"] = [*host.get("Mounts", ()), mount]
    auths = session.config.get("auths")
    environment: list[str] = body["Env"] or []
    if not auths or any(pair.startswith("DOCKER_CONFIG=") for pair in environment):
        return None
    body["Env"] = [*environment, f"DOCKER_CONFIG={os.path.dirname(CONFIG)}"]
    return lambda container: _put_config(session, container, auths)


def _put_config(session: Session, container: str, auths: Any) -> None:
    import io
    import tarfile

    from wherry.client.client import container_path
    from wherry.client.lean import dumps

    data = dumps({"auths": auths})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(CONFIG.lstrip("/"))
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
    whole = archive.getvalue()
    session.client.request(
        "PUT", container_path(container, "archive"), query={"path": "/"}, data=[whole], size=len(whole)
    ).read()
