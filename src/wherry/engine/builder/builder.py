"""What clients ask of the builder: build, prune the cache, say what is in it."""

import asyncio
import contextlib
import functools
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from wherry.common import reference, times
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.dockerfile.stages import Platform
from wherry.engine.builder import context as contexts
from wherry.engine.builder import progress
from wherry.engine.builder.context import Context
from wherry.engine.builder.mounts import CacheMounts
from wherry.engine.builder.progress import Event, Progress
from wherry.engine.builder.request import Attachables, BuildRequest, Client
from wherry.engine.builder.run import Containers
from wherry.engine.builder.solver import Solver
from wherry.engine.image.images import Images
from wherry.registry.auth import NOBODY
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import Workspace
from wherry.storage.store import Store
from wherry.storage.worker import client, jobs

_KEPT_FOR = 60.0  # seconds that what a client has handed over waits for its build
_PATIENCE = 10.0  # seconds that builds get to end when the engine does
_COLLECT_EVERY = 600.0  # seconds: all files of cache mounts have to be looked at for it
_SHARE = 10  # of the file system: the part that the cache may have before what is oldest goes


FindContext = Callable[[Workspace], Awaitable[Context]]


class Builder:
    """``images`` gives names and pulls."""

    def __init__(self, store: Store, images: Images, containers: Containers) -> None:
        self._store = store
        self._images = images
        self._containers = containers
        self._cache_mounts = CacheMounts(store.build_cache)
        self._given: dict[str, Attachables] = {}
        self._works: set[asyncio.Task[str]] = set()
        self._underway: set[asyncio.Future[None]] = set()
        self._collecting: asyncio.Task[None] | None = None
        self._collected = -_COLLECT_EVERY
        self.begun = 0
        self.failures: Counter[type[BaseException]] = Counter()

    # --- build

    def hold(self, given: Attachables) -> str:
        """Takes what a build will need and no request's address may hold; the word to ask for it with, once."""
        token = secrets.token_hex(16)
        self._given[token] = given
        asyncio.get_running_loop().call_later(_KEPT_FOR, self._given.pop, token, None)
        return token

    def take(self, token: str) -> Attachables:
        """Raises NotFound when it was taken, or has waited for too long."""
        try:
            return self._given.pop(token)
        except KeyError:
            raise NotFound("what was handed over for this build is not here any more") from None

    async def from_stream(self, request: BuildRequest, stream: AsyncIterable[bytes]) -> AsyncIterator[Event]:
        """Builds from a tar. Raises EngineError; before the first event that is the request's own fault."""

        async def find(area: Workspace) -> Context:
            return await contexts.receive(area, stream, request.dockerfile, request.outside)

        async for event in self.build(request, find):
            yield event

    async def from_remote(self, request: BuildRequest, address: str) -> AsyncIterator[Event]:
        """Builds from a repository or a URL."""
        keep_git = request.arguments.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") == "1" or None

        async def find(area: Workspace) -> Context:
            return await contexts.fetch(area, address, request.dockerfile, keep_git=keep_git)

        async for event in self.build(request, find):
            yield event

    async def from_directory(
        self, request: BuildRequest, directory: str, text: bytes | None = None, ignore: bytes | None = None
    ) -> AsyncIterator[Event]:
        """Builds from a directory of this machine, which is read where it lies.

        ``text`` is a Dockerfile from elsewhere, ``ignore`` the .dockerignore beside that one.
        """

        async def find(_: Workspace) -> Context:
            return contexts.on_this_machine(directory, request.dockerfile, text, ignore)

        async for event in self.build(request, find):
            yield event

    async def build(self, request: BuildRequest, find: "FindContext") -> AsyncIterator[Event]:
        """Builds from the context that ``find`` brings into the build's workspace."""
        names = [reference.parse_to_tag(name) for name in request.tags]
        if request.platform:
            _check_platform(request.platform)
        heard = Progress()
        async with self._is_underway(), self._store.build_snapshots.workspace() as workspace:
            solver = Solver(
                request,
                await find(workspace),
                workspace,
                store=self._store,
                containers=self._containers,
                cache_mounts=self._cache_mounts,
                pull=functools.partial(self._pull, request),
                heard=heard,
            )
            work = asyncio.create_task(solver.solve())
            self._works.add(work)
            work.add_done_callback(self._works.discard)
            events = heard.follow(work)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
            image_id = work.result()
            self._images.built(image_id)
            for name in names:
                self._images.tag(image_id, name.familiar)
        yield progress.Built(image_id, [name.familiar for name in names], solver.is_new)
        if time.monotonic() - self._collected > _COLLECT_EVERY:
            self._collected = time.monotonic()
            self._collecting = asyncio.create_task(self._collect())

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
        credentials = request.credentials.get(wanted.domain, NOBODY)
        if not credentials and request.client is not None:
            credentials = await request.client.credentials(wanted.domain)
        tag = wanted.digest or wanted.tag
        async for message in self._images.pull(wanted.familiar_name, tag, platform, credentials):
            yield message

    async def files(self, name: str) -> AsyncIterator[bytes]:
        """A tar of all files of an image. Raises NotFound."""
        image = self._store.images.get(name)
        async for chunk in self._store.files.export((self._store.snapshots.view(image.chain_id, ""),)):
            yield chunk

    @contextlib.asynccontextmanager
    async def unpacked(self, name: str) -> AsyncIterator[str]:
        """A directory with all files of an image, which is gone after the block. Raises NotFound."""
        async with self._store.build_snapshots.workspace() as workspace:
            directory = workspace.directory("files")
            await client.run(jobs.ReceiveContext(directory=directory), input=self.files(name))
            yield directory

    async def find_image(self, name: str, platform: str, asking: Client | None) -> str:
        """The id of an image that is here, or is pulled. Raises EngineError."""
        if (here := self._store.images.resolve(reference.parse(name).with_default_tag())) is not None:
            return here
        async for message in self._pull(BuildRequest(client=asking), name, platform):
            if "error" in message:
                raise EngineError(str(message["error"]))
        return self._store.images.get(name).id

    # --- the cache

    def usage(self) -> list[dict[str, Any]]:
        """The API's BuildCache of each record."""
        shared = self._of_images()
        return [
            {
                "ID": record.key,
                "Type": record.kind,
                "Description": record.description,
                "InUse": record.kind == "exec.cachemount" and self._cache_mounts.is_used(record.key),
                "Shared": record.chain_id in shared,
                "Size": record.size,
                "CreatedAt": times.rfc3339(record.created),
                "LastUsedAt": times.rfc3339(record.used),
                "UsageCount": record.count,
                "Parents": None,
            }
            for record in self._store.build_cache.records()
        ]

    def prune(
        self, *, everything: bool, keep_bytes: int, filters: Mapping[str, list[str]], min_free: int = 0
    ) -> dict[str, Any]:
        """Forgets what builds have left, those unused for longest first, down to ``keep_bytes``.

        ``min_free``: no more than it takes for so many bytes of the disk to be free. What images have is only forgotten
        with ``everything``, and then frees nothing.
        """
        matching = _matcher(filters)
        shared = self._of_images()
        records = [
            record
            for record in self._store.build_cache.records()
            if matching(record, self._cache_mounts.is_used(record.key), record.chain_id in shared)
        ]
        total = sum(record.size for record in records)
        if min_free:
            missing = min_free - self._store.free()
            if missing <= 0:
                return {"CachesDeleted": None, "SpaceReclaimed": 0}
            keep_bytes = max(keep_bytes, total - missing)
        gone: list[str] = []
        freed = 0
        for record in records:
            if keep_bytes and total <= keep_bytes:
                break
            if self._cache_mounts.is_used(record.key) or (record.chain_id in shared and not everything):
                continue
            self._store.build_cache.remove(record)
            gone.append(record.key)
            total -= record.size
            freed += record.size if record.chain_id not in shared else 0
        self._store.images.collect_layers()
        return {"CachesDeleted": gone or None, "SpaceReclaimed": freed}

    async def _collect(self) -> None:
        """Keeps the cache from filling the disk."""
        limit = self._store.capacity() // _SHARE
        records = await asyncio.to_thread(self._store.build_cache.records)
        if sum(record.size for record in records) > limit:
            self.prune(everything=False, keep_bytes=limit, filters={})

    def _of_images(self) -> frozenset[str]:
        """The layers that images have."""
        return frozenset(
            layer.chain_id
            for summary in self._store.images.summaries()
            for layer in self._store.images.layers(summary.image)
        )


