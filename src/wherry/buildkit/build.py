"""One build that a client asked for by BuildKit's protocol, from its solve to its results."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.buildkit import frontend
from wherry.buildkit.definition import result_of
from wherry.buildkit.errors import headline, located
from wherry.buildkit.filesync import Sources
from wherry.buildkit.session import Session
from wherry.buildkit.trace import Trace
from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.engine.builder import progress
from wherry.engine.builder.builder import Builder
from wherry.engine.builder.context import Context
from wherry.engine.builder.context import fetch as fetch_context
from wherry.engine.builder.request import NamedContext
from wherry.storage.build_snapshots import Workspace

_DOCKERFILE = "dockerfile.v0"
_INLINE_CACHE = "BUILDKIT_INLINE_CACHE"


class Build:
    """``results`` are the images made for the client, by what it calls them; ``returned`` what it decided for."""

    def __init__(self, ref: str, session: Session | None, entitlements: tuple[str, ...]) -> None:
        self.ref = ref
        self.session = session
        self.entitlements = entitlements
        self.trace = Trace(ref)
        self.inline_cache = False  # what the steps were made of is to be told in the image
        self.results: dict[str, str] = {}
        self.returned: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.frontend_options: dict[str, str] = {}
        self.created = time.time_ns()
        self.completed = 0
        self.error: EngineError | None = None
        self.response: dict[str, str] = {}
        self._dockerfile = b""

    async def solve(
        self,
        builder: Builder,
        sources: Sources,
        name: str,
        options: Mapping[str, str],
        inputs: Mapping[str, Any] | None = None,
    ) -> str:
        """Builds what a frontend's options say, of which some may mean graphs (``inputs``); the image's id.

        Raises EngineError.
        """
        if name != _DOCKERFILE:
            raise NotSupported(f"frontend {name} is not supported: expected {_DOCKERFILE}")
        if self.session is None:
            raise InvalidParameter("a build needs a session, by which its files come")
        self.frontend_options = dict(options)
        if self.inline_cache:
            self.frontend_options[f"build-arg:{_INLINE_CACHE}"] = "1"
        request = frontend.read_options(self.frontend_options, self.entitlements, self.session)
        local = frontend.Local(options, self.session, sources)
        try:
            async with contextlib.AsyncExitStack() as stack:
                named = await self._named_contexts(frontend.read_contexts(options, inputs or {}), local, stack)
                request = msgspec.structs.replace(request, contexts=named)

                async def find(workspace: Workspace) -> Context:
                    return await self._context(workspace, local, stack)

                image = ""
                async for event in builder.build(request, find):
                    self.trace.take(event)
                    if isinstance(event, progress.Built):
                        image = event.id
                return image
        except EngineError as error:
            self.trace.fail(headline(error))
            raise located(error, self._dockerfile) from None
        except asyncio.CancelledError:
            self.trace.fail("context canceled")
            raise

    async def _named_contexts(
        self, named: Mapping[str, str], local: frontend.Local, stack: contextlib.AsyncExitStack
    ) -> dict[str, NamedContext]:
        """What the names given with --build-context mean."""
        found = {}
        for name, address in named.items():
            if image := result_of(address):
                found[name] = NamedContext(image=image)
            elif address.startswith("docker-image://"):
                found[name] = NamedContext(image=address.removeprefix("docker-image://"))
            elif address.startswith("local:"):
                with self._step(f"[context {name}] load from client"):
                    directory = await stack.enter_async_context(local.named(address.removeprefix("local:").lstrip("/")))
                found[name] = NamedContext(directory=directory)
            else:
                raise NotSupported(f"context {name}={address} is not supported: expected a folder, or docker-image://")
        return found

    async def _context(self, workspace: Workspace, local: frontend.Local, stack: contextlib.AsyncExitStack) -> Context:
        if local.remote:
            with self._step(f"[internal] load remote build context {local.remote}"):
                found = await fetch_context(workspace, local.remote, self.frontend_options.get("filename", ""))
                self._dockerfile = found.dockerfile
                frontend.check_syntax(found.dockerfile, found.name)
                return found
        with self._step(f"[internal] load build definition from {local.filename}") as step:
            text, ignore = await local.dockerfile()
            self._dockerfile = text
            step.status("transferring dockerfile:", len(text), len(text), done=True)
            frontend.check_syntax(text, local.filename)
        with self._step("[internal] load .dockerignore") as step:
            step.status("transferring context:", len(ignore), len(ignore), done=True)
        with self._step("[internal] load build context") as step:
            directory = await stack.enter_async_context(local.files(ignore))
        return frontend.context_of(directory, text, local.filename)

    @contextlib.contextmanager
    def _step(self, name: str) -> Any:
        vertex = self.trace.vertex(name)
        try:
            yield vertex
        except EngineError as error:
            vertex.end(error=headline(error))
            raise
        except BaseException:
            vertex.end(error="context canceled")
            raise
        vertex.end()
