"""``commit``: what a container changed becomes a layer, and with its configuration an image."""

from collections.abc import Sequence

import msgspec

from wherry.dockerfile.changes import apply_changes
from wherry.engine import clock
from wherry.engine.containers import Containers
from wherry.engine.events import Events
from wherry.model import reference
from wherry.model.config import ContainerConfig
from wherry.model.container import Container, Status
from wherry.model.errors import Conflict
from wherry.model.image import History, ImageConfig, RootFS
from wherry.storage.store import Store


async def commit(
    containers: Containers,
    store: Store,
    events: Events,
    name: str,
    *,
    repo: str,
    tag: str,
    comment: str,
    author: str,
    pause: bool,
    changes: Sequence[str],
    config: ContainerConfig | None,
) -> str:
    """Makes an image of a container and gives its id. A running container is paused meanwhile, unless told not to."""
    target = reference.tagged(repo, tag) if repo else None
    live = containers.find(name)
    record = live.record
    if record.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(f"You cannot commit container {record.id} which is {record.state.status}")
    new_config = apply_changes(_base_config(record, config), list(changes))
    paused = pause and record.state.status is Status.RUNNING
    if paused:
        try:
            await containers.pause(record.id)
        except Conflict:  # it has just ended, or somebody else paused it
            paused = False
    try:
        layer = await store.snapshots.commit(record.id)
    finally:
        if paused and live.record.state.status is Status.PAUSED:
            await containers.unpause(record.id)
    parent = store.images.get(record.image_id)
    image = _describe(record, parent.config, new_config, comment=comment, author=author, diff_id=layer.diff_id)
    image_id = store.images.create(image, parent=record.image_id, layer=layer)
    if target is not None:
        store.images.tag(image_id, target)
        labels = image.config.labels if image.config else {}
        events.publish("image", "tag", image_id, labels | {"name": target.familiar})
    events.container(record, "commit", comment=comment, imageID=image_id, imageRef=target.familiar if target else "")
    return image_id


def _base_config(record: Container, config: ContainerConfig | None) -> ContainerConfig:
    """The container's configuration, overlaid by what the request sets."""
    base = msgspec.structs.replace(record.config)
    if config is None:
        return base
    defaults = ContainerConfig()
    for field in ContainerConfig.__struct_fields__:
        value = getattr(config, field)
        if value != getattr(defaults, field):
            setattr(base, field, value)
    return base


def _describe(
    record: Container, parent: ImageConfig, config: ContainerConfig, *, comment: str, author: str, diff_id: str
) -> ImageConfig:
    """The new image's configuration: the parent's, with one layer and one line of history more."""
    now = clock.rfc3339(clock.now())
    step = History(created=now, created_by=" ".join([record.path, *record.args]), author=author, comment=comment)
    return msgspec.structs.replace(
        parent,
        created=now,
        author=author,
        comment=comment,
        container=record.id,
        config=msgspec.structs.replace(config, image="", hostname="", domainname="", attach_stdin=False,
                                       attach_stdout=False, attach_stderr=False, tty=False, open_stdin=False,
                                       stdin_once=False),
        rootfs=RootFS(diff_ids=[*parent.rootfs.diff_ids, diff_id]),
        history=[*parent.history, step],
    )  # fmt: skip
