"""POST /build?version=2: BuildKit's progress as JSON lines, for clients older than buildx, or without a session.

The docker CLI up to 20.10 opens a session of its own and names it; others (dockerode) send the context as a tar.
"""

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from wherry.buildkit import exporter
from wherry.buildkit.build import Build
from wherry.buildkit.errors import headline, located
from wherry.buildkit.exporter import Export
from wherry.buildkit.service import BuildKit
from wherry.buildkit.trace import Trace
from wherry.common.errors import EngineError
from wherry.engine.builder import progress
from wherry.engine.builder.progress import Event
from wherry.engine.builder.request import BuildRequest

_TRACE, _IMAGE = "moby.buildkit.trace", "moby.image.id"


async def from_session(
    kit: BuildKit, session_id: str, ref: str, request: BuildRequest, outputs: list[Mapping[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Builds from what the session's client has. Raises EngineError before the first message."""
    session = await kit.sessions.get(session_id)
    build = Build(ref or secrets.token_hex(8), session, request.given.allow)
    exports = [
        Export(number, str(each.get("Type", "")), dict(each.get("Attrs") or {})) for number, each in enumerate(outputs)
    ]
    exporter.check(exports)

    async def work() -> str:
        solved = await build.solve(kit.engine.builder, kit.sources, "dockerfile.v0", _options(request))
        wanted = exports or [Export(0, "moby", {"name": ",".join(request.tags)})]
        build.response = await exporter.export(kit.engine, build, solved, wanted)
        return solved.image

    kit.begin(build)
    try:
        async for message in _messages(build.trace, work):
            yield message
    except EngineError as error:
        build.error = error
        raise
    finally:
        build.completed = time.time_ns()
        kit.end(build)


async def from_events(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
    """The progress of a build that the engine carries out already, from a tar say."""
    trace = Trace(secrets.token_hex(8))

    async def work() -> str:
        image = ""
        try:
            async for event in events:
                trace.take(event)
                if isinstance(event, progress.Built):
                    image = event.id
        except EngineError as error:
            trace.fail(headline(error))
            raise located(error, b"") from None
        return image

    async for message in _messages(trace, work):
        yield message


async def _messages(trace: Trace, work: Callable[[], Coroutine[Any, Any, str]]) -> AsyncIterator[dict[str, Any]]:
    task = asyncio.create_task(work())
    task.add_done_callback(lambda _: trace.close())
    try:
        async for answer in trace.follow():
            yield {"id": _TRACE, "aux": b64encode(answer.SerializeToString()).decode()}
        yield {"id": _IMAGE, "aux": {"ID": await task}}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _options(request: BuildRequest) -> dict[str, str]:
    """The frontend's options that a request of the classic API's is."""
    options = {f"build-arg:{name}": value for name, value in request.arguments.items()}
    options |= {f"label:{name}": value for name, value in request.labels.items()}
    said = {
        "filename": request.dockerfile,
        "target": request.target,
        "platform": request.platform,
        "force-network-mode": "" if request.network == "default" else request.network,
        "add-hosts": ",".join(entry.replace(":", "=", 1) for entry in request.extra_hosts),
        "cache-from": ",".join(request.cache_from),
        "image-resolve-mode": "pull" if request.pull else "",
        "shm-size": str(request.limits.shm_size or ""),
        "cgroup-parent": request.limits.cgroup_parent,
        "ulimit": ",".join(f"{each.name}={each.soft}:{each.hard}" for each in request.limits.ulimits),
    }
    options |= {name: value for name, value in said.items() if value}
    return {**options, "no-cache": ""} if request.no_cache else options
