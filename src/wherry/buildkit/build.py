"""One build that a client asked for by BuildKit's protocol, from its solve to its results."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from wherry.buildkit import frontend
from wherry.buildkit.content import OCI_LAYOUT, read_layout
from wherry.buildkit.definition import context_of, of_result, result_of
from wherry.buildkit.errors import headline, located
from wherry.buildkit.filesync import Sources
from wherry.buildkit.graphs import Graphs
from wherry.buildkit.grpc import NOT_FOUND, RpcError
from wherry.buildkit.session import Session
from wherry.buildkit.trace import Trace, Vertex
from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.engine import platforms
from wherry.engine.builder import git, progress, provenance
from wherry.engine.builder.builder import Builder
from wherry.engine.builder.context import Context, is_url, on_this_machine
from wherry.engine.builder.request import BuildRequest, NamedContext
from wherry.engine.builder.subrequests import Answer, ask
from wherry.engine.image.bundle import Result
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import Workspace

_DOCKERFILE = "dockerfile.v0"
_INLINE_CACHE = "BUILDKIT_INLINE_CACHE"


class Solved(msgspec.Struct):
    """What was built, by its platforms; ``image`` is the one that a name means on this machine. "" for nothing."""

    image: str = ""
    results: dict[str, Result] = {}

    @classmethod
    def of(cls, image: str) -> "Solved":
        """One image, for this machine."""
        return cls(image, {platforms.name(platforms.host()): Result(image)})

    def for_export(self, *, inline_only: bool) -> list[Result]:
        """``inline_only``: with what is only attested of images that leave the engine."""
        return [
            Result(each.image, tuple(said for said in each.attestations if inline_only or not said.inline_only))
            for each in self.results.values()
        ]


class Build:
    """``results`` are the images made for the client, by what it calls them, each with its platform; ``returned`` is
    what it decided for."""

    def __init__(self, ref: str, session: Session | None, entitlements: tuple[str, ...]) -> None:
        self.ref = ref
        self.session = session
        self.entitlements = entitlements
        self.trace = Trace(ref)
        self.is_internal = False  # a question of a client's, which no user knows of
        self.inline_cache = False  # what the steps were made of is to be told in the image
        self.results: dict[str, tuple[str, Result]] = {}
        self.records: dict[str, Record] = {}  # of the cache, by their keys
        self.returned: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.frontend_options: dict[str, str] = {}
        self.exporters: list[tuple[str, dict[str, str]]] = []
        self.created = time.time_ns()
        self.completed = 0
        self.error: EngineError | None = None
        self.response: dict[str, str] = {}
        self.inputs: dict[str, Any] = {}  # graphs that the client has given the frontend
        self.graphs: set[str] = set()  # images of graphs, which have no configuration of their own
        self.made: list[str] = []  # images on the way to the result, which may be of no use in the end
        self._dockerfile = b""

    async def solve(
        self,
        builder: Builder,
        sources: Sources,
        name: str,
        options: Mapping[str, str],
        inputs: Mapping[str, Any] | None = None,
    ) -> Solved:
        """Builds what a frontend's options say, of which some may mean graphs (``inputs``). Raises EngineError."""
        if name == "gateway.v0" and frontend.is_own(options.get("source", "")):
            name = _DOCKERFILE
        if name != _DOCKERFILE:
            raise NotSupported(f"frontend {name} is not supported: expected {_DOCKERFILE}")
        session = self._its_session()
        self.frontend_options = dict(options)
        if self.inline_cache:
            self.frontend_options[f"build-arg:{_INLINE_CACHE}"] = "1"
        provenance.check(options)
        request = frontend.read_options(self.frontend_options, self.entitlements, self.session)
        local = frontend.Local(options, session, sources)
        try:
            async with contextlib.AsyncExitStack() as stack:
                graphs = {
                    name: await self._of_one_source(builder, sources, each) for name, each in (inputs or {}).items()
                }
                for name in {"context", "dockerfile"} & graphs.keys():
                    image = result_of(context_of(graphs[name])) or await self.solve_graph(
                        builder, sources, graphs[name]
                    )
                    local.given[name] = await stack.enter_async_context(builder.unpacked(image))
                named = await self._named_contexts(builder, frontend.read_contexts(options, graphs), local, stack)
                request = msgspec.structs.replace(request, contexts=named)

                async def find(workspace: Workspace) -> Context:
                    return await self._context(workspace, local, stack)

                solved = Solved()
                async for event in builder.build(request, find):
                    self.trace.take(event)
                    if isinstance(event, progress.Built):
                        solved = await self._solved(builder, request, event)
                return solved
        except EngineError as error:
            self.trace.fail(headline(error))
            raise located(error, self._dockerfile) from None
        except asyncio.CancelledError:
            self.trace.fail("context canceled")
            raise

    async def answer(self, builder: Builder, sources: Sources, options: Mapping[str, str]) -> Answer:
        """What is asked of the Dockerfile without building it. Raises EngineError."""
        request = frontend.read_options(options, self.entitlements, self.session)
        local = frontend.Local(options, self._its_session(), sources)
        try:
            with self.step(f"[internal] load build definition from {local.filename}"):
                context = await builder.look(request, lambda workspace: self._definition(workspace, local))
            subject = options["requestid"].removeprefix("frontend.")
            return ask(subject, builder.question(request, context))
        except EngineError as error:
            raise located(error, self._dockerfile) from None

    def _its_session(self) -> Session:
        if self.session is None:
            raise InvalidParameter("a build needs a session, by which its files come")
        return self.session

    async def _solved(self, builder: Builder, request: BuildRequest, built: progress.Built) -> Solved:
        finished = builder.finished(built.token)
        self.records |= finished.records
        self.made += finished.new
        if (remote := self.frontend_options.get("context", "")) and not remote.startswith("local:"):
            finished.source = remote
        results = await builder.attest(finished, self.frontend_options, self.ref)
        names = built.images or {request.platform or platforms.name(platforms.host()): built.id}
        return Solved(built.id, dict(zip(names, results, strict=True)))

    async def solve_graph(self, builder: Builder, sources: Sources, definition: Any) -> str:
        """The image that a graph's files make. Raises EngineError."""
        try:
            graphs = Graphs(builder, sources, self.session, self.trace, self.entitlements)
            image, is_new = await graphs.solve(definition)
        except (NotSupported, InvalidParameter) as error:
            self.trace.fail(headline(error))
            raise
        except EngineError as error:
            self.trace.fail(headline(error))
            raise located(error, b"") from None
        except asyncio.CancelledError:
            self.trace.fail("context canceled")
            raise
        if is_new:
            self.made.append(image)
        return image

    def configure(self, builder: Builder, image: str, document: bytes) -> str:
        """The same image with the configuration that the client has made for it."""
        configured, is_new = builder.configure(image, document)
        if is_new:
            self.made.append(configured)
        return configured

    async def _of_one_source(self, builder: Builder, sources: Sources, definition: Any) -> Any:
        """A graph for a named context: one with more in it than a source becomes its result."""
        if context_of(definition):
            return definition
        return of_result(await self.solve_graph(builder, sources, definition))

    async def _named_contexts(
        self, builder: Builder, named: Mapping[str, str], local: frontend.Local, stack: contextlib.AsyncExitStack
    ) -> dict[str, NamedContext]:
        """What the names given with --build-context mean."""
        found = {}
        for name, address in named.items():
            if image := result_of(address):
                found[name] = NamedContext(bring=functools.partial(_itself, image))
            elif address.startswith("docker-image:"):
                found[name] = NamedContext(image=address.removeprefix("docker-image:").removeprefix("//"))
            elif address.startswith("local:"):
                with self.step(f"[context {name}] load from client") as step:
                    tell = functools.partial(step.transferred, f"transferring {name}:")
                    place = local.named(address.removeprefix("local:").lstrip("/"), tell)
                    directory = await stack.enter_async_context(place)
                found[name] = NamedContext(directory=directory)
            elif address.startswith(OCI_LAYOUT):
                layout, digest = read_layout(address, self._its_session())
                bring = functools.partial(builder.bring_image, layout, digest, stack=stack)
                found[name] = NamedContext(bring=bring)
            elif git.is_address(address) or is_url(address):
                found[name] = NamedContext(address=address)
            else:
                raise NotSupported(
                    f"context {name}={address} is not supported: "
                    "expected a folder, a git or http address, docker-image:// or oci-layout://"
                )
        return found

    async def _definition(self, workspace: Workspace, local: frontend.Local) -> Context:
        """The Dockerfile, without the files that it is about."""
        if local.remote:
            return await local.fetch(workspace)
        self._dockerfile, ignore = await local.dockerfile()
        return frontend.context_of("", self._dockerfile, local.filename, ignore)

    async def _context(self, workspace: Workspace, local: frontend.Local, stack: contextlib.AsyncExitStack) -> Context:
        if local.remote:
            with self.step(f"[internal] load remote build context {local.remote}"):
                found = await local.fetch(workspace)
                self._dockerfile = found.dockerfile
                self.trace.describe(found.name, found.dockerfile)
                frontend.check_syntax(found.dockerfile, found.name)
                return found
        with self.step(f"[internal] load build definition from {local.filename}") as step:
            text, ignore = await local.dockerfile()
            self._dockerfile = text
            self.trace.describe(local.filename, text)
            step.transferred("transferring dockerfile:", len(text), True)
            frontend.check_syntax(text, local.filename)
        if "context" in local.given:
            return on_this_machine(local.given["context"], local.filename, text, ignore or None)
        with self.step("[internal] load .dockerignore") as step:
            step.transferred("transferring context:", len(ignore), True)
        with self.step("[internal] load build context") as step:
            tell = functools.partial(step.transferred, "transferring context:")
            try:
                directory = await stack.enter_async_context(local.files(ignore, tell))
            except RpcError as error:
                if error.code != NOT_FOUND:
                    raise
                directory = workspace.directory("context")
        return frontend.context_of(directory, text, local.filename, ignore)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Vertex]:
        """Something that is done beside the builder's steps, as the client is to see it."""
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


async def _itself(image: str, platform: str) -> str:
    """A result is what it is, whatever its configuration says of a platform."""
    return image
