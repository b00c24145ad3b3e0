"""Snapshots: the file systems of containers, each a writable layer of its own on top of an image's.

The life of one:

1. ``create`` makes two empty directories, ``containers/<id>/upper`` and ``work``, and notes which layer is below.
   Nothing is copied and nothing is mounted, so this takes no time and leaves nothing to undo on the host.
2. ``mounts`` says how to make the root: one overlay mount, which a container's own mount namespace makes when it
   starts, and which is gone with it. What the container writes lands in upper. The same mounts let a worker look
   inside a container that does not run.
3. ``changes`` compares upper with what is below, in Docker's words; ``size`` counts it.
4. ``commit`` packs upper into a tar, which becomes a layer on top of the one below. The snapshot itself stays as it is,
   and may be in use meanwhile.
5. ``discard`` takes the directories away. Whatever was interrupted half-way is swept at the next start.

``view`` is a snapshot that nobody can write to: an image's own files.

Only this file and ``layers`` know that a layer is a folder of files. Others ask for mounts, and enter them: a layer may
one day be a tar with an index that is mounted in its place.
"""

import contextlib
import os
import stat
from collections.abc import Iterable

import msgspec

from wherry.linux.file_flags import spread_children
from wherry.linux.mounts import Mount
from wherry.model.errors import NotFound
from wherry.storage import changes, jobs, placeholders, trees
from wherry.storage.database import Database
from wherry.storage.layers import Layers, StagedLayer
from wherry.storage.staging import Staging

_SCHEMA = ("CREATE TABLE snapshots (id TEXT PRIMARY KEY, chain_id TEXT NOT NULL)",)

# What the kernel would otherwise take from its module's parameters. With redirect_dir a renamed directory, and with
# metacopy a changed mode, would be a reference to another layer instead of content: nothing that could be packed.
_OVERLAY_FEATURES = ("redirect_dir", "metacopy")


class LayerInfo(msgspec.Struct, frozen=True):
    """What a commit made. ``size`` is the bytes of its files."""

    diff_id: str
    chain_id: str
    size: int


