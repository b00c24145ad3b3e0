"""Volumes as the user sees them: made, listed, used by containers, removed when nobody uses them."""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping
from typing import Any

from wherry.common import times
from wherry.common.errors import Conflict, EngineError, InvalidParameter
from wherry.common.values import parse_bool
from wherry.engine.container.idmaps import INSIDE
from wherry.engine.container.mounts import volume_subpath
from wherry.engine.context import Context, Service
from wherry.engine.events import boolean, check_known, label_matches, labels_pass, name_filter
from wherry.engine.plugins import VolumePlugin, VolumePlugins, WrongInterface
from wherry.linux import host_mounts
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import SyscallError
from wherry.model.container import MountPoint, Volume
from wherry.storage.volumes import Volumes as StoredVolumes

# The driver "local": folders of the data root.
#
# One with options (a tmpfs, a share of NFS, a folder of the host) is mounted upon its folder, on the host, when the
# first container that has it starts, and unmounted when the last one has ended. So all of them see the same files.

_NETWORK_TYPES = ("nfs", "nfs4", "cifs", "smb3")


class LocalVolumes:
    """Whoever calls holds the volume's lock. A holder is a container, or what else uses a volume for a while."""

    def __init__(self, volumes: StoredVolumes) -> None:
        self._volumes = volumes
        self._holders: dict[str, set[str]] = {}

    async def mount(self, name: str, holder: str) -> str:
        """Makes the volume ready; the folder of the host where its files are. Raises EngineError."""
        volume, path = self._volumes.get(name), self._volumes.path(name)
        if volume.options and "device" in volume.options:
            if not host_mounts.is_mounted(path):
                await _in_own_thread(_mount, volume, path)
            self.hold(name, holder)
        return path

    def hold(self, name: str, holder: str) -> None:
        """Notes a user of what is mounted."""
        self._holders.setdefault(name, set()).add(holder)

    async def unmount(self, name: str, holder: str) -> None:
        holders = self._holders.get(name, set())
        holders.discard(holder)
        if not holders:
            self._holders.pop(name, None)
            await self.take_away(name)

    async def take_away(self, name: str) -> None:
        """Unmounts a volume with options that nobody uses: what an engine that was killed may have left mounted."""
        volume, path = self._volumes.get(name), self._volumes.path(name)
        if volume.options and "device" in volume.options and name not in self._holders:
            await asyncio.to_thread(host_mounts.take_away, path)


async def _in_own_thread(work: Callable[..., None], *arguments: Any) -> None:
    """Runs it in a thread that nobody waits for at the engine's end: a share's server may not answer for long."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            work(*arguments)
        except Exception as error:
            errors.append(error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="mount", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]


def _mount(volume: Volume, path: str) -> None:
    options = volume.options or {}
    type, device, given = options.get("type", ""), options["device"], options.get("o", "")
    try:
        if type in _NETWORK_TYPES:
            given = with_address(type, device, given)
        host_mounts.mount(type, device, path, given)
    except SyscallError as error:
        # Without what it was to do: the options may have a password among them.
        shown = error.path.partition(", data:")[0]
        reason = os.strerror(error.errno or 0).lower()
        raise InvalidParameter(
            f"error while mounting volume '{path}': failed to mount local volume: mount {shown}: {reason}"
        ) from None
    except OSError as error:
        raise EngineError(
            f"error while mounting volume '{path}': error resolving passed in network volume address: {error.strerror}"
        ) from None


def with_address(type: str, device: str, options: str) -> str:
    """The options with the server's address as a number: the kernel knows no names."""
    given = options.split(",")
    host = next((option.removeprefix("addr=") for option in given if option.startswith("addr=")), "")
    if not host and type in ("cifs", "smb3") and not any(option.startswith("ip=") for option in given):
        host = device.replace("\\", "/").removeprefix("//").partition("/")[0]
    if not host:
        return options
    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    kept = [option for option in given if option and not option.startswith("addr=")]
    return ",".join([*kept, f"addr={address}"])


log = logging.getLogger(__name__)

_LIST_FILTERS = {"dangling", "driver", "label", "name"}
_PRUNE_FILTERS = {"all", "label", "label!"}
_LOCAL = ("", "local")


