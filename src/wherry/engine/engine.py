"""The engine: opens what is on disk, finds the containers that run, and holds together the parts that do the work."""

import asyncio
import json
import os
import uuid

import msgspec

from wherry.common.settings import SETTINGS
from wherry.engine.builder.builder import Builder
from wherry.engine.builder.run import Containers as BuildContainers
from wherry.engine.config import EngineConfig
from wherry.engine.container.archive import Archives
from wherry.engine.container.exec import Execs
from wherry.engine.container.inspect import Views
from wherry.engine.container.lifecycle import Lifecycle
from wherry.engine.container.recovery import Recovery
from wherry.engine.container.service import Containers
from wherry.engine.container.spec import default_profile
from wherry.engine.container.store import ContainerStore
from wherry.engine.container.update import Updates
from wherry.engine.events import Events
from wherry.engine.image.exports import Exports
from wherry.engine.image.images import Images
from wherry.engine.image.pull import Pulls
from wherry.engine.image.push import Pushes
from wherry.engine.image.registry import Registry
from wherry.engine.image.remote_cache import Caches
from wherry.engine.network.attach import NetworkEndpoints
from wherry.engine.network.drivers import NetworkDrivers
from wherry.engine.network.networks import Networks
from wherry.engine.prune import DiskUsage, Prune
from wherry.engine.system import System
from wherry.engine.volumes import Volumes
from wherry.linux import capabilities, process, seccomp
from wherry.linux.cgroups import Hierarchies
from wherry.registry.endpoints import Registries
from wherry.runtime.launcher_client import Launcher
from wherry.storage.database import Database
from wherry.storage.store import Store


class Engine:
    """Made by ``open``; ``close`` lets the containers run on.

    ``containers`` changes their state, ``views`` looks at them (list, inspect, logs, changes, top, export).
    """

    def __init__(self, config: EngineConfig, database: Database, store: Store, launcher: Launcher) -> None:
        hierarchies = Hierarchies.usable()
        if not config.default_cgroupns_mode:
            mode = "host" if hierarchies.version == 1 else "private"
            config = msgspec.structs.replace(config, default_cgroupns_mode=mode)
        self.config = config
        self._database = database
        self._store = store
        self._launcher = launcher
        self._entries = ContainerStore(database)
        self.events = Events(database)
        self.volumes = Volumes(self._entries, store, self.events)
        engine_id = _engine_id(config.data_root)
        drivers = NetworkDrivers(engine_id, config)
        self.networks = Networks(self._entries, database, drivers, self.events, config)
        self.endpoints = NetworkEndpoints(self._entries, self.networks, drivers, self.events, config)
        self._lifecycle = Lifecycle(
            config, self._entries, store, self.volumes, self.events, launcher, hierarchies, self.endpoints
        )
        self.health_checks = self._lifecycle.health_checks
        self._recovery = Recovery(config.exec_root, self._entries, store, self.volumes, self._lifecycle, self.endpoints)
        self.containers = Containers(
            config, self._entries, store, self.volumes, self.events, self._lifecycle, self.endpoints
        )
        self.execs = Execs(self._entries, self.containers, self.events)
        self._registries = registries = Registries()
        self._configure_registries()
        self.registry = Registry(registries)
        self.pushes = Pushes(store, self.events, registries, config)
        self._pulls = pulls = Pulls(store, self.events, registries, config)
        self.images = Images(self._entries, self.containers, store, self.events, pulls)
        build_containers = BuildContainers(config, launcher, self.endpoints, store.staging, self._entries)
        self.exports = Exports(store, self.images, self.pushes)
        self.caches = Caches(store, registries, pulls.transfers)
        self.builder = Builder(store, self.images, self.exports, self.caches, build_containers)
        self.archives = Archives(self._entries, self.containers, store, self.volumes, self.events)
        self.updates = Updates(self._entries, self.containers, self.events)
        self.prune = Prune(self._entries, self.containers, self.images, store, self.events)
        self.disk_usage = DiskUsage(self._entries, self.images, self.volumes, self.builder, store)
        self.views = Views(self._entries, self.containers, self.execs, store, self.events)
        self.system = System(
            config,
            self._entries,
            store,
            self.events,
            hierarchies,
            engine_id,
            registries,
            has_firewall=drivers.rules is not None,
        )

    @classmethod
    async def open(cls, config: EngineConfig) -> "Engine":
        """Opens the data root and takes over the containers of the engine that was here before."""
        os.makedirs(f"{config.data_root}/containers", mode=0o710, exist_ok=True)
        os.makedirs(config.exec_root, mode=0o711, exist_ok=True)
        default_profile(config.seccomp_profile)
        database = Database(f"{config.data_root}/state.db")
        store = Store.open(config.data_root, database)
        engine = cls(config, database, store, await Launcher.spawn(config.exec_root))
        process.raise_descriptor_limit()  # after the launcher's start: containers get what the engine was given
        # The first compilation loads libseccomp, which takes longer than a whole start of a container.
        await asyncio.to_thread(seccomp.compile_profile, seccomp.default_profile(), capabilities.DEFAULT)
        await engine._recovery.run()
        return engine

    def reload(self, wanted: EngineConfig) -> None:
        """Takes over what can change while containers run. Raises InvalidParameter, and then nothing has."""
        Registries(wanted.insecure_registries, wanted.registry_mirrors)
        attributes = {"name": os.uname().nodename}
        for setting in SETTINGS:
            field = setting.key.replace("-", "_")
            if setting.reloads and hasattr(self.config, field):
                value = getattr(wanted, field)
                setattr(self.config, field, value)
                attributes[setting.key] = value if isinstance(value, str) else json.dumps(value)
        self._configure_registries()
        self._pulls.limit(self.config.max_concurrent_downloads)
        self.pushes.limit(self.config.max_concurrent_uploads)
        self.events.publish("daemon", "reload", self.system.id, attributes)

    def _configure_registries(self) -> None:
        config = self.config
        self._registries.configure(config.insecure_registries, config.registry_mirrors, config.max_download_attempts)

    async def close(self) -> None:
        if not self.config.live_restore:
            await self.containers.shut_down()
        await self.builder.close()
        self._recovery.close()
        await self._lifecycle.close()
        self.endpoints.close()
        await self._launcher.close()
        self.events.write()
        await asyncio.to_thread(self._store.close)
        self._database.close()


def _engine_id(data_root: str) -> str:
    """The id of this installation, made once and kept in the data root."""
    path = f"{data_root}/engine-id"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        engine_id = str(uuid.uuid4())
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(engine_id)
        os.rename(f"{path}.new", path)
        return engine_id
