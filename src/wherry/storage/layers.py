"""Layers: each one unpacked tar, ``layers/<chain id>/diff``, never changed once it is there.

A layer's name is its chain id, which says what it is and what is below it. It keeps the blob that it came as, so that a
save or a push gives back the same digests. One that was made here has a plain tar, which registries get as gzip: that
is packed while it is sent and not kept, but its digest is, so that a registry can be asked whether it has it.

A layer is made in the staging area and renamed to its place, and what makes it a layer is its row, written after that:
a folder without a row is swept when the engine opens.

A layer stays as long as something stands on it: an image, another layer, a snapshot. ``collect`` removes the others.
One that was just made is held until it is released, so that an image can be made of it meanwhile.

Files are not synced one by one, which would take longer than unpacking them. Instead a row carries the machine's boot
id until a sync of the whole file system, in the background, has brought everything to the disk. Should the machine go
down before that, the next start finds a foreign boot id, and drops the layer rather than trust it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from wherry.common.errors import NotFound
from wherry.linux.files import exchange
from wherry.model.image import Descriptor
from wherry.storage.content import Blobs, chain_id_of, check_digest, hexadecimal
from wherry.storage.database import Database
from wherry.storage.staging import Staging, remove_tree_quietly
from wherry.storage.tar.compression import MEDIA_TYPES
from wherry.storage.worker.jobs import StagedLayer

_SCHEMA = (
    """
    CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY,
        parent TEXT NOT NULL,      -- a chain id, or '' at the bottom
        diff_id TEXT NOT NULL,     -- digest of the uncompressed tar
        blob TEXT NOT NULL,        -- digest of the tar as it came
        blob_size INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,     -- bytes of the files
        boot TEXT                  -- not yet synced: the boot id at the time
    )
    """,
    "CREATE INDEX layers_by_parent ON layers (parent)",
    "CREATE INDEX layers_by_blob ON layers (blob)",
    """
    CREATE TABLE pushed_as (
        diff_id TEXT PRIMARY KEY,  -- of a layer that is kept as a plain tar
        digest TEXT NOT NULL,      -- of its gzip; or of the tar, if a registry had it like that
        size INTEGER NOT NULL
    )
    """,
)


class Layer(msgspec.Struct, frozen=True):
    chain_id: str
    parent: str
    diff_id: str
    blob: str
    blob_size: int
    media_type: str
    size: int

    @property
    def plain(self) -> bool:
        return self.blob == self.diff_id


_COLUMNS = ", ".join(Layer.__struct_fields__)


class Layers:
    def __init__(self, root: str, database: Database, blobs: Blobs, staging: Staging) -> None:
        self._root = f"{root}/layers"
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._held: set[str] = set()
        self.leases: list[Callable[[], frozenset[str]]] = []  # each says which layers somebody else needs
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        database.migrate("layers", _SCHEMA)

    def get(self, chain_id: str) -> Layer:
        """Raises NotFound."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM layers WHERE chain_id = ?", (chain_id,))
        if row is None:
            raise NotFound(f"layer {chain_id} is not here")
        return Layer(*row)

    def __contains__(self, chain_id: str) -> bool:
        return self._database.one("SELECT 1 FROM layers WHERE chain_id = ?", (chain_id,)) is not None

    def among(self, chain_ids: Sequence[str]) -> dict[str, Layer]:
        """The layers among these that are here."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM layers WHERE chain_id IN ({_marks(chain_ids)})", tuple(chain_ids)
        )
        return {row[0]: Layer(*row) for row in rows}

    def chain(self, chain_id: str) -> list[Layer]:
        """A layer with all below it, the lowest first. None for ""."""
        found: list[Layer] = []
        while chain_id:
            layer = self.get(chain_id)
            found.append(layer)
            chain_id = layer.parent
        return found[::-1]

    def with_blob(self, digest: str) -> Layer:
        """Some layer that came as this blob, with whatever is below it. Raises NotFound."""
        row = self._database.one(f"SELECT {_COLUMNS} FROM layers WHERE blob = ?", (digest,))
        if row is None:
            raise NotFound(f"layer {digest} is not here")
        return Layer(*row)

    def blobs(self) -> frozenset[str]:
        """The digests of the blobs that layers came as."""
        return frozenset(row[0] for row in self._database.query("SELECT blob FROM layers"))

    def pushed_as(self, layer: Layer) -> Descriptor | None:
        """What registries get for a layer; None for a gzip that was never packed."""
        if not layer.plain:
            return Descriptor(layer.media_type, layer.blob, layer.blob_size)
        row = self._database.one("SELECT digest, size FROM pushed_as WHERE diff_id = ?", (layer.diff_id,))
        if row is None:
            return None
        return Descriptor(MEDIA_TYPES["" if row[0] == layer.diff_id else "gzip"], *row)

    def note_pushed(self, diff_id: str, digest: str, size: int) -> None:
        """Remembers in which form a registry has a layer that is kept as a plain tar, until the layer goes."""
        self._database.execute(
            "INSERT OR REPLACE INTO pushed_as SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM layers WHERE diff_id = ?)",
            (diff_id, digest, size, diff_id),
        )

    def usage(self) -> tuple[int, int]:
        """The bytes of the files in all layers, and those of the blobs that they came as."""
        files = self._database.one("SELECT coalesce(sum(size), 0) FROM layers")
        blobs = self._database.one(
            "SELECT coalesce(sum(blob_size), 0) FROM (SELECT DISTINCT blob, blob_size FROM layers)"
        )
        return (files[0] if files else 0, blobs[0] if blobs else 0)

    def path(self, chain_id: str) -> str:
        """The layer's folder of files. For snapshots alone."""
        return f"{self._root}/{hexadecimal(chain_id)}/diff"

    def folders(self, chain_id: str) -> list[str]:
        """The folders of a layer and of all below it, the highest first, as overlayfs wants them. Likewise."""
        return [self.path(layer.chain_id) for layer in reversed(self.chain(chain_id))]

    def add(self, staged: StagedLayer, parent: str) -> Layer:
        """Takes over what a worker made, on top of ``parent``. A layer that is there already stays as it is.

        A link to it is left where it was made: somebody may be about to mount it by that name.
        """
        chain_id = chain_id_of(parent, check_digest(staged.diff_id))
        self._held.add(chain_id)
        if chain_id in self:
            return self.get(chain_id)
        if parent and parent not in self:
            raise NotFound(f"layer {parent} is not here")
        if staged.blob and staged.digest not in self._blobs:
            self._blobs.adopt(staged.blob, staged.digest)
        layer = Layer(
            chain_id,
            parent,
            staged.diff_id,
            check_digest(staged.digest),
            self._blobs.size(staged.digest),
            MEDIA_TYPES[staged.compression],
            staged.size,
        )
        place = f"{self._root}/{hexadecimal(chain_id)}"
        self._staging.throw_away(place)  # left by a process that was killed before it wrote the row
        os.symlink(place, place)
        exchange(staged.layer, place)
        values = (*msgspec.structs.astuple(layer), boot_id())
        self._database.execute(f"INSERT INTO layers ({_COLUMNS}, boot) VALUES ({_marks(values)})", values)
        return layer

    def hold(self, chain_id: str) -> bool:
        """Keeps a layer that is about to be used from being collected; False when it is not there."""
        if chain_id not in self:
            return False
        self._held.add(chain_id)
        return True

    def release(self, chain_ids: Iterable[str]) -> None:
        """Whatever was being made of these layers is there now, or has failed."""
        self._held.difference_update(chain_ids)

    def collect(self, used: frozenset[str]) -> list[str]:
        """Removes every layer that is neither in ``used`` nor held, nor carries one that is. What went, top first."""
        used = used.union(*(needed() for needed in self.leases))
        keep: set[str] = set()
        parents: dict[str, str] = dict(self._database.query("SELECT chain_id, parent FROM layers"))
        for chain_id in used | self._held:
            while chain_id and chain_id not in keep:
                keep.add(chain_id)
                chain_id = parents.get(chain_id, "")
        going = sorted(set(parents) - keep, key=lambda chain_id: -_depth(chain_id, parents))
        for chain_id in going:
            self._remove(chain_id)
        return going

    def _remove(self, chain_id: str) -> None:
        layer = self.get(chain_id)
        self._database.execute("DELETE FROM layers WHERE chain_id = ?", (chain_id,))
        self._staging.throw_away(f"{self._root}/{hexadecimal(chain_id)}")
        if self._database.one("SELECT 1 FROM layers WHERE blob = ?", (layer.blob,)) is None:
            self._blobs.delete(layer.blob)
        self._database.execute(
            "DELETE FROM pushed_as WHERE diff_id = ? AND diff_id NOT IN (SELECT diff_id FROM layers)", (layer.diff_id,)
        )

    def begin_sync(self) -> Callable[[], None]:
        """For ``Staging.before_sync``: what is unsynced now will be on the disk when the answer is called."""
        unsynced = [row[0] for row in self._database.query("SELECT chain_id FROM layers WHERE boot IS NOT NULL")]

        def end() -> None:
            if self._database.closed:
                return  # then the next start of the engine is the one to find out
            with self._database.transaction():
                for chain_id in unsynced:
                    self._database.execute("UPDATE layers SET boot = NULL WHERE chain_id = ?", (chain_id,))

        return end

    def drop_unsynced(self) -> list[str]:
        """Forgets layers that an earlier run of the machine did not bring to the disk, and those above them."""
        lost = {row[0] for row in self._database.query("SELECT chain_id FROM layers WHERE boot != ?", (boot_id(),))}
        while more := lost_with(lost, self._database.query("SELECT chain_id, parent FROM layers")):
            lost |= more
        for chain_id in lost:
            self._remove(chain_id)
        return sorted(lost)

    def sweep(self) -> None:
        """Clears away the folders that have no row."""
        known = {hexadecimal(row[0]) for row in self._database.query("SELECT chain_id FROM layers")}
        for name in set(os.listdir(self._root)) - known:
            remove_tree_quietly(f"{self._root}/{name}")


def lost_with(lost: set[str], parents: list[tuple[Any, ...]]) -> set[str]:
    return {chain_id for chain_id, parent in parents if parent in lost and chain_id not in lost}


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _depth(chain_id: str, parents: dict[str, str]) -> int:
    depth = 0
    while chain_id := parents.get(chain_id, ""):
        depth += 1
    return depth


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
