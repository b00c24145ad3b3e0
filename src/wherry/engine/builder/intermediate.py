"""Intermediate containers of the classic builder: that of a command which has failed stays, and all with --rm=false.

People look into them, commit them or start them again. One whose command has succeeded stands on the layer that the
command has made; one that has failed has its files for itself.
"""

import contextlib

import msgspec

from wherry.common import times
from wherry.common.errors import EngineError
from wherry.engine.builder.image import write_image
from wherry.engine.builder.stage import Outcome, Step
from wherry.engine.container.store import ContainerStore
from wherry.model.container import Container, State, Status
from wherry.storage.build_snapshots import ActiveSnapshot, Workspace, top_of
from wherry.storage.store import Store


class Left(msgspec.Struct, frozen=True):
    """A container that has ended: what it began with, its layer, and what the history would say of it."""

    record: Container
    before: Outcome
    snapshot: ActiveSnapshot
    created_by: str


async def keep_all(
    found: list[Left], workspace: Workspace, store: Store, entries: ContainerStore, image: str = ""
) -> None:
    """``image`` is what was made of them in the end. An image that something else stands on is not listed."""
    parent = ""
    for each in found:
        with contextlib.suppress(EngineError):  # the disk is full, most likely, which the build's own error says
            made = await _keep(each, workspace, store, entries)
            if parent and made != parent:
                store.images.set_parent(made, parent)
            parent = made
    if image and parent not in ("", image):
        store.images.set_parent(image, parent)


async def _keep(left: Left, workspace: Workspace, store: Store, entries: ContainerStore) -> str:
    """Makes a container of it; the image that it is of. Raises EngineError."""
    record, outcome = left.record, left.before
    failed = record.state.exit_code != 0
    if not failed:
        step = Step(left.created_by, record.state.finished_at, left.snapshot)
        tree = outcome.tree.on(left.snapshot) if left.snapshot.sealed else outcome.tree
        outcome = msgspec.structs.replace(outcome, tree=tree, steps=(*outcome.steps, step))
    await workspace.keep(outcome.tree)
    image, _ = write_image(store, outcome, {}, outcome.tree, None)
    record.image = image.removeprefix("sha256:")[:12]
    record.image_id, record.chain_id = image, top_of(outcome.tree)
    store.snapshots.create(record.id, record.chain_id)
    if failed:
        store.snapshots.give(record.id, left.snapshot.upper)
    record.name = entries.reserve(None, record.id)
    entries.add(record)
    return image


def ended(record: Container, started: int, code: int) -> Container:
    """What was begun at ``started``, as a container that has ended."""
    record.state = State(status=Status.EXITED, exit_code=code, started_at=started, finished_at=times.now())
    return record
