"""``prune``: takes away the containers that have ended and the images that nobody needs."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wherry.common import times
from wherry.common.errors import Conflict, InvalidParameter, NotFound
from wherry.engine.builder.builder import Builder
from wherry.engine.container.inspect import add_sizes, list_containers
from wherry.engine.container.service import Containers
from wherry.engine.context import Context, Service
from wherry.engine.events import boolean, check_known, labels_pass
from wherry.engine.image.images import Images
from wherry.engine.volumes import Volumes
from wherry.model.container import Status
from wherry.storage.images import Summary

_CONTAINER_FILTERS = frozenset(("label", "label!", "until"))
_IMAGE_FILTERS = _CONTAINER_FILTERS | {"dangling"}
_ENDED = (Status.CREATED, Status.EXITED, Status.DEAD)

Filters = Mapping[str, list[str]]


class Prune(Service):
    """One at a time: what a second one would count, the first is about to remove. Raises Conflict for that."""

    def __init__(self, context: Context, containers: Containers, images: Images) -> None:
        super().__init__(context)
        self._containers = containers
        self._images = images
        self._running = False

    async def containers(self, filters: Filters) -> dict[str, Any]:
        """Removes those that do not run. The API's ContainerPruneResponse, sizes in bytes."""
        check_known(filters, _CONTAINER_FILTERS)
        before = _until(filters)
        removed, reclaimed = [], 0
        with self._alone():
            for entry in self._entries:
                record = entry.record
                if record.state.status not in _ENDED or (before is not None and record.created > before):
                    continue
                if not labels_pass(record.config.labels, filters):
                    continue
                size = await asyncio.to_thread(self._store.snapshots.size, record.id)
                with contextlib.suppress(Conflict, NotFound):  # it has been started or removed meanwhile
                    await self._containers.remove(record.id)
                    removed.append(record.id)
                    reclaimed += size
            self._events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ContainersDeleted": removed or None, "SpaceReclaimed": reclaimed}

    async def images(self, filters: Filters) -> dict[str, Any]:
        """Removes the images without a name, and with the filter "dangling=false" all that no container has.

        The API's ImagePruneResponse, sizes in bytes.
        """
        check_known(filters, _IMAGE_FILTERS)
        before = _until(filters)
        dangling = boolean("dangling", filters["dangling"]) if filters.get("dangling") else True
        removed: list[dict[str, str]] = []
        with self._alone():
            size = self._store.disk_usage().layers
            used = frozenset[str]().union(*(entry.images for entry in self._entries))
            for summary in self._store.images.summaries():
                image = summary.image
                labels = image.config.config.labels if image.config.config else {}
                if image.id in used or not _is_unused(summary, dangling=dangling):
                    continue
                if (before is not None and image.created * 10**9 > before) or not labels_pass(labels, filters):
                    continue
                for name in (*summary.tags, *summary.digests) or (image.id,):
                    # A container may have taken it meanwhile, and a tag's end may have been a digest's, too.
                    with contextlib.suppress(Conflict, NotFound):
                        removed += await self._images.remove(name)
            reclaimed = max(0, size - self._store.disk_usage().layers)
            self._events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ImagesDeleted": removed or None, "SpaceReclaimed": reclaimed}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._running:
            raise Conflict("a prune operation is already running")
        self._running = True
        try:
            yield
        finally:
            self._running = False


def _is_unused(summary: Summary, *, dangling: bool) -> bool:
    """What is only a step to another image goes with that one."""
    if summary.children and not summary.tags and not summary.digests:
        return False
    return summary.dangling if dangling else True


def _until(filters: Filters) -> int | None:
    """Nanoseconds since the epoch: what was made later stays."""
    moments = filters.get("until", [])
    if len(moments) > 1:
        raise InvalidParameter("more than one until filter specified")
    return times.parse_timestamp(moments[0]) if moments else None


# ``system df``: what containers, images and volumes take on the disk. Counting is done beside the event loop.

KINDS = ("container", "image", "volume", "build-cache")


class DiskUsage(Service):
    def __init__(self, context: Context, volumes: Volumes, images: Images, builder: Builder) -> None:
        super().__init__(context)
        self._volumes = volumes
        self._images = images
        self._builder = builder

    async def measure(self, kinds: Collection[str] = KINDS) -> dict[str, Any]:
        """The API's SystemDataUsageResponse, bytes, with what is asked for of it. Raises InvalidParameter."""
        for kind in kinds:
            if kind not in KINDS:
                raise InvalidParameter(f"unknown object type: {kind}")
        found: dict[str, Any] = {}
        if "image" in kinds:
            found["LayersSize"] = self._store.disk_usage().layers
            found["Images"] = self._with_containers()
        if "container" in kinds:
            containers = list_containers(self._entries, self._store, show_all=True, limit=None, filters={})
            await add_sizes(containers, self._entries, self._store)
            found["Containers"] = containers
        if "volume" in kinds:
            found["Volumes"] = await self._volumes.usage()
        if "build-cache" in kinds:
            found["BuildCache"] = await asyncio.to_thread(self._builder.cache.usage)
        return found

    def _with_containers(self) -> list[dict[str, Any]]:
        """The images, with how many containers each has."""
        users = Counter(entry.record.image_id for entry in self._entries)
        images = self._images.list_all(show_all=False, filters={}, shared_size=True)
        return [image | {"Containers": users[image["Id"]]} for image in images]
