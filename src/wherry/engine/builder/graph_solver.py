"""Carries a graph out: every vertex once, as soon as its inputs are there, in the cache or by its work.

What a vertex gives is a ``Ref``: a tree, or a directory of this machine that is copied into one only where a step
stands on it. The steps are those of Dockerfiles (``steps``), with the same containers, copies, mounts and cache.
"""

import asyncio
import contextlib
import posixpath
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from msgspec.structs import replace

from wherry.common.errors import EngineError, Forbidden, InvalidParameter, NotSupported
from wherry.common.ignore import PatternMatcher
from wherry.common.platforms import host_architecture
from wherry.dockerfile.lexer import NOWHERE
from wherry.engine.builder.context import resolve
from wherry.engine.builder.copy import Origin, Sources, import_files
from wherry.engine.builder.graph import (
    NOTHING,
    Action,
    Bind,
    Change,
    Copy,
    Diff,
    Exec,
    File,
    Graph,
    Merge,
    Nested,
    Source,
    Vertex,
)
from wherry.engine.builder.mounts import USUAL_PLACES, CacheMounts, RunMounts
from wherry.engine.builder.request import HOST_NETWORK, INSECURE, BuildRequest, StepFailed
from wherry.engine.builder.run import HOSTNAME, Command, Containers
from wherry.engine.builder.steps import AllBuilds, Plan, Steps, StepsUnderway, step_inputs, step_key
from wherry.linux.mounts import Mount
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace, top_of
from wherry.storage.store import Store
from wherry.storage.worker import client, jobs

_AT_ONCE = 16  # vertices that are carried out side by side
_DEEPEST = 8
_LARGEST = 16 << 20  # bytes of a file with a graph
_WILD = re.compile(r"[*?\[\\]")


class Ref(msgspec.Struct, frozen=True):
    """Files. ``directory`` is one of this machine, "" for the ``tree``; ``key`` is what the cache knows the tree by."""

    tree: Tree = Tree()
    key: str = ""
    directory: str = ""

    @property
    def origin(self) -> Origin:
        return Origin(self.directory, self.tree)


class Seen(Protocol):
    """Where the progress of one vertex is told."""

    async def print(self, stream: int, text: str) -> None: ...

    def end(self, *, cached: bool = False, error: str = "") -> None: ...


Watch = Callable[[Vertex], Seen]
"""Begins to tell of a vertex."""

Fetch = Callable[[Source, Workspace], Awaitable[Ref]]
"""Brings the files of a source. Raises EngineError."""

Decode = Callable[[bytes], Graph]
"""Reads a graph that stands in a file. Raises EngineError."""