class Snapshots:
    def __init__(self, root: str, database: Database, layers: Layers, staging: Staging) -> None:
        self._root = f"{root}/containers"
        self._empty = f"{root}/layers-none"
        self._database = database
        self._layers = layers
        self._staging = staging
        self._options = overlay_options()
        database.migrate("snapshots", _SCHEMA)
        os.makedirs(self._root, mode=0o710, exist_ok=True)
        spread_children(self._root)
        for name in "ab":
            os.makedirs(f"{self._empty}/{name}", mode=0o755, exist_ok=True)

    def create(self, id: str, chain_id: str | None) -> None:
        """A new one upon a layer, or upon nothing."""
        mode, uid, gid = 0o755, os.geteuid(), os.getegid()
        if chain_id:
            below = os.stat(self._layers.path(self._layers.get(chain_id).chain_id))
            mode, uid, gid = stat.S_IMODE(below.st_mode), below.st_uid, below.st_gid
        directory = f"{self._root}/{id}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o710)
        os.mkdir(f"{directory}/work", 0o700)
        os.mkdir(f"{directory}/upper", 0o755)
        # The root directory of the overlay is upper itself, so it has to look like the image's, whatever the umask.
        os.chown(f"{directory}/upper", uid, gid)
        os.chmod(f"{directory}/upper", mode)
        self._database.execute("INSERT INTO snapshots VALUES (?, ?)", (id, chain_id or ""))

    def mark(self, id: str) -> None:
        """Puts the file into the root by which programs know that they run in a container."""
        path = f"{self._root}/{id}/upper/{placeholders.MARKER}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))

    def mounts(self, id: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        """What to mount, in order, to have the snapshot's root. Raises NotFound.

        ``volatile`` is for what nobody will miss after a crash of the machine, or what the kernel may write to the disk
        when it likes. Otherwise it writes out the whole file system below at the unmounting, and all wait for it.
        """
        lower = self._lower(self._chain_id(id)) or [f"{self._empty}/a"]
        directory = f"{self._root}/{id}"
        mark = f"{directory}/work/work/incompat"  # of the kernel, which refuses to mount a second time what has it
        if os.path.exists(mark):
            trees.remove_quietly(mark)
        options = (
            f"lowerdir={join(lower)}",
            f"upperdir={directory}/upper",
            f"workdir={directory}/work",
            *(("volatile",) if volatile else ()),
            *self._options,
        )
        return (Mount("overlay", "overlay", "", options),)

    def view(self, chain_id: str, target: str) -> Mount:
        """A read-only mount of a layer with all below it, upon ``target``."""
        # An overlay without upper wants two directories at least, and not the same one twice.
        lower = [*self._lower(chain_id), f"{self._empty}/a", f"{self._empty}/b"]
        return Mount("overlay", "overlay", target, (f"lowerdir={join(lower)}", "ro", *self._options))

    def describe(self, id: str) -> dict[str, str]:
        """The API's GraphDriver.Data."""
        directory = f"{self._root}/{id}"
        return {
            "ID": id,
            "LowerDir": ":".join(self._lower(self._chain_id(id))),
            "MergedDir": f"{directory}/merged",
            "UpperDir": f"{directory}/upper",
            "WorkDir": f"{directory}/work",
        }

    def changes(self, id: str) -> list[tuple[int, str]]:
        """(kind, path) of everything that differs from the image: 0 changed, 1 added, 2 deleted. Docker's order."""
        return changes.compare(f"{self._root}/{id}/upper", self._lower(self._chain_id(id)))

    def size(self, id: str) -> int:
        """The bytes of the files that the container wrote, hard links once, holes included."""
        self._chain_id(id)
        return changes.size(f"{self._root}/{id}/upper")

    async def commit(self, id: str) -> LayerInfo:
        """Makes a layer of what differs from the image."""
        parent = self._chain_id(id)
        async with self._staging.area() as area:
            job = {"kind": "commit", "staging": area, "upper": f"{self._root}/{id}/upper"}
            staged = msgspec.convert(await jobs.run(job), StagedLayer)
            layer = self._layers.add(staged, parent)
        self._staging.sync_later()
        return LayerInfo(layer.diff_id, layer.chain_id, layer.size)

    async def discard(self, id: str) -> None:
        """Takes a snapshot away, with all that is in the container's folder. Nothing happens when there is none."""
        self.remove(id)

    def remove(self, id: str) -> None:
        """The same. The files go in the background."""
        self._database.execute("DELETE FROM snapshots WHERE id = ?", (id,))
        self._staging.throw_away(f"{self._root}/{id}")

    def sweep(self, known: Iterable[str]) -> None:
        """Takes away every snapshot, and every folder of a container, that is not in ``known``."""
        keep = set(known)
        for (id,) in self._database.query("SELECT id FROM snapshots"):
            if id not in keep:
                self._database.execute("DELETE FROM snapshots WHERE id = ?", (id,))
        for name in set(os.listdir(self._root)) - keep:
            trees.remove_quietly(f"{self._root}/{name}")

    def chain_ids(self) -> frozenset[str]:
        """The layers that snapshots stand on."""
        return frozenset(row[0] for row in self._database.query("SELECT chain_id FROM snapshots"))

    def _chain_id(self, id: str) -> str:
        row = self._database.one("SELECT chain_id FROM snapshots WHERE id = ?", (id,))
        if row is None:
            raise NotFound(f"snapshot {id} is not here")
        return str(row[0])

    def _lower(self, chain_id: str) -> list[str]:
        return self._layers.folders(chain_id)


def join(directories: Iterable[str]) -> str:
    """Folders as overlayfs' options name them."""
    return ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in directories)


def overlay_options() -> tuple[str, ...]:
    """ "off" for those features that this kernel has."""
    return tuple(
        f"{name}=off" for name in _OVERLAY_FEATURES if os.path.exists(f"/sys/module/overlay/parameters/{name}")
    )
