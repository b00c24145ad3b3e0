"""A build from its beginning to its image: the graph of stages, and which of them are walked when.

Every stage that the target needs is walked in a task of its own. One waits for another only where it says FROM it, or
where it comes to copy from it; so what does not depend on one another runs side by side.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import EngineError, NotFound
from wherry.common.platforms import host_architecture
from wherry.dockerfile import instructions as ins
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import Dockerfile, parse
from wherry.dockerfile.stages import EPOCH, SCRATCH, Graph, Platform, Source, Stage, build_graph
from wherry.engine import platforms
from wherry.engine.builder import context as contexts
from wherry.engine.builder import progress
from wherry.engine.builder.context import Context
from wherry.engine.builder.copy import Copies, Origin, Sources, import_files
from wherry.engine.builder.history import COMMENT
from wherry.engine.builder.image import INLINE_CACHE, InlineStep, write_image
from wherry.engine.builder.intermediate import Left
from wherry.engine.builder.mounts import CacheMounts, RunMounts
from wherry.engine.builder.progress import Progress
from wherry.engine.builder.request import BuildRequest, NamedContext, at
from wherry.engine.builder.run import Containers, Runs
from wherry.engine.builder.stage import Outcome, Walker
from wherry.engine.builder.steps import AllBuilds, Plan, Steps, StepsUnderway, note_result
from wherry.engine.container import spec
from wherry.engine.image.remote_cache import RemoteCache
from wherry.model.container import ContainerConfig
from wherry.model.image import History
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import Tree, Workspace, top_of
from wherry.storage.images import Image
from wherry.storage.store import Store

Pull = Callable[[str, str], AsyncIterator[dict[str, Any]]]
"""Pulls an image by its name and its platform, and tells how it goes."""

_INLINE = "BUILDKIT_INLINE_CACHE"


class Solver:
    """One build. ``plan`` first, then ``solve``."""

    def __init__(
        self,
        request: BuildRequest,
        context: Context,
        workspace: Workspace,
        *,
        store: Store,
        containers: Containers,
        cache_mounts: CacheMounts,
        pull: Pull,
        heard: Progress,
        caches: Sequence[RemoteCache] = (),
        all_builds: AllBuilds,
    ) -> None:
        self._request = request
        self._context = context
        self._workspace = workspace
        self._store = store
        self._pull = pull
        self._caches = caches
        self._heard = heard
        self._tell = heard.tell
        self._epoch = _epoch(request.arguments)
        self.is_new = False  # whether the image was not there before
        self.records: dict[str, Record] = {}  # of all steps, by their keys
        self._images: dict[tuple[str, str], asyncio.Future[Image]] = {}
        self._walks: dict[int, asyncio.Task[Outcome]] = {}
        self._walkers: list[Walker] = []
        self._underway = StepsUnderway(workspace, store.build_cache, {} if request.is_apart else all_builds)
        self._apart = StepsUnderway(workspace, store.build_cache, {})  # of stages without cache
        self._fetched: dict[str, asyncio.Future[str]] = {}
        # Of the images of --cache-from: created_by and created in their histories, and the keys that they bring.
        self._steps_of_images: set[tuple[str, str]] = set()
        self._imported: set[str] = set()
        self._sources = Sources(workspace, store.build_cache)
        self._copies = Copies(workspace, self._sources, self._epoch)
        self._containers = containers
        self._cache_mounts = cache_mounts
        self._left: list[Left] = []
        self._graph = self._plan()

    def _plan(self) -> Graph:
        file: Dockerfile = parse(self._context.dockerfile, self._context.name)
        own = native_platform()
        wanted = Platform.parse(self._request.platform) if self._request.platform else own
        graph = build_graph(
            file, target=self._request.target, given=self._request.arguments, platform=wanted, build_platform=own
        )
        self._target_platform = wanted
        self._file_warnings = file.warnings
        before = itertools.takewhile(lambda each: not isinstance(each, ins.From), file.instructions)
        self._file_arguments = [each.position.code or each.position.text for each in before]
        return graph

    def bases(self) -> list[tuple[str, str]]:
        """The images that went into it: their names and ids."""
        found = [(name, future) for (name, _), future in self._images.items() if future.done()]
        return [(name, future.result().id) for name, future in found if not future.exception()]

    async def solve(self) -> str:
        """The image's id. Whatever happens, what steps have made is noted in the cache. Raises EngineError."""
        for warning in self._file_warnings:
            self._tell(progress.Warned(warning, of_checks=True))
        for name in self._request.cache_from:
            await self._import_cache(name)
        async with self._underway, self._apart:
            try:
                outcome = await self._walk_all()
            except asyncio.CancelledError:
                await self._note_all(finished_only=True)
                raise
            except BaseException:
                await self._note_all()
                await self._containers.keep(self._left, self._workspace, self._store)
                raise
            image = await self._write(outcome)
            await self._containers.keep(self._left, self._workspace, self._store, image)
            return image

    # --- stages

    async def _walk_all(self) -> Outcome:
        try:
            await self._resolve_bases()
            steps = 1
            for stage in self._graph.needed():
                self._walks[stage.index] = asyncio.create_task(self._walk(stage, steps))
                steps += 1 + len(stage.instructions)
            waiting = set(self._walks.values())
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
        finally:
            # Several stages may wait for a pull or a download, and none of them ends it
            begun: list[asyncio.Future[Any]] = [*self._walks.values(), *self._images.values(), *self._fetched.values()]
            for each in begun:
                each.cancel()
            await asyncio.gather(*begun, return_exceptions=True)
        return self._walks[self._graph.target.index].result()

    async def _resolve_bases(self) -> None:
        """Looks at the images that stages begin with: their ONBUILDs are instructions, and can need further stages."""
        triggered: set[int] = set()
        while True:
            waiting = [stage for stage in self._graph.needed() if stage.index not in triggered]
            if not waiting:
                break
            for stage in waiting:
                triggered.add(stage.index)
                if (
                    stage.base.stage is None
                    and not self._is_scratch(stage.base.image)
                    and not self._files_named(stage.base.image)
                ):
                    image = await self._base_image(stage)
                    expressions = (image.config.config.on_build if image.config.config else None) or ()
                    self._graph = self._graph.trigger(stage.index, expressions)
        if self._graph.unused:
            names = " ".join(self._graph.unused)
            self._tell(progress.Warned(f"One or more build-args [{names}] were not consumed", is_classic=True))
        self._tell_plan()

    async def _base_image(self, stage: Stage) -> Image:
        try:
            return await self._image(stage.base, stage.platform, step=0)
        except EngineError as error:
            # Nothing was told of any step yet: this one has failed.
            self._tell_plan()
            position = stage.position
            self._tell(progress.Begun(1, stage.index, stage.label, position.code or position.text, position.line))
            failed = at(error, position)
            self._tell(progress.Failed(1, stage.index, failed.headline))
            raise failed from None

    def _tell_plan(self) -> None:
        texts = {stage.index: _texts(stage) for stage in self._graph.needed()}
        triggers = {stage.index: stage.triggers for stage in self._graph.needed() if stage.triggers}
        self._tell(progress.Planned(self._count(), texts, self._file_arguments, triggers))

    def _count(self) -> int:
        return sum(1 + len(stage.instructions) for stage in self._graph.needed())

    async def _walk(self, stage: Stage, first_step: int) -> Outcome:
        if stage.label.lower() in self._request.no_cache_for:
            steps = Steps(self._workspace, self._find_nothing, self._apart, self._epoch)
        else:
            steps = Steps(self._workspace, self._find_step, self._underway, self._epoch)
        walker = Walker(
            stage,
            first_step,
            Outcome(),
            self._graph.arguments,
            escape=self._graph.escape,
            workspace=self._workspace,
            steps=steps,
            epoch=self._epoch,
            classic=self._request.classic,
            tell=self._tell,
            plan=self._plan_step,
        )
        self._walkers.append(walker)
        try:
            walker.begin(stage.position.code or stage.position.text, stage.position.line)
            walker.outcome = await self._begin(stage, first_step, steps)
            if walker.outcome.arguments is not None:
                walker.arguments = walker.outcome.arguments.inherited()
            walker.end(False)
            return await walker.walk()
        except EngineError as error:
            position = stage.position
            if walker.step > first_step:
                position = stage.instructions[walker.step - first_step - 1].position
            failed = at(error, position)
            self._tell(progress.Failed(walker.step, stage.index, failed.headline))
            raise failed from None

    async def _begin(self, stage: Stage, step: int, steps: Steps) -> Outcome:
        """What a stage begins with."""
        base = stage.base
        if base.stage is not None:
            outcome = await self._outcome(base.stage)
            return msgspec.structs.replace(outcome, config=_child(outcome.config))
        platform = stage.platform or self._target_platform
        said = (platform.os, platform.architecture, platform.variant)
        if self._is_scratch(base.image):
            return Outcome(config=ContainerConfig(env=[spec.PATH], working_dir="/"), platform=said)
        if self._files_named(base.image):
            origin = await self._named_origin(base.image)
            tree, key = await import_files(self._workspace, self._sources, origin, steps)
            entry = History(created_by=f"FROM {base.image}", comment=COMMENT, empty_layer=tree == Tree())
            return Outcome(tree, key, ContainerConfig(env=[spec.PATH], working_dir="/"), base=(entry,), platform=said)
        image = await self._image(base, stage.platform, step)
        config = image.config
        return Outcome(
            Tree(image.chain_id),
            image.chain_id,
            _child(config.config or ContainerConfig()),
            config.author,
            tuple(config.history),
            image.id,
            platform=(config.os or said[0], config.architecture or said[1], config.variant),
        )

    async def _outcome(self, index: int) -> Outcome:
        return await asyncio.shield(self._walks[index])

    async def _plan_step(self, walker: Walker, instruction: "ins.Run | ins.Copy | ins.Add") -> Plan:
        async def origin_of(name: str) -> Origin:
            return await self._origin(walker.stage, name, walker.step)

        if not isinstance(instruction, ins.Run):
            return await self._copies.plan(walker, instruction, origin_of)
        mounts = RunMounts(self._workspace, self._cache_mounts, self._request, self._store.files, origin_of)
        runs = Runs(
            self._request,
            self._workspace,
            self._containers,
            mounts,
            self._sources,
            self._heard,
            self._epoch,
            self._left,
        )
        return await runs.plan(walker, instruction, origin_of)

    async def _origin(self, stage: Stage, name: str, step: int) -> Origin:
        """The files that ``--from=name`` means; "" is the context."""
        if not name:
            return Origin(self._context.directory, ignored=self._context.ignored)
        source = stage.sources[name]
        named = self._named(name)
        if self._files_named(name):
            return await self._named_origin(name)
        if named is not None:
            source = Source(None, name, source.position)
        if source.stage is not None:
            return Origin(tree=(await self._outcome(source.stage)).tree)
        if self._is_scratch(source.image):
            return Origin(tree=Tree())
        return Origin(tree=Tree((await self._image(source, None, step)).chain_id))

    def _named(self, name: str) -> NamedContext | None:
        """What the client has said that a name means: for this platform, or for all."""
        contexts, name = self._request.contexts, name.lower()
        return contexts.get(f"{name}::{self._target_platform}") or contexts.get(name)

    def _is_scratch(self, name: str) -> bool:
        return self._named_image(name) == SCRATCH

    def _files_named(self, name: str) -> bool:
        """Whether the client has said of a name that it means a directory, or files behind an address."""
        named = self._named(name)
        return named is not None and bool(named.directory or named.address)

    async def _named_origin(self, name: str) -> Origin:
        """These files, which are fetched once."""
        named = self._named(name)
        assert named is not None
        if named.directory:
            return Origin(named.directory)
        if named.address not in self._fetched:
            fetch = contexts.fetch_files(self._workspace, named.address)
            self._fetched[named.address] = asyncio.ensure_future(fetch)
        return Origin(await asyncio.shield(self._fetched[named.address]))

    # --- images

    async def _image(self, source: Source, platform: Platform | None, step: int) -> Image:
        """An image that is here, or is pulled. Each is looked for once in a build."""
        key = (source.image, str(platform or ""))
        if key not in self._images:
            self._images[key] = asyncio.ensure_future(self._find_image(source, platform, step))
        try:
            image = await asyncio.shield(self._images[key])
        except EngineError as error:
            raise at(error, source.position) from None
        self._workspace.hold(image.chain_id)
        return image

    async def _find_image(self, source: Source, platform: Platform | None, step: int) -> Image:
        wanted = str(platform or (self._target_platform if self._request.platform else ""))
        named = self._named(source.image)
        try:
            if named is not None and named.bring is not None:
                return self._store.images.get(await named.bring(wanted))
            return await self._here_or_pulled(self._named_image(source.image), wanted, step)
        except EngineError as error:
            hint = self._graph.near(source.image)
            raise (type(error)(f"{error.message}{hint}") if hint else error) from None

    def _named_image(self, name: str) -> str:
        """The image that a name means."""
        named = self._named(name)
        return name if named is None else named.image

    async def _here_or_pulled(self, name: str, platform: str, step: int) -> Image:
        if not self._request.pull:
            with contextlib.suppress(NotFound):
                return platforms.find(self._store.images, name, platform)
        async for message in self._pull(name, platform):
            self._tell(progress.Pulled(step, message, name))
            if "error" in message:
                raise EngineError(str(message["error"]))
        return self._store.images.get(name)

    # --- the cache

    async def _find_step(self, key: str) -> Record | None:
        if self._request.no_cache:
            return None
        found = self._store.build_cache.find(key) or await self._find_elsewhere(key)
        if found is None or not self._request.only_cache_from:
            return found
        said = (found.description, times.rfc3339(found.created))
        return found if key in self._imported or said in self._steps_of_images else None

    async def _find_elsewhere(self, key: str) -> Record | None:
        for cache in self._caches:
            try:
                if (found := await cache.find(key)) is not None:
                    return found
            except EngineError as error:
                self._tell(progress.Warned(f"a step of the cache cannot be had: {error.message}"))
        return None

    @staticmethod
    async def _find_nothing(key: str) -> Record | None:
        return None

    async def _import_cache(self, name: str) -> None:
        """What an image brings along for --cache-from. It is pulled when it is not here, but for the classic builder,
        and passed over when that cannot be."""
        try:
            if self._request.only_cache_from:
                image = self._store.images.get(name)
            else:
                image = await self._here_or_pulled(name, "", 0)
        except EngineError as error:
            if not self._request.only_cache_from:
                self._tell(progress.Warned(f"no cache from {name}: {error.message}"))
            return
        self._steps_of_images |= {(entry.created_by, entry.created or "") for entry in image.config.history}
        document = msgspec.json.decode(self._store.images.raw(image.id))
        inline = document.get(INLINE_CACHE)
        if isinstance(inline, dict):
            self._imported |= set(inline)
            self._take_inline(inline, image)

    def _take_inline(self, inline: Mapping[str, Any], image: Image) -> None:
        own = {layer.chain_id: layer.parent for layer in self._store.images.layers(image)}
        for key, said in inline.items():
            try:
                chain_id, created = msgspec.convert(said, InlineStep)
            except msgspec.ValidationError:
                continue  # anybody can write an image
            if chain_id in own and self._store.build_cache.find(key) is None:
                self._store.build_cache.add(
                    key, chain_id=chain_id, parent=own[chain_id], description="imported with an image", created=created
                )

    # --- the end

    async def _note_all(self, *, finished_only: bool = False) -> None:
        """Notes what the steps before a failure have made: the next build goes on from there."""
        for walker in self._walkers:
            results = []
            for each in walker.results:
                sealed = [snapshot.sealed for snapshot in each.after.snapshots]
                if finished_only and not all(task is not None and task.done() for task in sealed):
                    break
                try:
                    await self._workspace.keep(each.after)
                except EngineError:
                    break  # the disk is full, most likely, which the build's own error says
                results.append(each)
            note_result(self._store.build_cache, results)

    async def _write(self, outcome: Outcome) -> str:
        for walker in self._walkers:
            for each in walker.results:
                await self._workspace.keep(each.after)
            noted = note_result(self._store.build_cache, walker.results)
            self.records |= {each.key: each for each in noted}
        await self._workspace.keep(outcome.tree)
        tree = outcome.tree
        if self._request.squash:
            base = await self._base_of(self._graph.target)
            if top_of(tree) != base:
                tree = await self._workspace.flatten(tree, base)
                await self._workspace.keep(tree)
        if self._request.classic and not self._has_steps():
            if not outcome.image:
                raise EngineError("No image was generated. Is your Dockerfile empty?")
            return outcome.image
        # The classic builder's --cache-from asks nobody to have said anything when the image was built; but who gives
        # an epoch wants the same image as by any other way.
        wants_inline = (self._request.classic and self._epoch is None) or self._request.arguments.get(_INLINE) == "1"
        steps = {key: (record.chain_id, record.created) for key, record in sorted(self.records.items())}
        inline = steps if wants_inline else None
        image_id, self.is_new = write_image(self._store, outcome, self._request.labels, tree, inline)
        if self._request.classic and outcome.image not in ("", image_id):
            self._store.images.set_parent(image_id, outcome.image)
        return image_id

    def _has_steps(self) -> bool:
        """Whether there is anything but FROMs on the way to the target."""
        stage = self._graph.target
        while not stage.instructions and stage.base.stage is not None:
            stage = self._graph.stages[stage.base.stage]
        return bool(stage.instructions or self._request.labels)

    async def _base_of(self, stage: Stage) -> str:
        """The top layer of the image that a stage, or one that it is based on, begins with."""
        while stage.base.stage is not None:
            stage = self._graph.stages[stage.base.stage]
        if self._is_scratch(stage.base.image) or self._files_named(stage.base.image):
            return ""
        return (await self._image(stage.base, stage.platform, 0)).chain_id


def _texts(stage: Stage) -> list[str]:
    positions = [stage.position, *(instruction.position for instruction in stage.instructions)]
    return [position.code or position.text for position in positions]


def native_platform() -> Platform:
    return Platform.parse(f"linux/{host_architecture()}")


def _child(config: ContainerConfig) -> ContainerConfig:
    """The configuration that an image made of another begins with."""
    return msgspec.structs.replace(config, on_build=None, image="", hostname="", domainname="")


def _epoch(arguments: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH in nanoseconds."""
    text = arguments.get(EPOCH, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise DockerfileError(f"invalid {EPOCH}: {text}: expected seconds since 1970")
    return int(text) * 1_000_000_000
