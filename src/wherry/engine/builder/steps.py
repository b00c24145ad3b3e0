"""Steps: what changes files, found in the cache or carried out. Stages of a Dockerfile and graphs are made of them."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace

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


class Underway(msgspec.Struct, frozen=True):
    """A step that is being carried out, for whoever comes to the same one on the same files."""

    before: Tree
    done: "asyncio.Future[Done]"


class Steps:
    """Those of one build. ``underway`` has the steps of all of it by their keys, ``epoch`` is SOURCE_DATE_EPOCH in
    nanoseconds, and ``results`` are for the cache."""

    def __init__(
        self,
        workspace: Workspace,
        find: Callable[[str], Awaitable[Record | None]],
        underway: dict[str, Underway],
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
        found = await (self._look_up(kept_as) if plan.stands_alone else self.find(kept_as, before))
        other = self._underway.get(key)
        if found is not None:
            done = await self._put_on(before, found)
        elif other is not None and other.before == before:
            done = msgspec.structs.replace(await asyncio.shield(other.done), cached=True)
        else:
            done = await self._work(plan, before, key)
        self.remember(kept_as, before, done.tree, plan.created_by, done.created, is_new=found is None)
        return done

    async def _put_on(self, before: Tree, found: Record) -> Done:
        """The files with what the cache has of a step, on top of those before it."""
        if found.chain_id in (found.parent, before.known):
            return Done(before, found.created, cached=True)  # it made nothing
        tree, snapshot = await self._workspace.put_on(before, found.chain_id)
        return Done(tree, found.created, snapshot, "" if snapshot else tree.chain_id, cached=True)

    async def _work(self, plan: Plan, before: Tree, key: str) -> Done:
        ended: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._underway.setdefault(key, Underway(before, ended))
        try:
            snapshot = await self.seal(await plan.work(before))
        except Exception as error:
            ended.set_exception(error)
            ended.exception()  # nobody else may have come to the same step
            raise
        except asyncio.CancelledError:
            ended.cancel()
            raise
        done = Done(before.on(snapshot) if snapshot is not None else before, self.now(), snapshot)
        ended.set_result(done)
        return done

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
