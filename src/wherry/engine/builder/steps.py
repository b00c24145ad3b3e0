"""Steps: what changes files, found in the cache or carried out. Stages of a Dockerfile and graphs are made of them."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

import msgspec

from wherry.storage.build_cache import BuildCache, Record
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace, top_of

# What a step depends on, as one digest: the same digest, the same result.
#
# The steps before it, the instruction after its variables are replaced, the configuration that it runs with, and the
# contents of what it copies. Neither times nor names of files on this machine count, so a key is the same everywhere.
# Of the steps before it all count that could have changed files, though they left no trace: people put a ``RUN echo 2``
# before what is to be done anew.

_VERSION = 2  # counts up when steps come to do something else
_encode = msgspec.json.Encoder(order="deterministic").encode


def step_inputs(kind: str, **inputs: Any) -> str:
    """A digest of everything but the steps before it."""
    return hashlib.sha256(_encode([_VERSION, kind, inputs])).hexdigest()


def step_key(before: str, inputs: str) -> str:
    """``before`` is the key of the step before it, or the chain id of an image's layers; "" for nothing."""
    return hashlib.sha256(f"{before} {inputs}".encode()).hexdigest()


class Result(msgspec.Struct, frozen=True):
    """What is to be noted in the cache, once the digests are known. ``is_new``: it was not found there."""

    key: str
    before: Tree
    after: Tree
    description: str
    created: int
    is_new: bool = True


def note_result(cache: BuildCache, results: list[Result]) -> list[Record]:
    """Writes into the cache what steps made, whose snapshots are all kept; the records of all of them."""
    noted = []
    with cache.transaction():
        for result in results:
            before, after = top_of(result.before), top_of(result.after)
            said, created = result.description, result.created
            if result.is_new:
                cache.add(result.key, chain_id=after, parent=before, description=said, created=created)
            noted.append(Record(result.key, after, before, said, created, created, 0))
    return noted


class Plan(msgspec.Struct, frozen=True):
    """How a step that changes files is carried out. ``work`` gives the snapshot, or None when nothing changed.

    ``stands_alone``: what it makes does not depend on the files before it.
    """

    inputs: str
    created_by: str
    work: Callable[[Tree], Awaitable[ActiveSnapshot | None]]
    stands_alone: bool = False


class Done(msgspec.Struct, frozen=True):
    """What a step has come to. ``snapshot`` is its new layer, ``chain_id`` one that was found in the cache."""

    tree: Tree
    created: int
    snapshot: ActiveSnapshot | None = None
    chain_id: str = ""
    cached: bool = False


# Steps that are being carried out: one that another stage or another build comes to meanwhile is not begun again.

T = TypeVar("T")