class GraphSolver:
    """Solves the graphs of one build. ``request`` says what they may have, and whom to ask for secrets."""

    def __init__(
        self,
        request: BuildRequest,
        workspace: Workspace,
        *,
        store: Store,
        containers: Containers,
        cache_mounts: CacheMounts,
        fetch: Fetch,
        decode: Decode,
        watch: Watch,
        all_builds: AllBuilds,
    ) -> None:
        self._request = request
        self._workspace = workspace
        self._store = store
        self._containers = containers
        self._cache_mounts = cache_mounts
        self._fetch = fetch
        self._decode = decode
        self._watch = watch
        self._sources = Sources(workspace, store.build_cache)
        self.underway = StepsUnderway(workspace, store.build_cache, {} if request.is_apart else all_builds)
        self.steps = Steps(workspace, self._find, self.underway, None)
        self._uncached = Steps(workspace, self._find_nothing, StepsUnderway(workspace, store.build_cache, {}), None)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def _find(self, key: str) -> Record | None:
        return None if self._request.no_cache else self._store.build_cache.find(key)

    @staticmethod
    async def _find_nothing(key: str) -> Record | None:
        return None

    async def solve(self, graph: Graph, depth: int = 0) -> Ref:
        """``depth`` is how many graphs it came out of. Raises EngineError."""
        if depth > _DEEPEST:
            raise InvalidParameter(f"there are more than {_DEEPEST} graphs one inside the other")
        if graph.result is None:
            return Ref()
        tasks: list[asyncio.Task[tuple[Ref, ...]]] = []
        for vertex in graph.vertices:
            before = [tasks[edge.vertex] for edge in vertex.inputs]
            tasks.append(asyncio.create_task(self._vertex(vertex, before, depth)))
        try:
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return tasks[graph.result.vertex].result()[graph.result.output]

    async def _vertex(
        self, vertex: Vertex, before: list["asyncio.Task[tuple[Ref, ...]]"], depth: int
    ) -> tuple[Ref, ...]:
        inputs = [(await asyncio.shield(task))[edge.output] for task, edge in zip(before, vertex.inputs, strict=True)]
        async with contextlib.AsyncExitStack() as stack:
            if not isinstance(vertex.op, Nested):  # which waits for vertices of its own
                await stack.enter_async_context(self._turns)
            seen = self._watch(vertex)
            try:
                found, cached = await self._carry_out(vertex, inputs, seen, depth)
            except EngineError as error:
                seen.end(error=error.headline if isinstance(error, StepFailed) else error.message)
                raise
            except BaseException:
                seen.end(error="context canceled")
                raise
            seen.end(cached=cached)
            return found

    async def _carry_out(
        self, vertex: Vertex, inputs: list[Ref], seen: Seen, depth: int
    ) -> tuple[tuple[Ref, ...], bool]:
        steps = self._uncached if vertex.no_cache else self.steps
        match vertex.op:
            case Source():
                return (await self._fetch(vertex.op, self._workspace),), False
            case Exec():
                return await self._exec(vertex.op, inputs, steps, seen)
            case File():
                return await _Files(vertex.op, inputs, self).outputs(steps)
            case Merge():
                return (await self._merge([_pick(inputs, each) for each in vertex.op.inputs]),), False
            case Diff():
                lower, upper = _pick(inputs, vertex.op.lower), _pick(inputs, vertex.op.upper)
                return (await self._diff(lower, upper),), False
            case Nested():
                origin = _pick(inputs, vertex.op.input).origin
                graph = self._decode(await read_file(self._workspace, origin, vertex.op.path))
                return (await self.solve(graph, depth + 1),), False

    # --- trees

    async def on_tree(self, ref: Ref) -> Ref:
        """The same files as a tree, for a step to stand on."""
        if not ref.directory:
            return ref
        return Ref(*await import_files(self._workspace, self._sources, ref.origin, self.steps))

    async def kept(self, tree: Tree) -> str:
        """The chain id of a tree, all of whose snapshots have become layers."""
        await self._workspace.keep(tree)
        chain_id = top_of(tree)
        self._workspace.hold(chain_id)
        return chain_id

    async def _merge(self, refs: list[Ref]) -> Ref:
        found = await self.on_tree(refs[0])
        for ref in refs[1:]:
            upper = await self.on_tree(ref)
            found = Ref(await self._put_on(found.tree, await self.kept(upper.tree)), step_key(found.key, upper.key))
        return found

    async def _put_on(self, tree: Tree, chain_id: str, above: str = "") -> Tree:
        """A tree with a layer and those below it, down to ``above``, upon it."""
        below = {layer.chain_id for layer in self._store.layers.chain(above)}
        for layer in self._store.layers.chain(chain_id):
            if layer.chain_id not in below:
                tree, _ = await self._workspace.put_on(tree, layer.chain_id)
        return tree

    async def _diff(self, lower: Ref, upper: Ref) -> Ref:
        lower, upper = await self.on_tree(lower), await self.on_tree(upper)
        if not lower.tree.chain_id and not lower.tree.snapshots:
            return upper
        below, top = await self.kept(lower.tree), await self.kept(upper.tree)
        if below not in {layer.chain_id for layer in self._store.layers.chain(top)}:
            raise NotSupported("a diff of files that do not stand on one another is not supported")
        tree = await self._put_on(Tree(), top, above=below)
        return Ref(tree, step_key("", step_inputs("diff", lower=lower.key, upper=upper.key)))

    # --- exec

    async def _exec(self, op: Exec, inputs: list[Ref], steps: Steps, seen: Seen) -> tuple[tuple[Ref, ...], bool]:
        self._check_entitlements(op)
        refs = {bind.target: _pick(inputs, bind.input) for bind in op.binds}
        for bind in op.binds:
            if bind.target == "/" or bind.output != NOTHING:
                refs[bind.target] = await self.on_tree(refs[bind.target])
        said = [
            [bind.target, bind.selector, bind.read_only, bind.output, await self._content(refs[bind.target], bind)]
            for bind in op.binds
        ]
        mounts = [
            [
                each.type,
                each.target,
                each.environment or "",
                each.cache_id,
                each.sharing if each.type == "cache" else "",
            ]
            for each in op.mounts
        ]
        command = msgspec.to_builtins(replace(op, binds=(), mounts=()))
        key = step_key(refs["/"].key, step_inputs("exec", command=command, binds=said, mounts=mounts))
        outputs = sorted((bind for bind in op.binds if bind.output != NOTHING), key=lambda bind: bind.output)
        keys = [step_key(key, str(bind.output)) for bind in outputs]
        found = [await steps.find(kept_as, refs[bind.target].tree) for kept_as, bind in zip(keys, outputs, strict=True)]
        if outputs and all(found):
            trees = []
            for record in found:
                assert record is not None
                self._workspace.hold(record.chain_id)
                trees.append(Tree(record.chain_id))
        else:
            snapshots = await self._run(op, refs, seen)
            trees = []
            for kept_as, bind in zip(keys, outputs, strict=True):
                before = refs[bind.target].tree
                snapshot = await steps.seal(snapshots[bind.target])
                trees.append(before if snapshot is None else before.on(snapshot))
                self.steps.remember(kept_as, before, trees[-1], f"RUN {' '.join(op.words)}", self.steps.now())
        refs_out = tuple(Ref(tree, kept_as) for tree, kept_as in zip(trees, keys, strict=True))
        return refs_out, bool(outputs) and all(found)

    def _check_entitlements(self, op: Exec) -> None:
        allowed = self._request.given.allow
        for name, wanted in ((INSECURE, op.insecure), (HOST_NETWORK, op.network == "host")):
            if wanted and name not in allowed:
                raise Forbidden(f"{name} is not allowed: build with --allow {name}")

    async def _content(self, ref: Ref, bind: Bind) -> str:
        """What the step depends on of an input: of what is only read, the content."""
        if bind.target != "/" and bind.output == NOTHING and (ref.directory or bind.read_only):
            return await self._sources.digest(ref.origin, [_WILD.sub(r"\\\g<0>", bind.selector or ".")])
        return ref.key

    async def _run(self, op: Exec, refs: Mapping[str, Ref], seen: Seen) -> dict[str, ActiveSnapshot]:
        """The snapshots of the mounts that can be written to and are outputs, and of the root."""
        snapshots: dict[str, ActiveSnapshot] = {}
        mounted: list[Mount] = []
        places: list[tuple[str, str]] = []
        for bind in op.binds:
            ref = refs[bind.target]
            if bind.target == "/" or (bind.output != NOTHING and not bind.read_only):
                snapshots[bind.target] = self._workspace.begin(ref.tree)
            if bind.target == "/":
                continue
            mount = self._mount(bind, ref, snapshots.get(bind.target))
            mounted.append(mount)
            places.append((bind.target, mount.create or "dir"))

        async def origin_of(name: str) -> Origin:
            return refs[name].origin

        container_id = self._containers.new_id()
        directory = self._containers.make_directory(container_id)
        mounts = RunMounts(self._workspace, self._cache_mounts, self._request, self._store.files, origin_of)
        async with mounts.prepare(op.mounts, op.directory or "/", directory) as prepared:
            root = self._workspace.mounts(refs["/"].tree, snapshots["/"], (*USUAL_PLACES, *places, *prepared.places))
            code = await self._containers.run(
                container_id,
                self._command(op).with_environment(prepared.environment),
                root,
                [*mounted, *prepared.mounts],
                seen.print,
            )
        if code not in op.exit_codes:
            shown = " ".join(op.words)
            raise StepFailed(f"The command '{shown}' returned a non-zero code: {code}", NOWHERE, code, command=shown)
        for bind in op.binds:
            if bind.output != NOTHING and bind.target not in snapshots:
                snapshots[bind.target] = self._workspace.begin(refs[bind.target].tree)
        return snapshots

    def _mount(self, bind: Bind, ref: Ref, snapshot: ActiveSnapshot | None) -> Mount:
        if snapshot is not None:
            (mount,) = self._workspace.mounts(ref.tree, snapshot)
            return replace(mount, target=bind.target)
        if ref.directory:
            place = resolve(ref.directory, bind.selector or "/")
            kind = "dir" if place and place.is_directory else "file"
            found = place and Mount("bind", place.path, bind.target, ("bind", "ro", "rprivate"), create=kind)
        else:
            found = self._workspace.view(ref.tree, posixpath.normpath(f"/{bind.selector}"), bind.target)
        if not found:
            raise InvalidParameter(f'"{bind.selector}": not found')
        return found if bind.read_only else self._workspace.scratch(found)

    def _command(self, op: Exec) -> Command:
        return Command(
            op.words,
            op.environment,
            op.directory or "/",
            op.user,
            op.architecture or host_architecture(),
            op.network,
            op.insecure,
            op.hostname or HOSTNAME,
            op.extra_hosts,
            self._request.security,
            op.limits,
        )

    @property
    def sources(self) -> Sources:
        return self._sources

    @property
    def workspace(self) -> Workspace:
        return self._workspace


