"""The image of a build: its configuration and its history out of what a stage has come to."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec.structs import replace

from wherry.common import times
from wherry.engine.builder.history import COMMENT
from wherry.engine.builder.stage import Outcome, Step
from wherry.model.image import History, ImageConfig, RootFS
from wherry.storage.build_snapshots import Tree, top_of
from wherry.storage.content import digest_of
from wherry.storage.store import Store

INLINE_CACHE = "wherry.cache.v1"
InlineStep = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]]
InlineCache = dict[str, InlineStep]
"""Keys of steps, the chain ids that they lead to, and when they were made, in nanoseconds."""


def write_image(
    store: Store, outcome: Outcome, labels: Mapping[str, str], tree: Tree, inline: InlineCache | None
) -> tuple[str, bool]:
    """Makes the image of a stage, all of whose snapshots are kept; its id, and whether it was not there before.

    ``tree`` may have been flattened.

    ``inline`` is what of the cache travels with the image, for --cache-from elsewhere.
    """
    config = outcome.config
    if labels:
        config = replace(config, labels={**config.labels, **labels})
    history = [*outcome.base, *(_entry(step, outcome) for step in outcome.steps)]
    if tree is not outcome.tree:
        history = _squashed(outcome, history)
    os_name, architecture, variant = outcome.platform
    image = ImageConfig(
        architecture=architecture,
        os=os_name,
        variant=variant,
        created=history[-1].created if history else times.rfc3339(times.now()),
        author=outcome.author,
        config=config,
        rootfs=RootFS(diff_ids=[layer.diff_id for layer in store.layers.chain(top_of(tree))]),
        history=history,
    )
    document = msgspec.json.encode(image)
    if inline is not None:
        document = msgspec.json.encode({**msgspec.to_builtins(image), INLINE_CACHE: inline})
    there = store.images.find(digest_of(document))
    return (there.id, False) if there is not None else (store.images.add(document), True)


def _entry(step: Step, outcome: Outcome) -> History:
    has_layer = bool(step.chain_id) or (step.snapshot is not None and step.snapshot.layer is not None)
    return History(
        created=times.rfc3339(step.created),
        created_by=step.created_by,
        comment=COMMENT,
        author=outcome.author,
        empty_layer=not has_layer,
    )


def _squashed(outcome: Outcome, history: list[History]) -> list[History]:
    """The steps made no layers of their own any more; one at the end holds what they made."""
    before = len(outcome.base)
    steps = [replace(entry, empty_layer=True) for entry in history[before:]]
    merge = History(created=steps[-1].created if steps else None, comment="merge of the layers above the base image")
    return [*history[:before], *steps, merge]
