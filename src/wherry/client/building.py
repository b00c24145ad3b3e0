"""`engine.build`: a folder or a text goes to the engine's builder, an image comes back."""

from __future__ import annotations

import os

from wherry.client.errors import ClientError
from wherry.client.images import Image
from wherry.client.packing import OUTSIDE, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from wherry.client.client import Client


class BuildFailed(ClientError):
    """A step failed, or the Dockerfile says something that cannot be. The text says where.

    `exit_code` is that of the command which failed, 1 for what was no command; `log` is all that the build said.
    """

    def __init__(self, message: str, exit_code: int, log: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log = log


def build(
    client: Client,
    path: str | os.PathLike[str] | None,
    text: str | None,
    dockerfile: str | os.PathLike[str],
    query: Mapping[str, Any],
    output: Callable[[str], None] | None,
) -> Image:
    """See `Engine.build`."""
    if path is None:
        if text is None:
            raise ValueError("nothing to build: give a folder, or a Dockerfile as a text")
        data: Iterator[bytes] = iter((text.encode(),))
        name = outside = ""
    else:
        name, content, outside = _dockerfile(os.fspath(path), os.fspath(dockerfile), text)
        data = pack(os.fspath(path), name, content)
    response = client.request(
        "POST",
        "/build",
        query={**query, "dockerfile": name or None, "outside": outside or None, "rm": True},
        data=data,
        headers={"Content-Type": "application/x-tar"},
    )
    return Image(client, _follow(response.values(), output))


def _dockerfile(directory: str, dockerfile: str, text: str | None) -> tuple[str, bytes | None, str]:
    """Its name in the context, and its content and own name when it is none of the folder's files. Raises OSError."""
    if text is not None:
        return OUTSIDE, text.encode(), "Dockerfile"
    if not dockerfile:
        return "", None, ""
    place = os.path.realpath(os.path.join(directory, dockerfile))
    inside = os.path.relpath(place, os.path.realpath(directory))
    if inside.split("/")[0] != "..":
        return inside, None, ""
    with open(place, "rb") as file:
        return OUTSIDE, file.read(), os.path.basename(place)


def _follow(messages: Iterator[dict[str, Any]], output: Callable[[str], None] | None) -> str:
    """The image's id."""
    said: list[str] = []
    image = ""
    for message in messages:
        if "errorDetail" in message:
            detail = message["errorDetail"]
            raise BuildFailed(str(detail.get("message")), int(detail.get("code") or 1), "".join(said))
        image = str((message.get("aux") or {}).get("ID") or image)
        piece = str(message.get("stream") or "")
        if piece:
            said.append(piece)
            if output is not None:
                output(piece)
    if not image:
        raise BuildFailed("the engine ended before the build did", 1, "".join(said))
    return image