class _Files:
    """The actions of a File, each output the end of a row of them, which is one step."""

    def __init__(self, op: File, inputs: list[Ref], solver: GraphSolver) -> None:
        self._actions = op.actions
        self._inputs = inputs
        self._solver = solver
        self._workspace = solver.workspace
        self._done: dict[int, tuple[Ref, bool]] = {}

    async def outputs(self, steps: Steps) -> tuple[tuple[Ref, ...], bool]:
        numbers = {each.output: number for number, each in enumerate(self._actions) if each.output != NOTHING}
        found = [await self._result(numbers[output], steps) for output in sorted(numbers)]
        return tuple(ref for ref, _ in found), all(cached for _, cached in found)

    async def _result(self, number: int, steps: Steps) -> tuple[Ref, bool]:
        """The files after an action."""
        if number not in self._done:
            row = [number]
            while (before := self._actions[row[0]].input - len(self._inputs)) >= 0:
                row.insert(0, before)
            base = _pick(self._inputs, self._actions[row[0]].input)
            self._done[number] = await self._step([self._actions[each] for each in row], base, steps)
        return self._done[number]

    async def _step(self, row: list[Action], base: Ref, steps: Steps) -> tuple[Ref, bool]:
        base = await self._solver.on_tree(base)
        origins = [await self._origin(action, steps) for action in row]
        said = []
        for action, origin in zip(row, origins, strict=True):
            content = ""
            if isinstance(action.what, Copy):
                content = await self._solver.sources.digest(
                    origin, [_pattern(action.what)], _excluded(action.what), follow=bool(action.what.options["follow"])
                )
            said.append([content, msgspec.to_builtins(action.what)])
        inputs = step_inputs("file", actions=said)
        key = step_key(base.key, inputs)

        async def work(tree: Tree) -> ActiveSnapshot:
            snapshot = self._workspace.begin(tree)
            for action, origin in zip(row, origins, strict=True):
                await self._act(action.what, origin, tree, snapshot)
            return snapshot

        done = await steps.carry_out(Plan(inputs, _describe(row), work), base.tree, key)
        return Ref(done.tree, key), done.cached

    async def _origin(self, action: Action, steps: Steps) -> Origin:
        if action.second < len(self._inputs):
            return _pick(self._inputs, action.second).origin
        ref, _ = await self._result(action.second - len(self._inputs), steps)
        return ref.origin

    async def _act(self, what: Copy | Change, origin: Origin, tree: Tree, snapshot: ActiveSnapshot) -> None:
        root = self._workspace.mounts(tree, snapshot)
        if isinstance(what, Change):
            await client.run(jobs.ChangeFiles(root=root, actions=(what.job,)))
            return
        job = jobs.CopyFiles(
            root=root,
            source=origin.source(self._workspace),
            patterns=(_pattern(what),),
            excluded=tuple(_excluded(what)),
            destination=what.destination,
            keep_owners=origin.is_tree,
            parents=False,
            **what.options,
        )
        await client.run(job)


