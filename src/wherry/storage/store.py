"""Everything that the engine keeps on disk, opened together."""

import os
from collections.abc import Callable

import msgspec

from wherry.storage import data_root
from wherry.storage.build_cache import BuildCache
from wherry.storage.build_snapshots import BuildSnapshots
from wherry.storage.content import Blobs
from wherry.storage.database import Database
from wherry.storage.images import Images
from wherry.storage.layers import Layers
from wherry.storage.load import Loader
from wherry.storage.save import Saver
from wherry.storage.snapshots import Snapshots
from wherry.storage.staging import Staging
from wherry.storage.volumes import Volumes
from wherry.storage.worker.files import Files


class DiskUsage(msgspec.Struct):
    """Bytes: ``layers`` of the files in all layers, each once; ``blobs`` of the compressed and plain tars beside."""

    layers: int
    blobs: int


class Store:
    """Made by ``open``. ``loader`` and ``saver`` read and write archives of ``images``."""

    def __init__(self, root: str, database: Database) -> None:
        self.staging = Staging(root)
        self.blobs = Blobs(root, self.staging)
        self.layers = Layers(root, database, self.blobs, self.staging)
        self.snapshots = Snapshots(root, database, self.layers, self.staging)
        self.images = Images(database, self.blobs, self.layers, self.snapshots)
        self.loader = Loader(self.blobs, self.layers, self.images, self.staging)
        self.saver = Saver(self.blobs, self.images)
        self.build_cache = BuildCache(root, database, self.layers, self.staging)
        self.build_snapshots = BuildSnapshots(self.layers, self.staging)
        self.files = Files()
        self.volumes = Volumes(root, database, self.staging)
        self.staging.before_sync = self._begin_sync

    @classmethod
    def open(cls, root: str, database: Database) -> "Store":
        """Opens the data root, and clears away what a process that was killed has left half-made."""
        store = cls(root, database)
        data_root.close_to_others(root)
        store._sweep()
        return store

    def disk_usage(self) -> DiskUsage:
        return DiskUsage(*self.layers.usage())

    def capacity(self) -> int:
        """The size in bytes of the file system that all this is on."""
        facts = os.statvfs(self.staging.path)
        return facts.f_blocks * facts.f_frsize

    def free(self) -> int:
        """The bytes of it that can still be written."""
        facts = os.statvfs(self.staging.path)
        return facts.f_bavail * facts.f_frsize

    def close(self) -> None:
        """Waits for what is being cleared away and synced in the background."""
        self.staging.close()

    def _sweep(self) -> None:
        self.staging.sweep()
        self.layers.drop_unsynced()
        self.images.drop_incomplete()
        self.layers.sweep()
        self.images.collect_layers()
        needed = self.layers.blobs() | self.images.blobs()
        for digest in list(self.blobs):
            if digest not in needed:
                self.blobs.delete(digest)

    def _begin_sync(self) -> Callable[[], None]:
        ends = [self.layers.begin_sync(), self.images.begin_sync()]

        def end() -> None:
            for each in ends:
                each()

        return end
