"""Where the result of a build goes: into the image store under its names, or to the client."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from wherry.buildkit import messages
from wherry.buildkit.build import Build
from wherry.buildkit.filesync import send_directory
from wherry.common import reference
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.engine import Engine

_IMAGE = ("moby", "image")
_SEND = "/moby.filesync.v1.FileSend/DiffCopy"
_PIECE = 1 << 20


class Export(NamedTuple):
    """One exporter; ``number`` is by what the client knows where its output goes."""

    number: int
    type: str
    attributes: dict[str, str]


def read(request: Any) -> list[Export]:
    """Those that a Solve asks for. Raises NotSupported, InvalidParameter: before anything is built."""
    found = [Export(number, each.type, dict(each.attrs)) for number, each in enumerate(request.exporters)]
    if not found and request.exporter:
        found = [Export(0, request.exporter, dict(request.exporter_attrs))]
    check(found)
    return found


def check(exports: list[Export]) -> None:
    """Raises NotSupported, InvalidParameter."""
    for export in exports:
        if export.type not in (*_IMAGE, "local", "tar"):
            raise NotSupported(f"exporter {export.type} is not supported yet: expected image, local or tar")
        for name in _names(export):
            reference.parse_to_tag(name)
        if export.type in _IMAGE and export.attributes.get("push") == "true":
            raise NotSupported("push by the exporter is not supported yet: use docker push")


async def export(engine: Engine, build: Build, image: str, exports: list[Export]) -> dict[str, str]:
    """What the client is told of it. ``image`` is "" for a build without a result. Raises EngineError."""
    response: dict[str, str] = {}
    if not image:
        return response
    for each in exports:
        if each.type in _IMAGE:
            response |= tag(engine, build, image, _names(each))
        elif each.type == "local":
            await _send_files(engine, build, image, each)
        else:
            await _send_tar(engine, build, image, each)
    return response


def _names(export: Export) -> list[str]:
    return [name for name in export.attributes.get("name", "").split(",") if name]


def tag(engine: Engine, build: Build, image: str, given: Sequence[str]) -> dict[str, str]:
    """Gives the image its names; what the client is told of it."""
    vertex = build.trace.vertex("exporting to image")
    vertex.status(f"writing image {image}", 0, 0, done=True)
    names = []
    for name in given:
        wanted = reference.parse_to_tag(name)
        engine.images.tag(image, wanted.familiar)
        vertex.status(f"naming to {wanted}", 0, 0, done=True)
        names.append(str(wanted))
    vertex.end()
    found = {"containerimage.digest": image, "containerimage.config.digest": image}
    return {**found, "image.name": ",".join(names)} if names else found


def _metadata(export: Export) -> list[tuple[str, str]]:
    return [("buildkit-attachable-exporter-id", str(export.number))]


async def _send_files(engine: Engine, build: Build, image: str, export: Export) -> None:
    if build.session is None:
        raise InvalidParameter("there is no session to send the files to")
    vertex = build.trace.vertex("exporting to client directory")
    async with engine.builder.unpacked(image) as directory:
        await send_directory(build.session, directory, _metadata(export))
    vertex.end()


async def _send_tar(engine: Engine, build: Build, image: str, export: Export) -> None:
    if build.session is None:
        raise InvalidParameter("there is no session to send the files to")
    vertex = build.trace.vertex("sending tarball")
    async with build.session.channel.call(_SEND, _metadata(export)) as call:
        async for chunk in engine.builder.files(image):
            for at in range(0, len(chunk), _PIECE):
                await call.send(messages.Bytes(data=chunk[at : at + _PIECE]))
            await asyncio.sleep(0)
        await call.send_end()
        await call.finish()
    vertex.end()
