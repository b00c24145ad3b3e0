"""What all of BuildKit's clients of one engine share: sessions, builds under way, and the directories they sent."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from wherry.buildkit import messages
from wherry.buildkit.build import Build
from wherry.buildkit.filesync import Sources
from wherry.buildkit.grpc import Method, Server, Service
from wherry.buildkit.history import History
from wherry.buildkit.session import Session, Sessions
from wherry.common.errors import InvalidParameter, NotFound
from wherry.engine.engine import Engine

_PATIENCE = 10.0  # seconds that a question about a build waits for that build to begin
_SERVING = 1


class BuildKit:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sessions = Sessions()
        self.sources = Sources(f"{engine.config.data_root}/build-contexts")
        self.builds: dict[str, Build] = {}
        self.history = History(f"{engine.config.data_root}/build-history")
        self._begun = asyncio.Event()
        self._left: set[str] = set()  # images that no build was to leave, and that one under way may still need

    def server(self) -> Server:
        """Makes the server of one connection."""
        from wherry.buildkit import control, gateway

        return Server(control.service(self), gateway.service(self), _HEALTH)

    def open_session(self, session_id: str, shared_key: str, methods: Sequence[str]) -> Session:
        """Raises InvalidParameter, Conflict."""
        if not session_id:
            raise InvalidParameter("a session needs an id")
        session = Session(session_id, shared_key, methods)
        self.sessions.add(session)
        return session

    def begin(self, build: Build) -> None:
        """Raises InvalidParameter for a build whose name another one has."""
        if not build.ref or build.ref in self.builds:
            raise InvalidParameter(f"invalid or used ref {build.ref!r}")
        self.builds[build.ref] = build
        if not build.is_internal:
            self.history.started(build)
        self._begun.set()
        self._begun = asyncio.Event()

    def end(self, build: Build) -> None:
        build.trace.close()
        del self.builds[build.ref]
        if not build.is_internal:
            self.history.add(build)
        made = {result.image for _, result in build.results.values()} if build.error is None else ()
        for image in made:
            self.engine.images.note_build(image, build.ref, build.completed or build.created)

    async def clear(self, images: Iterable[str]) -> None:
        """Removes images that a build has made on its way, once no other is under way that may stand on them, as one
        target of bake's does on another's."""
        self._left.update(images)
        while self._left and not self.builds:
            await self.engine.builder.discard(self._left.pop())

    async def build(self, ref: str) -> Build:
        """One under way. Raises NotFound."""
        await self._wait_for(ref)
        if ref not in self.builds:
            raise NotFound(f"the build {ref} has ended")
        return self.builds[ref]

    async def progress(self, ref: str) -> AsyncIterator[Any]:
        """All that is told of a build, also of one that has ended, as StatusResponses. Raises NotFound."""
        await self._wait_for(ref)
        told = self.builds[ref].trace.follow() if ref in self.builds else self.history.progress(ref)
        async for answer in told:
            yield answer

    async def _wait_for(self, ref: str) -> None:
        """Clients ask for the progress of a build before they ask for it."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while ref not in self.builds and ref not in self.history:
                    await self._begun.wait()
        except TimeoutError:
            raise NotFound(f"no such job {ref}") from None


async def _check_health(request: Any, metadata: Any) -> Any:
    return messages.HealthCheckResponse(status=_SERVING)


_HEALTH: Service = {"/grpc.health.v1.Health/Check": Method(messages.HealthCheckRequest, _check_health)}
