"""What clients ask of the builder: images of Dockerfiles and of graphs, and what is in them."""

import asyncio
import contextlib
import functools
import secrets
import time
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from wherry.common import reference
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.common.ignore import PatternMatcher
from wherry.dockerfile.stages import Platform
from wherry.engine import platforms
from wherry.engine.builder import context as contexts
from wherry.engine.builder import graph_build, progress
from wherry.engine.builder.cache_usage import CacheUsage
from wherry.engine.builder.context import Context
from wherry.engine.builder.graph import Graph
from wherry.engine.builder.graph_solver import Decode, Fetch, GraphSolver, Ref, Watch
from wherry.engine.builder.mounts import CacheMounts
from wherry.engine.builder.progress import Event, Progress
from wherry.engine.builder.provenance import Invocation, Material, Wanted, provenance, wants_sbom
from wherry.engine.builder.request import Attachables, BuildRequest, Client
from wherry.engine.builder.run import Containers
from wherry.engine.builder.solver import Solver
from wherry.engine.builder.steps import AllBuilds
from wherry.engine.builder.subrequests import Question, find_warnings
from wherry.engine.context import Context as EngineContext
from wherry.engine.context import Service
from wherry.engine.image.attestation import scan, url_of_image
from wherry.engine.image.bundle import Format, Result
from wherry.engine.image.exports import Exports
from wherry.engine.image.images import Images
from wherry.engine.image.pull import Source
from wherry.engine.image.remote_cache import Caches, RemoteCache
from wherry.engine.platforms import name as platform_name
from wherry.registry.auth import NOBODY, Credentials
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import Tree, Workspace
from wherry.storage.images import Image
from wherry.storage.worker import client, jobs

_KEPT_FOR = 60.0  # seconds that what a client has handed over waits for its build
_PATIENCE = 10.0  # seconds that builds get to end when the engine does
_COLLECT_EVERY = 600.0  # seconds: all files of cache mounts have to be looked at for it


Held = TypeVar("Held")
FindContext = Callable[[Workspace], Awaitable[Context]]


