"""Builds: a folder, a text or files in memory go to the engine's builder, an image comes back."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.client.c_modules import dumps
from wherry.client.context import OUTSIDE, pack
from wherry.client.pack import Packer
from wherry.client.process import pieces_of
from wherry.client.transport import ClientError

if TYPE_CHECKING:
    from wherry.client.client import AsyncClient
    from wherry.client.process import Input

# wherry's own stream of events; another engine answers with Docker's, which is text.
_EVENTS = "application/vnd.wherry.build+json"


class BuildFailed(ClientError):
    """A step failed, or the Dockerfile says something that cannot be. The text says where.

    `exit_code` is that of the command which failed, 1 for what was no command; `log` is all that the build said.
    """

    def __init__(self, message: str, exit_code: int, log: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log = log


class BuildEvent(NamedTuple):
    """What happens in a build.

    `type` is planned (with the number of steps), begun (a step, `text` its instruction), running, printed (`text`, on
    `stream` 1 or 2), pulled (`text` of the pull of a base), done (`cached`, after `seconds`), failed (`text` is why),
    warned, checked, or built (`text` is the image's id). Docker's engine tells all of it as text: printed.
    """

    type: str
    step: int = 0
    text: str = ""
    stream: int = 1
    cached: bool = False
    seconds: float = 0.0


class Request(NamedTuple):
    """What is built. See AsyncEngine.build."""

    query: Mapping[str, Any]
    path: str | os.PathLike[str] | None = None
    text: str | None = None
    dockerfile: str | os.PathLike[str] = ""
    context: Mapping[str, bytes | str] | None = None
    fileobj: Input | None = None
    secrets: Mapping[str, bytes | str | os.PathLike[str]] | None = None
    output: Callable[[str], object] | None = None
    progress: Callable[[BuildEvent], object] | None = None


async def build(client: AsyncClient, request: Request) -> str:
    """The image's id. Raises ValueError, BuildFailed, APIError, OSError."""
    data, query = _context(client, request)
    headers = {"Accept": _EVENTS} if request.progress is not None else {}
    if request.secrets:
        given = {name: b2a_base64(_content(value), newline=False).decode() for name, value in request.secrets.items()}
        query["given"] = await client.images.give({"secrets": given, "ssh": {}, "allow": []})
    response = await client.images.build(data, {**request.query, **query, "rm": True}, headers)
    try:
        return await _follow(response.values(), request)
    finally:
        response.close()  # which ends a build that nobody waits for any more


def query_of(**given: Any) -> dict[str, Any]:
    """What is not there is left out, lists are JSON."""
    return {key: dumps(value).decode() if isinstance(value, list) else value for key, value in given.items() if value}


def _content(value: bytes | str | os.PathLike[str]) -> bytes:
    """A secret: its bytes, or the file at a path."""
    if isinstance(value, os.PathLike):
        with open(value, "rb") as file:
            return file.read()
    return value.encode() if isinstance(value, str) else value


def _context(client: AsyncClient, request: Request) -> tuple[AsyncIterator[bytes | memoryview], dict[str, Any]]:
    """The body, and what the request says of it."""
    path, text, name = request.path, request.text, os.fspath(request.dockerfile)
    if sum(given is not None for given in (path, request.context, request.fileobj)) > 1:
        raise ValueError("path, context and fileobj are three ways to give a context: give one of them")
    if request.fileobj is not None:
        return pieces_of(client.loop, request.fileobj), {"dockerfile": name or None}
    if request.context is not None:
        files = dict(request.context)
        if text is not None:
            files[name or "Dockerfile"] = text
        return client.loop.iterate(_packed(files)), {"dockerfile": name or None}
    if path is not None:
        name, content, outside = _dockerfile(os.fspath(path), name, text)
        query = {"dockerfile": name or None, "outside": outside or None}
        return client.loop.iterate(pack(os.fspath(path), name, content)), query
    if text is None:
        raise ValueError("nothing to build: give a folder, a context, or a Dockerfile as a text")
    return pieces_of(client.loop, text), {}


def _packed(files: Mapping[str, bytes | str]) -> Iterator[bytes | memoryview]:
    packer = Packer()
    for name, content in files.items():
        yield from packer.text(name, content.encode() if isinstance(content, str) else content)
    yield packer.end()


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


async def _follow(messages: AsyncIterator[dict[str, Any]], request: Request) -> str:
    """The image's id."""
    said: list[str] = []
    image = ""
    async for message in messages:
        if "errorDetail" in message:
            detail = message["errorDetail"]
            raise BuildFailed(str(detail.get("message")), int(detail.get("code") or 1), "".join(said))
        image = str((message.get("aux") or {}).get("ID") or (message.get("type") == "built" and message["id"]) or image)
        piece = str(message.get("stream") or "") if "type" not in message else str(message.get("text", ""))
        if message.get("type", "printed") == "printed" and piece:
            said.append(piece)
            if request.output is not None:
                request.output(piece)
        if request.progress is not None and ("type" in message or piece):
            request.progress(_event(message, piece))
    if not image:
        raise BuildFailed("the engine ended before the build did", 1, "".join(said))
    return image


def _event(message: Mapping[str, Any], text: str) -> BuildEvent:
    kind = str(message.get("type", "printed"))
    if kind == "planned":
        return BuildEvent(kind, int(message["total"]))
    if kind == "pulled":
        text = str(message["message"].get("status", ""))
    elif kind in ("failed", "built", "running"):
        text = str(message.get("reason") or message.get("id") or message.get("container") or "")
    return BuildEvent(
        kind,
        int(message.get("step", 0)),
        text,
        int(message["stream"]) if kind == "printed" and "type" in message else 1,
        bool(message.get("cached", False)),
        float(message.get("seconds", 0.0)),
    )
