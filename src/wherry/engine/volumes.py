"""Volumes as the user sees them: made, listed, used by containers, removed when nobody uses them."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from wherry.engine import clock
from wherry.engine.events import Events
from wherry.engine.filters import boolean, label_matches
from wherry.engine.roster import Roster
from wherry.engine.volume_plugins import VolumePlugins
from wherry.model.errors import Conflict, EngineError, InvalidParameter
from wherry.model.volume import MountPoint, Volume
from wherry.storage.store import Store

log = logging.getLogger(__name__)

_LIST_FILTERS = {"dangling", "driver", "label", "name"}
_PRUNE_FILTERS = {"all", "label", "label!"}


class Volumes:
    def __init__(self, roster: Roster, store: Store, events: Events) -> None:
        self._roster = roster
        self._volumes = store.volumes
        self._events = events
        self._plugins = VolumePlugins()

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Makes a volume, or finds the one of that name. Raises NotFound for a driver that is not there."""
        return self.describe(await self._make(name, driver, options or {}, labels or {}))

    async def _make(self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str]) -> Volume:
        driver = driver or "local"
        anonymous = not name
        name = name or os.urandom(32).hex()
        labels = dict(labels)
        if anonymous:
            labels["com.docker.volume.anonymous"] = ""
        known = name in self._volumes
        if known and options and dict(options) != self._volumes.get(name).options:
            raise Conflict(f"volume {name} is already there with other options: remove it first, or leave them out")
        if not known and driver != "local":
            try:
                await self._plugins.get(driver).create(name, dict(options))
            except EngineError as error:
                raise type(error)(f"create {name}: {error.message}") from None
        volume = self._volumes.create(
            Volume(
                name=name,
                created=clock.now(),
                driver=driver,
                labels=labels,
                options=dict(options),
                anonymous=anonymous,
            )
        )
        if not known:
            self._events.publish("volume", "create", name, {"driver": driver})
        return volume

    async def inspect(self, name: str) -> dict[str, Any]:
        """The API's Volume; of a plug-in's with what the plug-in says."""
        volume = self._volumes.get(name)
        found = self.describe(volume)
        if volume.driver != "local":
            said = await self._plugins.get(volume.driver).get(name)
            found["Mountpoint"] = said.get("Mountpoint", "")
            if said.get("Status"):
                found["Status"] = said["Status"]
        return found

    def list_all(self, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        unknown = set(filters) - _LIST_FILTERS
        if unknown:
            raise InvalidParameter(f"invalid filter '{min(unknown)}'")
        return [self.describe(volume) for volume in self._volumes.list_all() if self._passes(volume, filters)]

    def _passes(self, volume: Volume, filters: Mapping[str, list[str]]) -> bool:
        if filters.get("dangling") and boolean("dangling", filters["dangling"]) == bool(self.users(volume.name)):
            return False
        if filters.get("driver") and volume.driver not in filters["driver"]:
            return False
        if filters.get("name") and not any(name in volume.name for name in filters["name"]):
            return False
        return all(label_matches(volume.labels, wanted) for wanted in filters.get("label", ()))

    def users(self, name: str) -> list[str]:
        """The ids of the containers that have the volume among their mounts, running or not."""
        return [live.record.id for live in self._roster if any(point.name == name for point in live.record.mounts)]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict while a container uses it; with ``force`` one that is not there is no error."""
        if force and name not in self._volumes:
            return
        volume = self._volumes.get(name)
        users = self.users(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        if volume.driver != "local":
            await self._plugins.get(volume.driver).remove(name)
        self._volumes.remove(name)
        self._events.publish("volume", "destroy", name, {"driver": volume.driver})

    async def prune(self, filters: Mapping[str, list[str]]) -> dict[str, Any]:
        """Removes the anonymous volumes that nobody uses; with the filter "all" the named ones, too."""
        unknown = set(filters) - _PRUNE_FILTERS
        if unknown:
            raise InvalidParameter(f"invalid filter '{min(unknown)}'")
        every = bool(filters.get("all")) and boolean("all", filters["all"])
        removed, reclaimed = [], 0
        for volume in self._volumes.list_all():
            if not (every or volume.anonymous) or self.users(volume.name):
                continue
            if not all(label_matches(volume.labels, wanted) for wanted in filters.get("label", ())):
                continue
            if any(label_matches(volume.labels, unwanted) for unwanted in filters.get("label!", ())):
                continue
            reclaimed += max(0, self._volumes.size(volume.name))
            await self.remove(volume.name)
            removed.append(volume.name)
        self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return {"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}

    async def for_point(self, point: MountPoint) -> None:
        """Makes the volume of a mount point that names one, or one without a name, and notes where it is."""
        request = point.request.volume_options if point.request else None
        driver = request.driver_config if request else None
        anonymous = not point.name
        volume = await self._make(
            point.name, point.driver, driver.options if driver else {}, request.labels if request else {}
        )
        point.name, point.anonymous = volume.name, anonymous
        point.driver = volume.driver
        point.source = self._volumes.path(volume.name) if volume.driver == "local" else ""

    async def mount(self, container_id: str, points: list[MountPoint]) -> None:
        """Before a container starts: has plug-ins make its volumes ready, and notes in the mount points where."""
        for point in points:
            if point.type != "volume":
                continue
            if _is_plugged(point):
                point.source = await self._plugins.get(point.driver).mount(point.name, container_id)
            how = {"destination": point.destination, "propagation": point.propagation}
            how["read/write"] = str(point.rw).lower()
            self._tell(point, "mount", container_id, how)

    async def unmount(self, container_id: str, points: list[MountPoint]) -> None:
        """After its end: tells plug-ins that it needs its volumes no more. One that does not answer is only logged."""
        for point in points:
            if point.type != "volume":
                continue
            if _is_plugged(point):
                try:
                    await self._plugins.get(point.driver).unmount(point.name, container_id)
                except EngineError as error:
                    log.warning("volume %s: %s", point.name, error.message)
            self._tell(point, "unmount", container_id, {})

    def _tell(self, point: MountPoint, action: str, container_id: str, how: Mapping[str, str]) -> None:
        self._events.publish("volume", action, point.name, {"driver": point.driver, "container": container_id, **how})

    def is_fresh(self, name: str) -> bool:
        """Whether a volume is to be filled from an image: the engine's own folder, and nothing in it yet."""
        volume = self._volumes.get(name)
        return volume.driver == "local" and not volume.options and self._volumes.is_empty(name)

    async def remove_anonymous(self, points: list[MountPoint]) -> None:
        """Removes the volumes that were made for one container, which is gone; others may still use them."""
        for point in points:
            if point.anonymous and point.name in self._volumes and not self.users(point.name):
                await self.remove(point.name)

    def describe(self, volume: Volume) -> dict[str, Any]:
        """The API's Volume."""
        return {
            "CreatedAt": clock.rfc3339(volume.created - volume.created % 1_000_000_000),
            "Driver": volume.driver,
            "Labels": dict(sorted(volume.labels.items())) or None,
            "Mountpoint": self._volumes.path(volume.name) if volume.driver == "local" else "",
            "Name": volume.name,
            "Options": dict(sorted(volume.options.items())) or None,
            "Scope": "local",
        }

    def usage(self) -> list[dict[str, Any]]:
        """Each volume with what it takes and how many containers use it, for ``system df``."""
        return [
            self.describe(volume)
            | {"UsageData": {"Size": self._volumes.size(volume.name), "RefCount": len(self.users(volume.name))}}
            for volume in self._volumes.list_all()
        ]


def _is_plugged(point: MountPoint) -> bool:
    return point.driver not in ("", "local")