class Volumes(Service):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._volumes = context.store.volumes
        self._files = context.store.files
        self._local = LocalVolumes(self._volumes)
        self._plugins = VolumePlugins()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._claims: dict[str, set[str]] = {}  # of a container that is being made, the volumes that it is to have

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Makes a volume, or finds the one of that name. Without a driver that is anybody's, and a new one is local.

        Raises NotFound for a driver that is not there, and Conflict when the volume is there, and another one.
        """
        anonymous = not name
        name = name or _new_name()
        return self.describe(await self._make(name, driver, options, labels, anonymous=anonymous))

    async def _make(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str] | None,
        labels: Mapping[str, str] | None,
        *,
        anonymous: bool,
    ) -> Volume:
        if anonymous:
            labels = {**(labels or {}), "com.docker.volume.anonymous": ""}
        made = Volume(
            name=name,
            created=times.now(),
            driver=driver or "local",
            labels=_sorted(labels),
            options=_sorted(options),
            anonymous=anonymous,
        )
        async with self._lock(name):
            try:
                if name in self._volumes:
                    self._check_same(self._volumes.get(name), driver, options or {})
                elif driver not in _LOCAL:
                    await self._make_plugged(made)
                elif not driver and not anonymous and (theirs := await self._find_plugged(name)):
                    made = theirs[0]
            except EngineError as error:
                raise type(error)(f"create {name}: {error.message}") from None
            volume = self._volumes.create(made)
        if volume is made:
            self._events.publish("volume", "create", name, {"driver": volume.driver})
        return volume

    def _check_same(self, known: Volume, driver: str, options: Mapping[str, str]) -> None:
        if driver not in ("", known.driver):
            if driver != "local":
                self._plugins.get(driver)
            raise Conflict(f"driver '{known.driver}' already has volume '{known.name}': volume name must be unique")
        if options and options != (known.options or {}):
            raise Conflict("it is already there with other options: remove it first, or leave them out")

    async def _make_plugged(self, volume: Volume) -> None:
        plugin = self._plugins.get(volume.driver)
        if await plugin.find(volume.name) is None:
            await plugin.create(volume.name, volume.options or {})

    async def _find_plugged(self, name: str) -> tuple[Volume, dict[str, Any]] | None:
        """A volume that a plug-in has without having been asked for it here, and what it says of it."""
        for driver in self._plugins.names():
            with contextlib.suppress(EngineError):
                if (said := await self._plugins.get(driver).find(name)) is not None:
                    return _plugged(driver, said), said
        return None

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _driver(self, name: str) -> LocalVolumes | VolumePlugin:
        driver = self._volumes.get(name).driver
        return self._local if driver == "local" else self._plugins.get(driver)

    async def inspect(self, name: str) -> dict[str, Any]:
        """The API's Volume; of a plug-in's with what the plug-in says."""
        if name not in self._volumes and (theirs := await self._find_plugged(name)):
            return self.describe(*theirs)
        volume = self._volumes.get(name)
        try:
            said = {} if volume.driver == "local" else await self._plugins.get(volume.driver).get(name)
        except EngineError as error:
            raise type(error)(f"get {name}: {error.message}") from None
        return self.describe(volume, said)

    async def list_all(self, filters: Mapping[str, list[str]]) -> tuple[list[dict[str, Any]], list[str]]:
        """The API's Volumes, those that only plug-ins know among them; and what plug-ins failed with."""
        check_known(filters, _LIST_FILTERS)
        if filters.get("dangling"):
            boolean("dangling", filters["dangling"])  # refused also where there is no volume to try it on
        found: dict[str, tuple[Volume, dict[str, Any]]] = {}
        warnings = []
        drivers = self._plugins.names()
        answers = await asyncio.gather(*map(self._list_plugged, drivers), return_exceptions=True)
        for driver, answer in zip(drivers, answers, strict=True):
            if isinstance(answer, WrongInterface):
                continue
            if isinstance(answer, EngineError):
                warnings.append(f"list {driver}: {answer.message}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found |= {said["Name"]: (_plugged(driver, said), said) for said in answer}
        for volume in self._volumes.list_all():
            found[volume.name] = (volume, found[volume.name][1] if volume.name in found else {})
        used = self._users() if filters.get("dangling") else {}
        wanted = [name_filter(text) for text in filters.get("name", ())]
        passing = sorted(
            name
            for name, (volume, _) in found.items()
            if _passes(volume, filters, used) and (not wanted or any(finds(name) for finds in wanted))
        )
        return [self.describe(*found[name]) for name in passing], warnings

    async def _list_plugged(self, driver: str) -> list[dict[str, Any]]:
        return await self._plugins.get(driver).list_all()

    def users(self, name: str) -> list[str]:
        """The ids of the containers that have the volume among their mounts, running or not."""
        return list(self._users().get(name, ()))

    def _users(self) -> dict[str, dict[str, None]]:
        """The same of every volume, by its name."""
        have = ((entry.record.id, point.name) for entry in self._entries for point in entry.record.mounts)
        will = ((container_id, name) for container_id, names in self._claims.items() for name in names)
        found: dict[str, dict[str, None]] = {}
        for container_id, name in itertools.chain(have, will):
            found.setdefault(name, {})[container_id] = None
        return found

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Raises Conflict while a container uses it; with ``force`` one that is not there is no error.

        ``force`` also forgets a plug-in's volume when the plug-in does not remove it.
        """
        if force and name not in self._volumes:
            return
        async with self._lock(name):
            volume = self._volumes.get(name)
            if users := self.users(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            try:
                if volume.driver == "local":
                    await self._local.take_away(name)
                else:
                    await self._plugins.get(volume.driver).remove(name)
            except EngineError as error:
                if not force:
                    raise type(error)(f"remove {name}: {error.message}") from None
            await self._volumes.remove(name)
        self._events.publish("volume", "destroy", name, {"driver": volume.driver})

    async def prune(self, filters: Mapping[str, list[str]]) -> dict[str, Any]:
        """Removes the anonymous volumes that nobody uses; with the filter "all" the named ones, too.

        Never those whose files are elsewhere: a plug-in's, and what an option says.
        """
        check_known(filters, _PRUNE_FILTERS)
        try:
            every = any(parse_bool(value) for value in filters.get("all", ()))
        except ValueError as error:
            raise InvalidParameter(f"invalid filter 'all': {error}") from None
        removed, reclaimed = [], 0
        for volume in self._volumes.list_all():
            wanted = _is_plain(volume) and (every or volume.anonymous) and labels_pass(volume.labels or {}, filters)
            if not wanted or self.users(volume.name):
                continue
            size = await asyncio.to_thread(self._volumes.size, volume.name)
            try:
                await self.remove(volume.name)
            except Conflict:  # a container has taken it meanwhile
                continue
            reclaimed += size
            removed.append(volume.name)
        self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return {"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}

    # --- for containers

    async def settle(self, container_id: str, point: MountPoint) -> None:
        """Makes the volume of a mount point that names one, or one without a name, and notes where it is.

        It is in use from then on, by a container that is being made: until ``made``.
        """
        request = point.request.volume_options if point.request else None
        driver = request.driver_config if request else None
        point.anonymous = point.anonymous or not point.name
        point.name = point.name or _new_name()
        self._claims.setdefault(container_id, set()).add(point.name)
        options, labels = (driver.options if driver else None), (request.labels if request else None)
        volume = await self._make(point.name, point.driver, options or None, labels or None, anonymous=point.anonymous)
        point.driver = volume.driver
        point.idmap = INSIDE if _is_plain(volume) else ""  # what lies elsewhere belongs to whom it belongs to there
        point.source = self._volumes.path(volume.name) if volume.driver == "local" else ""

    def made(self, container_id: str) -> None:
        """The container that ``settle`` was called for has come to be, or will not be."""
        self._claims.pop(container_id, None)

    async def fill(self, point: MountPoint, image: Mount) -> None:
        """Gives a volume that has nothing in it what the image has at its place; or the part of it that is mounted."""
        name, part = point.name, volume_subpath(point)
        plain = _is_plain(self._volumes.get(name))
        if (part or not plain) and not await self._files.exists((image,), point.destination):
            return
        async with self.in_use([point]), self._lock(name):
            if not part and os.listdir(point.source):
                return
            if part or not plain:
                await self._files.copy_out((image,), point.destination, point.source, part)
            else:
                with self._volumes.filling(name, alone=len(self.users(name)) == 1) as directory:
                    await self._files.copy_out((image,), point.destination, directory)

    @contextlib.asynccontextmanager
    async def in_use(self, points: Iterable[MountPoint]) -> AsyncIterator[None]:
        """Has the volumes ready meanwhile, for what is no running container."""
        holder = _new_name()
        ready: list[MountPoint] = []
        try:
            for point in points:
                if point.type == "volume":
                    await self._ready(point, holder)
                    ready.append(point)
            yield
        finally:
            for point in ready:
                await self._release(point, holder)

    @contextlib.asynccontextmanager
    async def opened(self, name: str) -> AsyncIterator[str]:
        """The folder of the host that has a volume's files, meanwhile. Raises NotFound."""
        point = MountPoint(type="volume", destination="", name=name)
        self._volumes.get(name)
        async with self.in_use([point]):
            yield point.source

    async def mount(self, container_id: str, points: Iterable[MountPoint]) -> None:
        """Before a container starts: makes its volumes ready, and notes in the mount points where. All or none."""
        done: list[MountPoint] = []
        try:
            for point in points:
                if point.type != "volume":
                    continue
                await self._ready(point, container_id)
                done.append(point)
                how = {"destination": point.destination, "propagation": point.propagation}
                self._tell(point, "mount", container_id, how | {"read/write": str(point.rw).lower()})
        except BaseException:
            await self.unmount(container_id, done)
            raise

    async def unmount(self, container_id: str, points: Iterable[MountPoint]) -> None:
        """After its end: it needs its volumes no more."""
        for point in points:
            if point.type == "volume":
                await self._release(point, container_id)
                self._tell(point, "unmount", container_id, {})

    async def _ready(self, point: MountPoint, holder: str) -> None:
        async with self._lock(point.name):
            point.source = await self._driver(point.name).mount(point.name, holder)

    async def _release(self, point: MountPoint, holder: str) -> None:
        """A driver that fails at it is only logged: what used the volume has ended."""
        try:
            async with self._lock(point.name):
                await self._driver(point.name).unmount(point.name, holder)
        except (EngineError, OSError) as error:
            log.warning("volume %s: %s", point.name, error)

    def adopt(self, container_id: str, points: Iterable[MountPoint]) -> None:
        """Takes up the volumes of a container that an earlier engine started, and that runs."""
        for point in points:
            if point.type == "volume" and point.driver in _LOCAL:
                self._local.hold(point.name, container_id)

    async def adopted(self) -> None:
        """All have been adopted: nobody uses what else is mounted."""
        for volume in self._volumes.list_all():
            if volume.driver == "local":
                async with self._lock(volume.name):
                    await self._local.take_away(volume.name)

    def _tell(self, point: MountPoint, action: str, container_id: str, how: Mapping[str, str]) -> None:
        self._events.publish("volume", action, point.name, {"driver": point.driver, "container": container_id, **how})

    async def remove_anonymous(self, points: Iterable[MountPoint]) -> None:
        """Removes the volumes without a name of a container that is gone, if it was the last that had them."""
        for point in points:
            if point.anonymous and point.name in self._volumes and not self.users(point.name):
                await self.remove(point.name)

    def describe(self, volume: Volume, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The API's Volume. ``said`` is what its plug-in says of it."""
        said = said or {}
        local = volume.driver == "local"
        found = {
            "CreatedAt": said.get("CreatedAt") or times.rfc3339(volume.created - volume.created % 1_000_000_000),
            "Driver": volume.driver,
            "Labels": volume.labels,
            "Mountpoint": self._volumes.path(volume.name) if local else said.get("Mountpoint", ""),
            "Name": volume.name,
            "Options": volume.options,
            "Scope": "local" if local else self._plugins.scope(volume.driver),
        }
        return found | ({"Status": said["Status"]} if said.get("Status") else {})

    async def usage(self) -> list[dict[str, Any]]:
        """The engine's own, each with what it takes and how many containers use it, for ``system df``."""
        plain = [volume for volume in self._volumes.list_all() if _is_plain(volume)]
        sizes = await asyncio.to_thread(lambda: [self._volumes.size(volume.name) for volume in plain])
        users = self._users()
        return [
            self.describe(volume) | {"UsageData": {"Size": size, "RefCount": len(users.get(volume.name, ()))}}
            for volume, size in zip(plain, sizes, strict=True)
        ]


def _passes(volume: Volume, filters: Mapping[str, list[str]], used: Container[str]) -> bool:
    if filters.get("dangling") and boolean("dangling", filters["dangling"]) == (volume.name in used):
        return False
    if filters.get("driver") and volume.driver not in filters["driver"]:
        return False
    return all(label_matches(volume.labels or {}, wanted) for wanted in filters.get("label", ()))


def _sorted(pairs: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if pairs is None else dict(sorted(pairs.items()))


def _new_name() -> str:
    return os.urandom(32).hex()


def _is_plain(volume: Volume) -> bool:
    return volume.driver == "local" and not volume.options


def _plugged(driver: str, said: Mapping[str, Any]) -> Volume:
    return Volume(name=str(said["Name"]), created=times.now(), driver=driver)
