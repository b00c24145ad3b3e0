"""``system df``: what containers, images and volumes take on the disk. Counting is done beside the event loop."""

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any

from wherry.engine import listing
from wherry.engine.build.builder import Builder
from wherry.engine.images import Images
from wherry.engine.roster import Roster
from wherry.engine.volumes import Volumes
from wherry.model.errors import InvalidParameter
from wherry.storage.store import Store

KINDS = ("container", "image", "volume", "build-cache")


class DiskUsage:
    def __init__(self, roster: Roster, images: Images, volumes: Volumes, builder: Builder, store: Store) -> None:
        self._roster = roster
        self._images = images
        self._volumes = volumes
        self._builder = builder
        self._store = store

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
            found["Containers"] = [
                await asyncio.to_thread(listing.summary, live.record, self._store, size=True)
                for live in sorted(self._roster, key=lambda live: live.record.created, reverse=True)
            ]
        if "volume" in kinds:
            found["Volumes"] = await asyncio.to_thread(self._volumes.usage)
        if "build-cache" in kinds:
            found["BuildCache"] = await asyncio.to_thread(self._builder.usage)
        return found

    def _with_containers(self) -> list[dict[str, Any]]:
        """The images, with how many containers each has."""
        users = Counter(live.record.image_id for live in self._roster)
        images = self._images.list_all(show_all=False, filters={}, shared_size=True)
        return [image | {"Containers": users[image["Id"]]} for image in images]