def _pattern(copy: Copy) -> str:
    return copy.source if copy.wildcard else _WILD.sub(r"\\\g<0>", copy.source)


def _excluded(copy: Copy) -> list[tuple[bool, str, str]]:
    """Patterns of what is left out below the sources: all but what is to be included, and what is to be excluded."""
    patterns = [*(["**"] if copy.include else []), *(f"!{each}" for each in copy.include), *copy.exclude]
    return PatternMatcher.of(patterns).rules if patterns else []


def _describe(row: list[Action]) -> str:
    words = [
        f"copy {action.what.source} {action.what.destination}"
        if isinstance(action.what, Copy)
        else f"{action.what.job['kind']} {action.what.job['path']}"
        for action in row[:8]
    ]
    return ", ".join(words)


def _pick(inputs: list[Ref], number: int) -> Ref:
    return Ref() if number == NOTHING else inputs[number]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LARGEST)


async def read_file(workspace: Workspace, origin: Origin, path: str) -> bytes:
    """A file's content. Raises NotFound, InvalidParameter."""
    if origin.directory:
        found = resolve(origin.directory, path)
        if found is None or found.is_directory:
            raise InvalidParameter(f"open {path}: no such file")
        return await asyncio.to_thread(_read, found.path)
    view = workspace.view(origin.tree)
    assert view is not None, "the root of a tree is always there"
    return b64decode(await client.run(jobs.ReadFile(mount=view, path=path)))