def _check_platform(text: str) -> None:
    wanted = Platform.parse(text)
    if wanted.os not in ("linux", "windows", "darwin", "freebsd"):
        raise InvalidParameter(f'invalid platform "{text}": unknown operating system or architecture')


# "label" says nothing of a record: it comes with `system prune --filter label=…`, and is passed over as in Docker.
_PRUNE_FILTERS = frozenset(("id", "type", "description", "inuse", "shared", "private", "label", "unused-for", "until"))


def _matcher(filters: Mapping[str, list[str]]) -> Callable[[Record, bool, bool], bool]:
    """Takes a record, whether it is in use, and whether an image has it, too."""
    for name in filters:
        if name.rstrip("!~") not in _PRUNE_FILTERS:
            raise InvalidParameter(f"invalid filter '{name}'")
    ages = [*filters.get("until", ()), *filters.get("unused-for", ())]
    oldest = min((times.parse_timestamp(age) for age in ages), default=None)

    def matches(record: Record, in_use: bool, shared: bool) -> bool:
        if filters.get("id") and not any(record.key.startswith(wanted) for wanted in filters["id"]):
            return False
        facts = {"type": record.kind, "description": record.description}
        flags = {"inuse": in_use, "shared": shared, "private": not shared}
        facts |= {name: "true" if flag else "false" for name, flag in flags.items()}
        if any(filters.get(name) and value not in filters[name] for name, value in facts.items()):
            return False
        return oldest is None or record.used <= oldest

    return matches