class Shared(Generic[T]):
    """Work that several wait for. It ends when the last of them gives up."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(work)
        self._waiting = 0

    async def wait(self) -> None:
        """Until it is done, well or not."""
        self._waiting += 1
        try:
            await asyncio.wait((self.task,))
        finally:
            self._waiting -= 1
            if self.task.done():
                if not self.task.cancelled():
                    self.task.exception()  # which may be of no interest to those who wait
            elif not self._waiting:
                self.task.cancel()
                await asyncio.wait((self.task,))


class Underway:
    """A step that is being carried out, or has been, in a build that goes on."""

    def __init__(self, before: Tree, description: str, work: Coroutine[Any, Any, Done]) -> None:
        self.before = before
        self.description = description
        self.work = Shared(work)
        self.kept: Shared[None] | None = None  # it as layers, for other builds


class StepsUnderway:
    """Those of one build. ``all_builds`` has the steps of all builds that share theirs, by what the cache knows them
    by."""

    def __init__(self, workspace: Workspace, cache: BuildCache, all_builds: "AllBuilds") -> None:
        self._workspace = workspace
        self._cache = cache
        self._own: dict[str, Underway] = {}
        self._all = all_builds

    def begin(self, key: str, kept_as: str, underway: Underway) -> None:
        self._own.setdefault(key, underway)
        self._all.setdefault(kept_as, (self, underway))

    def find(self, key: str, before: Tree) -> Underway | None:
        """The same step on the same files, in this build."""
        found = self._own.get(key)
        return found if found is not None and found.before == before else None

    async def wait_for_others(self, kept_as: str) -> bool:
        """Whether there was another build at the same step. It has carried it out then, and the cache has it; or it has
        failed to."""
        owner, underway = self._all.get(kept_as, (self, None))
        if underway is None or owner is self:
            return False
        if underway.kept is None:
            underway.kept = Shared(owner.keep(kept_as, underway))
        await underway.kept.wait()
        return True

    async def keep(self, kept_as: str, underway: Underway) -> None:
        """Makes layers of what a step makes, and notes them in the cache."""
        await underway.work.wait()
        done = underway.work.task.result()
        await self._workspace.keep(done.tree)
        note_result(self._cache, [Result(kept_as, underway.before, done.tree, underway.description, done.created)])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """The build has come to its end. Unless it has failed, what other builds wait for is brought to its own, since
        it is done with the files of this one: that is what can be left of a build which nobody waits for any more."""
        failed = isinstance(error, Exception)
        going = [work.task for each in self._own.values() for work in (each.work, each.kept) if work is not None]
        try:
            if going and not failed:
                await asyncio.wait(going)
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)
            for kept_as in [kept_as for kept_as, (owner, _) in self._all.items() if owner is self]:
                del self._all[kept_as]


AllBuilds = dict[str, tuple[StepsUnderway, Underway]]


class Steps:
    """Those of one stage or graph. ``epoch`` is SOURCE_DATE_EPOCH in nanoseconds, ``results`` are for the cache."""

    def __init__(
        self,
        workspace: Workspace,
        find: Callable[[str], Awaitable[Record | None]],
        underway: StepsUnderway,
        epoch: int | None,
    ) -> None:
        """``find`` looks a step's key up in the cache."""
        self.results: list[Result] = []
        self._workspace = workspace
        self._look_up = find
        self._underway = underway
        self._epoch = epoch

    async def carry_out(self, plan: Plan, before: Tree, key: str) -> Done:
        """``key`` is the step's own."""
        kept_as = step_key("", plan.inputs) if plan.stands_alone else key
        found = await self._found(plan, before, kept_as)
        can_be_found = plan.stands_alone or before.known is not None
        if found is None and can_be_found and await self._underway.wait_for_others(kept_as):
            found = await self._found(plan, before, kept_as)
        if found is not None:
            done = await self._put_on(before, found)
        elif (other := self._underway.find(key, before)) is not None:
            await other.work.wait()
            done = msgspec.structs.replace(other.work.task.result(), cached=True)
        else:
            underway = Underway(before, plan.created_by, self._work(plan, before))
            self._underway.begin(key, kept_as, underway)
            await underway.work.wait()
            done = underway.work.task.result()
        self.remember(kept_as, before, done.tree, plan.created_by, done.created, is_new=found is None)
        return done

    async def _found(self, plan: Plan, before: Tree, kept_as: str) -> Record | None:
        return await (self._look_up(kept_as) if plan.stands_alone else self.find(kept_as, before))

    async def _put_on(self, before: Tree, found: Record) -> Done:
        """The files with what the cache has of a step, on top of those before it."""
        if found.chain_id in (found.parent, before.known):
            return Done(before, found.created, cached=True)  # it made nothing
        tree, snapshot = await self._workspace.put_on(before, found.chain_id)
        return Done(tree, found.created, snapshot, "" if snapshot else tree.chain_id, cached=True)

    async def _work(self, plan: Plan, before: Tree) -> Done:
        snapshot = await self.seal(await plan.work(before))
        return Done(before.on(snapshot) if snapshot is not None else before, self.now(), snapshot)

    async def seal(self, snapshot: ActiveSnapshot | None) -> ActiveSnapshot | None:
        """Ends the writing to a snapshot; None for one in which nothing is."""
        if snapshot is None or snapshot.is_empty:
            return None
        if self._epoch is not None:
            await self._workspace.set_latest(snapshot, self._epoch)
        self._workspace.seal(snapshot)
        return snapshot

    async def find(self, key: str, before: Tree) -> Record | None:
        """What the cache has of a step, if it stands on these files."""
        known = before.known
        found = await self._look_up(key) if known is not None else None
        if found is None or known is None or not self._workspace.stands_on(found.chain_id, known):
            return None
        return found

    def remember(
        self, key: str, before: Tree, after: Tree, description: str, created: int, *, is_new: bool = True
    ) -> None:
        self.results.append(Result(key, before, after, description, created, is_new))

    def now(self) -> int:
        return time.time_ns() if self._epoch is None else self._epoch
