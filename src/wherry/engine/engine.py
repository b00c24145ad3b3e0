"""The engine: opens what is on disk, finds the containers that run, and holds together the parts that do the work."""

import asyncio
import json
import os

from wherry.common.settings import SETTINGS
from wherry.engine.admission import Standing
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
from wherry.engine.container.update import Updates
from wherry.engine.container.user_namespaces import UserNamespaces
from wherry.engine.context import Context
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
from wherry.registry.endpoints import Registries
from wherry.runtime.launcher_client import Launcher
from wherry.storage import data_root
from wherry.storage.database import Database
from wherry.storage.store import Store


class Engine:
    """Made by ``open``; ``close`` lets the containers run on.

    ``containers`` changes their state, ``views`` looks at them (list, inspect, logs, changes, top, export).
    """

    def __init__(self, context: Context) -> None:
        self.config, self.events, self.entries = context.config, context.events, context.entries
        self._context = context
        self.starts = context.starts
        self.starts.tell = self._tell_of_starts
        self._configure_registries()

        drivers = NetworkDrivers(context.engine_id, context.config)
        self.volumes = volumes = Volumes(context)
        self.networks = networks = Networks(context, drivers)
        self.endpoints = endpoints = NetworkEndpoints(context, networks, drivers)

        self._lifecycle = lifecycle = Lifecycle(context, volumes, endpoints)
        self._recovery = Recovery(context, volumes, endpoints, lifecycle)
        self.health_checks = lifecycle.health_checks
        user_namespaces = UserNamespaces(context)
        self.containers = containers = Containers(context, volumes, endpoints, lifecycle, user_namespaces)
        self.execs = execs = Execs(context, containers)
        self.archives = Archives(context, volumes, containers)
        self.updates = Updates(context, containers)
        self.views = Views(context, containers, execs)

        self.registry = Registry(context)
        self._pulls = pulls = Pulls(context)
        self.pushes = pushes = Pushes(context)
        self.images = images = Images(context, containers, pulls)
        self.exports = exports = Exports(context, images, pushes)
        self.caches = caches = Caches(context, pulls.transfers)
        runs = BuildContainers(context, endpoints, user_namespaces)
        self.builder = builder = Builder(context, images, exports, caches, runs)

        self.prune = Prune(context, containers, images)
        self.disk_usage = DiskUsage(context, volumes, images, builder)
        self.system = System(context, drivers)

    @classmethod
    async def open(cls, config: EngineConfig) -> "Engine":
        """Opens the data root and takes over the containers of the engine that was here before."""
        os.makedirs(config.data_root, mode=data_root.MODE, exist_ok=True)
        data_root.claim(config.data_root)
        os.makedirs(f"{config.data_root}/containers", mode=0o710, exist_ok=True)
        os.makedirs(config.exec_root, mode=0o711, exist_ok=True)
        default_profile(config.seccomp_profile)
        database = Database(f"{config.data_root}/state.db")
        store = Store.open(config.data_root, database)
        engine = cls(Context.of(config, database, store, await Launcher.spawn(config.exec_root)))
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

    def _tell_of_starts(self, standing: Standing) -> None:
        attributes = {"waiting": str(standing.waiting), "underWay": str(standing.under_way)}
        self.events.publish("daemon", "admission", self.system.id, {"name": os.uname().nodename, **attributes})

    def _configure_registries(self) -> None:
        config = self.config
        self._context.registries.configure(
            config.insecure_registries, config.registry_mirrors, config.max_download_attempts
        )

    async def close(self) -> None:
        if not self.config.live_restore:
            await self.containers.shut_down()
        await self.builder.close()
        self._recovery.close()
        await self._lifecycle.close()
        self.endpoints.close()
        await self._context.launcher.close()
        self.events.write()
        await asyncio.to_thread(self._context.store.close)
        self._context.database.close()
