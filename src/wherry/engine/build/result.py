"""The image: its configuration out of what the target stage has come to."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from wherry.engine import clock
from wherry.engine.build.created_by import COMMENT
from wherry.engine.build.keys import step_key
from wherry.engine.build.stage import Outcome, Result, Step
from wherry.model.image import History, ImageConfig, RootFS
from wherry.storage import digests
from wherry.storage.build_cache import BuildCache
from wherry.storage.drafts import Tree, top_of
from wherry.storage.store import Store

INLINE_CACHE = "wherry.cache.v0"


def note(cache: BuildCache, results: list[Result]) -> dict[str, str]:
    """Writes into the cache what steps made, whose drafts are all kept; the keys and what they lead to."""
    noted = {}
    with cache.transaction():
        for result in results:
            before, after = top_of(result.before), top_of(result.after)
            key = step_key(before, result.inputs)
            cache.add(key, chain_id=after, parent=before, description=result.description, created=result.created)
            noted[key] = after
    return noted


def write_image(
    store: Store, outcome: Outcome, labels: Mapping[str, str], tree: Tree, inline: Mapping[str, str] | None
) -> tuple[str, bool]:
    """Makes the image of a stage, all of whose drafts are kept; its id, and whether it was not there before.

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
        created=history[-1].created if history else clock.rfc3339(clock.now()),
        author=outcome.author,
        config=config,
        rootfs=RootFS(diff_ids=[layer.diff_id for layer in store.layers.chain(top_of(tree))]),
        history=history,
    )
    document = msgspec.json.encode(image)
    if inline is not None:
        document = msgspec.json.encode({**msgspec.to_builtins(image), INLINE_CACHE: dict(inline)})
    there = store.images.find(digests.of(document))
    return (there.id, False) if there is not None else (store.images.add(document), True)


def _entry(step: Step, outcome: Outcome) -> History:
    has_layer = bool(step.chain_id) or (step.draft is not None and step.draft.layer is not None)
    return History(
        created=clock.rfc3339(step.created),
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
