"""A container's files as tars, through the archive API."""

from __future__ import annotations

from wherry.client.c_modules import loads
from wherry.client.client import container_path
from wherry.client.transport import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from wherry.client.client import Client
    from wherry.client.transport import Response

# Bits of Go's os.FileMode, in which the engine tells a path's mode.
DIRECTORY, SYMLINK, DEVICE, IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19

_STAT = "x-docker-container-path-stat"


def stat_path(client: Client, container: str, path: str) -> dict[str, Any]:
    """What there is at a path of a container: `name`, `size`, `mode`, `mtime`, `linkTarget`. Raises APIError."""
    response = client.request("HEAD", container_path(container, "archive"), query={"path": path})
    return _stat_of(response)


def get_archive(client: Client, container: str, path: str) -> tuple[dict[str, Any], Response]:
    """The same, and a response whose body is a tar of it. Raises APIError."""
    response = client.request("GET", container_path(container, "archive"), query={"path": path})
    return _stat_of(response), response


def put_archive(
    client: Client,
    container: str,
    path: str,
    data: Iterable[bytes | memoryview],
    *,
    keep_kinds: bool = True,
    keep_owners: bool = False,
) -> None:
    """Unpacks a tar into a directory of a container. Raises APIError.

    `keep_kinds`: a directory is never replaced by something else, nor the reverse; `keep_owners` is cp's `-a`.
    """
    query = {
        "path": path,
        "noOverwriteDirNonDir": "true" if keep_kinds else None,
        "copyUIDGID": "true" if keep_owners else None,
    }
    headers = {"Content-Type": "application/x-tar"}
    client.request("PUT", container_path(container, "archive"), query=query, data=data, headers=headers).read()


def _stat_of(response: Response) -> dict[str, Any]:
    from binascii import Error, a2b_base64

    try:
        found: dict[str, Any] = loads(a2b_base64(response.headers[_STAT]))
    except (KeyError, Error, ValueError):
        raise ConnectionLost(f"the engine's answer has no {_STAT} header that can be read") from None
    return found
