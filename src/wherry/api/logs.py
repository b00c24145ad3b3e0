"""GET /containers/{name}/logs"""

from aiohttp import web

from wherry.api import response
from wherry.api.request import Request
from wherry.engine.engine import Engine
from wherry.model.errors import InvalidParameter

# These put frames together again, and are spared one for each line. Others take a frame for a line, as Docker's are:
# docker-py's ``for line in container.logs(stream=True)``.
_JOINING_FRAMES = ("Docker-Client/", "wherry")


async def logs(request: Request, engine: Engine) -> web.StreamResponse:
    stdout, stderr = request.flag("stdout"), request.flag("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tty = engine.containers.get(request.name).config.tty
    chunks = engine.views.logs(
        request.name,
        stdout=stdout,
        stderr=stderr,
        follow=request.flag("follow"),
        since=request.moment("since"),
        until=request.moment("until") or None,
        tail=_lines(request.text("tail")),
        timestamps=request.flag("timestamps"),
        details=request.flag("details"),
        by_line=not request.http.headers.get("User-Agent", "").startswith(_JOINING_FRAMES),
    )
    return await response.stream(request, chunks, response.stream_type(request, tty), at_once=True)


def _lines(text: str) -> int | None:
    """How many lines of the end; all of them for "all" and for what is no number, as Docker has it."""
    return int(text) if text.isascii() and text.isdigit() else None
