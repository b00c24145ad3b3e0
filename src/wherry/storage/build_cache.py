"""What builds can take up again: the layer that a step made, by a digest of all that the step depends on.

A record keeps its layer from being collected, whether or not an image has it. The directories of cache mounts
(``RUN --mount=type=cache``) are here too: ``build-cache/<name>`` of the data root.
"""

import contextlib
import os
import time
from collections.abc import Iterator

import msgspec

from wherry.storage.content import digest_of
from wherry.storage.database import Database
from wherry.storage.layers import Layers
from wherry.storage.staging import Staging

_SCHEMA = (
    """
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,
        chain_id TEXT NOT NULL,     -- what the step ended with
        parent TEXT NOT NULL,       -- the chain id that it began with
        description TEXT NOT NULL,
        created INTEGER NOT NULL,   -- ns since the epoch, as the history of images says it
        used INTEGER NOT NULL,      -- when it was last found; ns since the epoch
        count INTEGER NOT NULL
    )
    """,
    "CREATE INDEX build_cache_by_chain ON build_cache (chain_id)",
    """
    CREATE TABLE cache_mounts (
        name TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        created INTEGER NOT NULL,
        used INTEGER NOT NULL,
        count INTEGER NOT NULL
    )
    """,
    "CREATE TABLE content_digests (source TEXT PRIMARY KEY, digest TEXT NOT NULL)",
    """
    CREATE TABLE downloads (
        url TEXT PRIMARY KEY,
        etag TEXT NOT NULL,
        digest TEXT NOT NULL,
        name TEXT NOT NULL
    )
    """,
)


class Known(msgspec.Struct, frozen=True):
    """What was behind an address: the server's word for that content, its digest, and the name that the file got."""

    etag: str
    digest: str
    name: str


class Record(msgspec.Struct):
    """A step's result. Times are nanoseconds since the epoch; ``size`` is in bytes, of the step's own layer."""

    key: str
    chain_id: str
    parent: str
    description: str
    created: int
    used: int
    count: int
    size: int = 0
    kind: str = "regular"


class BuildCache:
    def __init__(self, root: str, database: Database, layers: Layers, staging: Staging) -> None:
        self._mounts = f"{root}/build-cache"
        self._database = database
        self._layers = layers
        self._staging = staging
        database.migrate("build cache", _SCHEMA)
        os.makedirs(self._mounts, mode=0o710, exist_ok=True)
        layers.leases.append(self.chain_ids)

    def chain_ids(self) -> frozenset[str]:
        """The layers that records keep: those that steps have made. One that made none keeps nothing."""
        return frozenset(
            row[0] for row in self._database.query("SELECT chain_id FROM build_cache WHERE chain_id != parent")
        )

    # Steps

    def find(self, key: str) -> Record | None:
        """What the step with this key made, if its layer is still there. Notes that it was of use."""
        row = self._database.one(
            "SELECT key, chain_id, parent, description, created, used, count FROM build_cache WHERE key = ?", (key,)
        )
        if row is None or (row[1] and row[1] not in self._layers):
            return None
        self._database.execute(
            "UPDATE build_cache SET used = ?, count = count + 1 WHERE key = ?", (time.time_ns(), key)
        )
        return Record(*row)

    def add(self, key: str, *, chain_id: str, parent: str, description: str, created: int) -> None:
        """Notes what a step made, in place of what it made before."""
        self._database.execute(
            "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?, 0)",
            (key, chain_id, parent, description, created, time.time_ns()),
        )

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._database.transaction()

    def records(self) -> list[Record]:
        """The steps that made a layer, and the cache mounts; those that were not used for longest first."""
        rows = self._database.query(
            "SELECT key, chain_id, parent, description, created, used, count FROM build_cache WHERE chain_id != parent"
        )
        found = [Record(*row) for row in rows]
        for record in found:
            if record.chain_id in self._layers:
                record.size = self._layers.get(record.chain_id).size
        found += self._mount_records()
        return sorted(found, key=lambda record: record.used)

    def remove(self, record: Record) -> None:
        """Forgets a step or a cache mount. The layers that nobody needs any more are for the caller to collect."""
        if record.kind == "exec.cachemount":
            self.remove_mount(record.key)
            return
        self._database.execute("DELETE FROM build_cache WHERE key = ?", (record.key,))
        # What only says that an instruction without files was there goes with what it stood on.
        self._database.execute("DELETE FROM build_cache WHERE chain_id = parent AND chain_id = ?", (record.chain_id,))

    # Cache mounts

    def mount(self, name: str, description: str) -> tuple[str, bool]:
        """The directory of a cache mount, made when it is not there, and whether it was made now."""
        path = f"{self._mounts}/{name}"
        now = time.time_ns()
        self._database.execute(
            "INSERT INTO cache_mounts VALUES (?, ?, ?, ?, 1) "
            "ON CONFLICT (name) DO UPDATE SET used = excluded.used, count = count + 1",
            (name, description, now, now),
        )
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return path, False
        return path, True

    def remove_mount(self, name: str) -> None:
        self._database.execute("DELETE FROM cache_mounts WHERE name = ?", (name,))
        self._staging.throw_away(f"{self._mounts}/{name}")

    def _mount_records(self) -> Iterator[Record]:
        rows = self._database.query("SELECT name, description, created, used, count FROM cache_mounts")
        for name, description, created, used, count in rows:
            size = _size(f"{self._mounts}/{name}")
            yield Record(name, "", "", description, created, used, count, size, "exec.cachemount")

    # Digests of files in finished layers, which never change

    def content_digest(self, source: str) -> str | None:
        row = self._database.one("SELECT digest FROM content_digests WHERE source = ?", (digest_of(source.encode()),))
        return row[0] if row else None

    def set_content_digest(self, source: str, digest: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO content_digests VALUES (?, ?)", (digest_of(source.encode()), digest)
        )

    # Files behind addresses, of which a server can say that they are as they were

    def download(self, url: str) -> Known | None:
        row = self._database.one("SELECT etag, digest, name FROM downloads WHERE url = ?", (url,))
        return Known(*row) if row else None

    def note_download(self, url: str, known: Known) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)", (url, *msgspec.structs.astuple(known))
        )

    def forget_downloads(self) -> None:
        self._database.execute("DELETE FROM downloads")


def _size(directory: str) -> int:
    """The bytes of all files below it."""
    total = 0
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # a step that runs now has just removed it
    return total
