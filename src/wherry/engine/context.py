"""What all parts of the engine share: its settings, its stores, and the processes and facts of this machine."""

import os
import uuid
from dataclasses import dataclass

from wherry.engine.admission import Admission, default_limit
from wherry.engine.config import EngineConfig
from wherry.engine.container.store import ContainerStore
from wherry.engine.events import Events
from wherry.linux.cgroups import Hierarchies
from wherry.registry.endpoints import Registries
from wherry.runtime.launcher_client import Launcher
from wherry.storage.database import Database
from wherry.storage.store import Store


@dataclass(frozen=True)
class Context:
    """Made once, before any service. Nothing in it knows a service."""

    config: EngineConfig
    database: Database
    store: Store
    entries: ContainerStore
    events: Events
    registries: Registries
    launcher: Launcher
    hierarchies: Hierarchies
    engine_id: str
    starts: Admission
    """Who starts a container has a place here before its lock: one with the lock does not wait."""

    @classmethod
    def of(cls, config: EngineConfig, database: Database, store: Store, launcher: Launcher) -> "Context":
        hierarchies = Hierarchies.usable()
        config.default_cgroupns_mode = config.default_cgroupns_mode or (
            "host" if hierarchies.version == 1 else "private"
        )
        return cls(
            config,
            database,
            store,
            ContainerStore(database),
            Events(database),
            Registries(),
            launcher,
            hierarchies,
            _engine_id(config.data_root),
            Admission(default_limit()),
        )


class Service:
    """A part of the engine that does one noun's work upon the shared stores, and asks other services for theirs."""

    def __init__(self, context: Context) -> None:
        self._config = context.config
        self._store = context.store
        self._entries = context.entries
        self._events = context.events


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