class Builder(Service):
    """``images`` gives names and pulls."""

    def __init__(
        self, context: EngineContext, images: Images, exports: Exports, caches: Caches, containers: Containers
    ) -> None:
        super().__init__(context)
        self._images = images
        self._exports = exports
        self._caches = caches
        self._finished: dict[str, Finished] = {}
        self._containers = containers
        self._cache_mounts = CacheMounts(context.store.build_cache)
        self.cache = CacheUsage(context.store, self._cache_mounts)
        self._steps: AllBuilds = {}
        self._given: dict[str, Attachables] = {}
        self._works: set[asyncio.Task[Any]] = set()
        self._underway: set[asyncio.Future[None]] = set()
        self._collecting: asyncio.Task[None] | None = None
        self._collected = -_COLLECT_EVERY
        self.begun = 0
        self.failures: Counter[type[BaseException]] = Counter()

    # --- build

    def hold(self, given: Attachables) -> str:
        """Takes what a build will need and no request's address may hold; the word to ask for it with, once."""
        return _hold(self._given, given)

    def take(self, token: str) -> Attachables:
        """Raises NotFound when it was taken, or has waited for too long."""
        try:
            return self._given.pop(token)
        except KeyError:
            raise NotFound("what was handed over for this build is not here any more") from None

    def finished(self, token: str) -> "Finished":
        """What is known of a build that has just ended. Raises NotFound."""
        try:
            return self._finished[token]
        except KeyError:
            raise NotFound("what is known of this build is not here any more") from None

    def from_stream(self, request: BuildRequest, stream: AsyncIterable[bytes]) -> "FindContext":
        """The context is a tar."""

        async def find(area: Workspace) -> Context:
            return await contexts.receive(area, stream, request.dockerfile, request.outside)

        return find

    def from_remote(self, request: BuildRequest, address: str) -> "FindContext":
        """It is a repository, or behind a URL."""
        keep_git = request.arguments.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") == "1" or None

        async def find(area: Workspace) -> Context:
            return await contexts.fetch(area, address, request.dockerfile, keep_git=keep_git)

        return find

    def from_directory(
        self, request: BuildRequest, directory: str, text: bytes | None = None, ignore: bytes | None = None
    ) -> "FindContext":
        """It is a directory of this machine, which is read where it lies.

        ``text`` is a Dockerfile from elsewhere, ``ignore`` the .dockerignore beside that one.
        """

        async def find(_: Workspace) -> Context:
            return contexts.on_this_machine(directory, request.dockerfile, text, ignore)

        return find

    async def look(self, request: BuildRequest, find: "FindContext") -> Context:
        """The context alone, whose files are gone afterwards. Raises EngineError."""
        async with self._store.build_snapshots.workspace() as workspace:
            return await find(workspace)

    def question(self, request: BuildRequest, context: Context) -> Question:
        """What can be asked of a Dockerfile without building it."""
        ignored = context.left_out or PatternMatcher(context.ignored)
        return Question(
            context.dockerfile, context.name, request.target, request.arguments, ignored, self._environment_of
        )

    def _environment_of(self, image: str) -> list[str] | None:
        """The names of the variables that an image which is here brings."""
        try:
            config = self._store.images.get(image).config.config
        except EngineError:
            return None
        return [variable.partition("=")[0] for variable in (config.env if config else None) or ()]

    async def build(self, request: BuildRequest, find: "FindContext") -> AsyncIterator[Event]:
        """Builds from the context that ``find`` brings into the build's workspace, for one platform after the other:
        what is the same for all of them is found in the cache then."""
        names = [reference.parse_to_tag(name) for name in request.tags]
        wanted = _platforms(request.platform)
        heard, begun = Progress(), time.time_ns()
        async with self._is_underway(), self._store.build_snapshots.workspace() as workspace:
            context = await find(workspace)
            self._check(self.question(request, context), heard)
            finished = Finished(context.dockerfile, context.name, started=begun)
            work = asyncio.create_task(self._solve_all(request, wanted, context, workspace, heard, finished))
            self._works.add(work)
            work.add_done_callback(self._works.discard)
            events = heard.follow(work)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
            work.result()
            images = finished.images
            for image in images.values():
                self._images.built(image)
            results = [Result(image) for image in images.values()]
            if names:
                await self._exports.put_names(results, Format(), names)
        primary = self._exports.primary(results)
        token = _hold(self._finished, finished)
        several = images if len(images) > 1 else {}
        yield progress.Built(primary, [name.familiar for name in names], bool(finished.new), several, token)
        if time.monotonic() - self._collected > _COLLECT_EVERY:
            self._collected = time.monotonic()
            self._collecting = asyncio.create_task(self.cache.collect())

    @staticmethod
    def _check(question: Question, heard: Progress) -> None:
        """Tells what the checks find. Raises InvalidParameter where that is to end the build."""
        found, is_error = find_warnings(question)
        for each in found:
            end = max(each.position.end, each.position.line)
            heard.tell(progress.Checked(each.short, each.description, each.url, each.position.line, end))
        if found and is_error:
            rules = ", ".join(sorted({each.rule for each in found}))
            raise InvalidParameter(f"lint violation found for rules: {rules}")

    async def _solve_all(
        self,
        request: BuildRequest,
        platforms: Sequence[str],
        context: Context,
        workspace: Workspace,
        heard: Progress,
        finished: "Finished",
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            request, caches = await self._open_caches(request, heard, stack)
            await self._solve_each(request, platforms, context, workspace, heard, finished, caches)

    async def _open_caches(
        self, request: BuildRequest, heard: Progress, stack: contextlib.AsyncExitStack
    ) -> tuple[BuildRequest, list[RemoteCache]]:
        """The caches of other places, open while the build goes on; the request with those names that are images'."""
        opened, images = [], []
        for name in request.cache_from:
            wanted = reference.parse(name).with_default_tag()
            if request.only_cache_from or self._store.images.resolve(wanted) is not None:
                images.append(name)
                continue
            try:
                credentials = await self._credentials(request, wanted)
                place = await stack.enter_async_context(self._caches.in_registry(wanted, credentials))
                found = await self._caches.open(place)
            except EngineError as error:
                heard.tell(progress.Warned(f"no cache from {name}: {error.message}"))
                continue
            if found is None:
                images.append(name)
            else:
                opened.append(found)
        for blobs in request.caches:
            try:
                found = await self._caches.open(blobs)
            except EngineError as error:
                heard.tell(progress.Warned(f"no cache from the client: {error.message}"))
                continue
            opened += [found] if found is not None else []
        return msgspec.structs.replace(request, cache_from=tuple(images)), opened

    async def _solve_each(
        self,
        request: BuildRequest,
        platforms: Sequence[str],
        context: Context,
        workspace: Workspace,
        heard: Progress,
        finished: "Finished",
        caches: Sequence[RemoteCache],
    ) -> None:
        before: progress.OfPlatform | None = None
        for platform in platforms:
            if len(platforms) > 1:
                before = progress.OfPlatform(heard, platform, before)
            own = msgspec.structs.replace(request, platform=platform)
            solver = Solver(
                own,
                context,
                workspace,
                store=self._store,
                containers=self._containers,
                cache_mounts=self._cache_mounts,
                pull=functools.partial(self._pull, own),
                heard=before or heard,
                caches=caches,
                all_builds=self._steps,
            )
            try:
                finished.images[platform] = await solver.solve()
            except BaseException:
                for image in finished.new:  # nobody knows of them: only all together have a name
                    await self._images.remove(image, prune=False)
                raise
            finished.records |= solver.records
            finished.bases[platform] = solver.bases()
            finished.new += [finished.images[platform]] if solver.is_new else []

    @contextlib.asynccontextmanager
    async def _is_underway(self) -> AsyncIterator[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._underway.add(ended)
        self.begun += 1
        try:
            yield
        except BaseException as error:
            self.failures[type(error)] += 1
            raise
        finally:
            self._underway.discard(ended)
            ended.set_result(None)

    async def close(self) -> None:
        """Ends the builds under way, with their containers."""
        for work in list(self._works):
            work.cancel()
        if self._collecting is not None:
            self._collecting.cancel()
        if self._underway:
            await asyncio.wait(set(self._underway), timeout=_PATIENCE)

    async def _pull(self, request: BuildRequest, name: str, platform: str) -> AsyncIterator[dict[str, Any]]:
        wanted = reference.parse(name).with_default_tag()
        credentials = await self._credentials(request, wanted)
        tag = wanted.digest or wanted.tag
        async for message in self._images.pull(wanted.familiar_name, tag, platform, credentials):
            yield message

    @staticmethod
    async def _credentials(request: BuildRequest, wanted: reference.Reference) -> Credentials:
        credentials = request.credentials.get(wanted.domain, NOBODY)
        if not credentials and request.client is not None:
            return await request.client.credentials(wanted.domain)
        return credentials

    async def find_image(self, name: str, platform: str, asking: Client | None) -> str:
        """The id of an image that is here, or is pulled. Raises EngineError."""
        if (here := self._store.images.resolve(reference.parse(name).with_default_tag())) is not None:
            return here
        async for message in self._pull(BuildRequest(client=asking), name, platform):
            if "error" in message:
                raise EngineError(str(message["error"]))
        return self._store.images.get(name).id

    def unpacked(self, image: str) -> contextlib.AbstractAsyncContextManager[str]:
        """A directory with the files of an image, which is gone after the block."""
        return self._exports.unpacked({"": Result(image)})

    async def bring_image(self, source: Source, digest: str, platform: str, stack: contextlib.AsyncExitStack) -> str:
        """The id of an image from elsewhere, which is here while ``stack`` is open. Raises EngineError."""
        image, is_new = await self._images.bring(source, digest, platform)
        if is_new:
            stack.push_async_callback(self.discard, image)
        return image

    # --- what is attested of it

    async def attest(
        self, finished: "Finished", options: Mapping[str, str], ref: str, names: Sequence[str] = ()
    ) -> list[Result]:
        """What was built, with what the options (``attest:…``) want to be attested of it. Raises EngineError."""
        wanted = Wanted.parse(options["attest:provenance"]) if "attest:provenance" in options else None
        scans = wants_sbom(options.get("attest:sbom"))
        results = []
        for platform, image_id in finished.images.items():
            image, said = self._store.images.get(image_id), []
            if wanted is not None:
                said.append(provenance(wanted, self._invocation(finished, options, ref, platform, image)))
            if scans:
                said.append(await scan(self._store, image, next(iter(names), "")))
            results.append(Result(image_id, tuple(said)))
        return results

    def _invocation(
        self, finished: "Finished", options: Mapping[str, str], ref: str, platform: str, image: Image
    ) -> Invocation:
        return Invocation(
            ref,
            options,
            platform_name(platforms.of_image(image)),
            [self._material(*base) for base in finished.bases.get(platform, ())],
            finished.started,
            time.time_ns(),
            finished.source,
            finished.name,
            finished.dockerfile,
        )

    def _material(self, name: str, image_id: str) -> Material:
        """A base image: by the digest of what it was pulled as, if it was."""
        image, wanted = self._store.images.get(image_id), reference.parse(name).with_default_tag()
        pulled = [
            each.digest for each in self._store.images.names(image_id) if each.digest and each.name == wanted.name
        ]
        return Material(url_of_image(wanted, platforms.of_image(image)), pulled[0] if pulled else image_id)

    # --- graphs

    async def build_graph(
        self, request: BuildRequest, graph: Graph, *, fetch: Fetch, decode: Decode, watch: Watch
    ) -> tuple[str, bool]:
        """The image that a graph's files make, and whether it was not there before. Raises EngineError."""
        async with self._is_underway(), self._store.build_snapshots.workspace() as workspace:
            solver = GraphSolver(
                request,
                workspace,
                store=self._store,
                containers=self._containers,
                cache_mounts=self._cache_mounts,
                fetch=fetch,
                decode=decode,
                watch=watch,
                all_builds=self._steps,
            )
            return await graph_build.build_graph(solver, graph, workspace, self._store)

    def configure(self, image: str, document: bytes) -> tuple[str, bool]:
        """An image with the same files and another configuration. Raises InvalidParameter."""
        return graph_build.configure(self._store, image, document)

    async def read_file(self, image: str, path: str, offset: int, length: int) -> bytes:
        """A part of a file of an image; ``length`` 0 is all from ``offset`` on. Raises NotFound, InvalidParameter."""
        mount = graph_build.view(self._store, image)
        return b64decode(await client.run(jobs.ReadFile(mount=mount, path=path, offset=offset, length=length)))

    async def list_directory(self, image: str, path: str, pattern: str) -> list[jobs.FileInfo]:
        """What is in a directory of an image, by names that match. Raises NotFound, InvalidParameter."""
        job = jobs.ListDirectory(mount=graph_build.view(self._store, image), path=path, pattern=pattern)
        found: list[jobs.FileInfo] = await client.run(job)
        return found

    async def look_at(self, image: str, path: str) -> jobs.FileInfo:
        """What is at a path of an image, its links followed. Raises NotFound, InvalidParameter."""
        found: jobs.FileInfo = await client.run(jobs.LookAt(mount=graph_build.view(self._store, image), path=path))
        return found

    def tree_of(self, image: str) -> Ref:
        """An image's files, for a graph."""
        chain_id = self._store.images.get(image).chain_id
        return Ref(Tree(chain_id), chain_id)

    async def discard(self, image: str) -> None:
        """Removes an image that was made on the way, unless somebody has given it a name or uses it."""
        with contextlib.suppress(EngineError):
            if not self._store.images.names(image):
                await self._images.remove(image, prune=False)


class Finished(msgspec.Struct):
    """What is known of a build that has ended, for as long as its results may still be exported: the images by their
    platforms, which of them were not there before, the cache's records of all steps, and what each image was based on
    (names and ids)."""

    dockerfile: bytes
    name: str
    images: dict[str, str] = {}
    new: list[str] = []
    records: dict[str, Record] = {}
    bases: dict[str, list[tuple[str, str]]] = {}
    started: int = 0
    source: str = ""


def _hold(held: dict[str, Held], thing: Held) -> str:
    """The word to ask for it with, for a while."""
    token = secrets.token_hex(16)
    held[token] = thing
    asyncio.get_running_loop().call_later(_KEPT_FOR, held.pop, token, None)
    return token


def _platforms(text: str) -> list[str]:
    """The platforms that are asked for, with commas between them; [""] for this machine's. Raises InvalidParameter."""
    found = list(dict.fromkeys(text.split(",")))
    for each in found:
        if each or len(found) > 1:
            _check_platform(each)
    return found


def _check_platform(text: str) -> None:
    wanted = Platform.parse(text)
    if wanted.os not in ("linux", "windows", "darwin", "freebsd"):
        raise InvalidParameter(f'invalid platform "{text}": unknown operating system or architecture')
