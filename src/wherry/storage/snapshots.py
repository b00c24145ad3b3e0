"""Snapshots: the file systems of containers, each a writable layer of its own on top of an image's.

The life of one:

1. ``create`` makes two empty directories, ``containers/<id>/diff`` and ``work``, and notes which layer is below.
   Nothing is copied and nothing is mounted, so this takes no time and leaves nothing to undo on the host.
2. ``mounts`` says how to make the root: one overlay mount, which a container's own mount namespace makes when it
   starts, and which is gone with it. What the container writes lands in diff, the overlay's upper directory. The same
   mounts let a worker look inside a container that does not run.
3. ``changes`` compares diff with what is below, in Docker's words; ``size`` counts it.
4. ``commit`` packs diff into a tar, which becomes a layer on top of the one below. The snapshot itself stays as it is,
   and may be in use meanwhile.
5. ``discard`` takes the directories away. Whatever was interrupted half-way is swept at the next start.

``view`` is a snapshot that nobody can write to: an image's own files.

Only this file and ``layers`` know that a layer is a folder of files. Others ask for mounts, and enter them: a layer may
one day be a tar with an index that is mounted in its place.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

import msgspec

from wherry.common.errors import EngineError, NotFound
from wherry.linux import user_namespaces
from wherry.linux.files import spread_children
from wherry.linux.mounts import Mount, allow_again
from wherry.storage.database import Database
from wherry.storage.layers import Layer, Layers
from wherry.storage.merged import find_merged, is_opaque, is_whiteout, look_up_merged
from wherry.storage.staging import Staging, remove_tree_quietly
from wherry.storage.tar.writer import is_placeholder, is_placeholder_directory
from wherry.storage.worker import client, jobs
from wherry.storage.worker.client import again

# What an overlay's upper directory changes in the directories below it, in the words of ``docker diff``.
#
# Docker compares two trees, and so the answer is about what a user sees, not about what was copied up: a file counts as
# changed when its type, mode, owner, size or time differ (a time without fraction of a second matches any fraction),
# and a directory when its mode or owner do, or when something in it counts. Of what is deleted, only the top is named.
#
# The upper directory belongs to a container that may be running, so it is walked by descriptors without following
# links. The layers below are ours and never change: plain paths will do.

CHANGED, ADDED, DELETED = 0, 1, 2

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 256
_CAPABILITY = "security.capability"

Changes = list[tuple[int, str]]


def compare_upper(upper: str, lowers: list[str]) -> Changes:
    """(kind, path) of each change, every directory before what is in it, in the order of the names.

    ``lowers`` are the directories below, the highest first.
    """
    fd = os.open(upper, _OPEN)
    try:
        return _Comparison().directory(fd, lowers, "", replaces=False)
    finally:
        os.close(fd)


def upper_size(upper: str) -> int:
    """The bytes of the files below ``upper``, those with several names once, as they appear (holes count)."""
    seen: set[int] = set()
    total = 0
    for facts in _walk(os.open(upper, _OPEN), 0):
        if facts.st_nlink > 1:
            if facts.st_ino in seen:
                continue
            seen.add(facts.st_ino)
        total += facts.st_size
    return total


def _walk(fd: int, depth: int) -> Iterator[os.stat_result]:
    """What lstat says of everything below ``fd`` but the directories. Takes over the descriptor."""
    _check_depth(depth)
    try:
        for name in os.listdir(fd):
            facts = _lstat(name, fd)
            if facts is None:
                continue
            if not stat.S_ISDIR(facts.st_mode):
                yield facts
            elif (child := _open(name, fd)) is not None:
                yield from _walk(child, depth + 1)
    finally:
        os.close(fd)


class _Comparison:
    def directory(self, fd: int, lowers: list[str], path: str, *, replaces: bool) -> Changes:
        """The changes in one directory. ``replaces``: nothing of ``lowers`` shines through, it is compared only."""
        _check_depth(path.count("/"))
        found: Changes = []
        names = set(os.listdir(fd))
        everything = names | _names(lowers) if replaces else names
        for name in sorted(everything, key=os.fsencode):
            found += self._name(fd, name, lowers, f"{path}/{name}", replaces=replaces)
        return found

    def _name(self, fd: int, name: str, lowers: list[str], path: str, *, replaces: bool) -> Changes:
        old, _, old_directories = look_up_merged(lowers, name)
        new = _lstat(name, fd)
        if new is None or is_whiteout(new):
            return [(DELETED, path)] if old is not None else []
        below: Changes = []
        if stat.S_ISDIR(new.st_mode):
            child = _open(name, fd)
            if child is None:
                return []
            try:
                if old is None and is_placeholder_directory(path[1:], child):
                    return []
                hides = replaces or is_opaque(child)
                below = self.directory(child, old_directories, path, replaces=hides)
            finally:
                os.close(child)
        if is_placeholder(path[1:], new) and (old is None or is_placeholder(path[1:], old)):
            return []
        if old is None:
            return [(ADDED, path), *below]
        if below or _differ(old, new) or self._capabilities_differ(fd, name, new, lowers):
            return [(CHANGED, path), *below]
        return []

    def _capabilities_differ(self, fd: int, name: str, new: os.stat_result, lowers: list[str]) -> bool:
        if not stat.S_ISREG(new.st_mode):
            return False
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            return False  # gone since lstat
        try:
            return _capability(file) != _capability(_first(lowers, name))
        finally:
            os.close(file)


def _names(lowers: list[str]) -> set[str]:
    return {name for lower in lowers for name in os.listdir(lower)}


def _first(lowers: list[str], name: str) -> str:
    return next(path for path in (f"{lower}/{name}" for lower in lowers) if os.path.lexists(path))


def _differ(old: os.stat_result, new: os.stat_result) -> bool:
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return True
    if stat.S_ISDIR(new.st_mode):
        return False
    return old.st_size != new.st_size or not _same_time(old.st_mtime_ns, new.st_mtime_ns)


def _same_time(a: int, b: int) -> bool:
    """Layers carry whole seconds, so that a fraction that is missing says nothing."""
    second = 1_000_000_000
    return a == b or (a // second == b // second and (a % second == 0 or b % second == 0))


def _capability(file: int | str) -> bytes:
    try:
        return os.getxattr(file, _CAPABILITY)
    except OSError:
        return b""


def _lstat(name: str, directory: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _open(name: str, directory: int) -> int | None:
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return None  # replaced since lstat


def _check_depth(depth: int) -> None:
    if depth > _DEPTH:
        raise EngineError(f"the container has directories nested deeper than {_DEPTH}")


_SCHEMA = (
    "CREATE TABLE snapshots (id TEXT PRIMARY KEY, chain_id TEXT NOT NULL)",
    "CREATE TABLE snapshots_mounted (id TEXT NOT NULL, chain_id TEXT NOT NULL)",
)

# What the kernel would otherwise take from its module's parameters. With redirect_dir a renamed directory, and with
# metacopy a changed mode, would be a reference to another layer instead of content: nothing that could be packed.
_OVERLAY_FEATURES = ("redirect_dir", "metacopy")


EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The diff id of a commit that changes nothing: a tar that ends as soon as it begins."""


class LayerInfo(msgspec.Struct, frozen=True):
    """What a commit made. ``size`` is the bytes of its files."""

    diff_id: str
    chain_id: str
    size: int


class Snapshots:
    def __init__(self, root: str, database: Database, layers: Layers, staging: Staging) -> None:
        self._root = f"{root}/containers"
        self._empty = f"{root}/layers-none"
        self._init = f"{self._empty}/init"
        self._database = database
        self._layers = layers
        self._staging = staging
        self._options = overlay_options()
        database.migrate("snapshots", _SCHEMA)
        # Those that have layers mounted: most have none, and need not be looked for when they go.
        self._mounting = {id for (id,) in database.query("SELECT id FROM snapshots_mounted")}
        os.makedirs(self._root, mode=0o710, exist_ok=True)
        spread_children(self._root)
        for name in "ab":
            os.makedirs(f"{self._empty}/{name}", mode=0o755, exist_ok=True)
        _make_init_layer(self._init)
        if not os.path.islink(f"{root}/overlay2"):
            _take_on_names(root)

    def create(self, id: str, chain_id: str | None, mounted: Iterable[str] = ()) -> None:
        """A new one upon a layer, or upon nothing. The layers ``mounted`` in it stay as long as it does, too."""
        for needed in filter(None, (chain_id, *mounted)):
            self._layers.get(needed)
        directory = f"{self._root}/{id}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o710)
        os.mkdir(f"{directory}/work", 0o700)
        # It is the root directory that the container sees: everybody's to enter, whatever the image's archive says.
        os.mkdir(f"{directory}/diff", 0o755)
        os.chmod(f"{directory}/diff", 0o755)
        _name(directory)
        self._database.execute("INSERT INTO snapshots VALUES (?, ?)", (id, chain_id or ""))
        for each in mounted:
            self._mounting.add(id)
            self._database.execute("INSERT INTO snapshots_mounted VALUES (?, ?)", (id, each))

    def give(self, id: str, directory: str) -> None:
        """Lets a new one have the files of a directory beside it, which is gone then."""
        os.rmdir(f"{self._root}/{id}/diff")
        os.rename(directory, f"{self._root}/{id}/diff")

    async def make_directory(self, id: str, path: str) -> None:
        """Makes a directory of root's, with its parents. Nothing happens when it is there; EngineError for a file."""
        found = find_merged(self._lower(self._chain_id(id)), path)
        if isinstance(found, str):
            raise EngineError(f"Cannot mkdir: {path} is not a directory")
        if not found:

            async def make() -> None:
                await client.run(jobs.MakeDirectory(root=self.mounts(id, volatile=True), path=path))

            try:
                await again(make)
            except EngineError as error:
                raise EngineError(f"Cannot mkdir {path}: {error.message.rpartition(': ')[2].lower()}") from None

    def mounts(self, id: str, *, volatile: bool = False) -> tuple[Mount, ...]:
        """What to mount, in order, to have the snapshot's root. Raises NotFound.

        ``volatile`` is for what nobody will miss after a crash of the machine, or what the kernel may write to the disk
        when it likes. Otherwise it writes out the whole file system below at the unmounting, and all wait for it.
        """
        lower = self._lower(self._chain_id(id))
        directory = f"{self._root}/{id}"
        options = (
            f"lowerdir={join(lower)}",
            f"upperdir={directory}/diff",
            f"workdir={directory}/work",
            *(("volatile",) if volatile else ()),
            *self._options,
        )
        mount = Mount("overlay", "overlay", "", options)
        allow_again(mount)
        return (mount,)

    def view(self, chain_id: str, target: str) -> Mount:
        """A read-only mount of a layer with all below it, upon ``target``."""
        # An overlay without upper wants two directories at least, and not the same one twice.
        lower = [*self._layers.folders(chain_id), f"{self._empty}/a", f"{self._empty}/b"]
        return Mount("overlay", "overlay", target, (f"lowerdir={join(lower)}", "ro", *self._options))

    def find(self, chain_id: str, path: str) -> str:
        """Where a file of a layer's, or of those below it, lies on the disk; "" when there is none."""
        found = find_merged(self._lower(chain_id), path)
        return found if isinstance(found, str) else ""

    def describe(self, id: str) -> dict[str, str]:
        """The API's GraphDriver.Data."""
        directory = f"{self._root}/{id}"
        return {
            "ID": id,
            "LowerDir": ":".join(self._lower(self._chain_id(id))),
            "MergedDir": f"{directory}/merged",
            "UpperDir": f"{directory}/diff",
            "WorkDir": f"{directory}/work",
        }

    def describe_image(self, chain_id: str) -> dict[str, str]:
        """The same of an image, whose layers are folders and nowhere mounted."""
        folders = self._layers.folders(chain_id)
        found = {"UpperDir": "".join(folders[:1]), "LowerDir": ":".join(folders[1:])}
        return {name: path for name, path in found.items() if path}

    def changes(self, id: str) -> list[tuple[int, str]]:
        """(kind, path) of everything that differs from the image: 0 changed, 1 added, 2 deleted. Docker's order."""
        return compare_upper(f"{self._root}/{id}/diff", self._lower(self._chain_id(id)))

    def size(self, id: str) -> int:
        """The bytes of the files that the container wrote, hard links once, holes included."""
        self._chain_id(id)
        return self._size(id)

    def sizes(self, ids: Iterable[str]) -> dict[str, int]:
        """The same of many; those that go meanwhile are left out."""
        found = {}
        for each in ids:
            with contextlib.suppress(FileNotFoundError):
                found[each] = self._size(each)
        return found

    def _size(self, id: str) -> int:
        return upper_size(f"{self._root}/{id}/diff")

    async def commit(self, id: str) -> LayerInfo:
        """Makes a layer of what differs from the image."""
        layer = await again(lambda: self._commit(id))
        self._staging.sync_later()
        return LayerInfo(layer.diff_id, layer.chain_id, layer.size)

    async def _commit(self, id: str) -> Layer:
        parent = self._chain_id(id)
        async with self._staging.area() as area:
            staged = await client.run(jobs.Commit(staging=area, upper=f"{self._root}/{id}/diff"))
            return self._layers.add(staged, parent)

    async def discard(self, id: str) -> None:
        """Takes a snapshot away, with all that is in the container's folder. Nothing happens when there is none."""
        self.remove(id)

    def remove(self, id: str) -> None:
        """The same. The files go in the background."""
        self.forget(id)
        self._staging.throw_away(f"{self._root}/{id}")

    def sweep(self, known: Iterable[str]) -> None:
        """Takes away every snapshot, and every folder of a container, that is not in ``known``."""
        keep = set(known)
        for (id,) in self._database.query("SELECT id FROM snapshots"):
            if id not in keep:
                self.forget(id)
        for name in set(os.listdir(self._root)) - keep:
            remove_tree_quietly(f"{self._root}/{name}")

    def chain_ids(self) -> frozenset[str]:
        """The layers that snapshots stand on, or have mounted."""
        rows = self._database.query("SELECT chain_id FROM snapshots UNION SELECT chain_id FROM snapshots_mounted")
        return frozenset(row[0] for row in rows)

    def forget(self, id: str) -> None:
        """What is written of it. Its files are to be taken away next."""
        self._database.execute("DELETE FROM snapshots WHERE id = ?", (id,))
        if id in self._mounting:
            self._database.execute("DELETE FROM snapshots_mounted WHERE id = ?", (id,))
            self._mounting.remove(id)

    def _chain_id(self, id: str) -> str:
        row = self._database.one("SELECT chain_id FROM snapshots WHERE id = ?", (id,))
        if row is None:
            raise NotFound(f"snapshot {id} is not here")
        return str(row[0])

    def _lower(self, chain_id: str) -> list[str]:
        return [*self._layers.folders(chain_id), self._init]


# What every container has below its image: names for something to be mounted on, and two that programs look for.
#
# Docker has a layer of such between a container and its image. Here it is the lowest one of them all, and one for all
# containers: what an image has in these places is the image's.

_INIT_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")
_INIT_FILES = (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_INIT_LINKS = {"etc/mtab": "/proc/mounts"}


def _make_init_layer(directory: str) -> None:
    """What is there already stays as it is: containers may be running on it."""
    for name in ("", *_INIT_DIRECTORIES):
        os.makedirs(f"{directory}/{name}", mode=0o755, exist_ok=True)
    for name in _INIT_FILES:
        os.close(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))
    for name, target in _INIT_LINKS.items():
        with contextlib.suppress(FileExistsError):
            os.symlink(target, f"{directory}/{name}")


# cAdvisor, and so the kubelet, knows Docker's data root: it asks for a container's writable layer by a name in
# image/overlay2/layerdb/mounts/<id>/mount-id, and looks for it at overlay2/<name>/diff. cri-dockerd up to 0.3.4 wants
# image/ to be there.


def _take_on_names(root: str) -> None:
    """Has a container's layer be found there, also what an earlier version has made and called "upper"."""
    for name in os.listdir(f"{root}/containers"):
        directory = f"{root}/containers/{name}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{directory}/upper", f"{directory}/diff")
            _name(directory)
    os.makedirs(f"{root}/image/overlay2/layerdb", mode=0o710, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink("../../../containers", f"{root}/image/overlay2/layerdb/mounts")
    os.symlink("containers", f"{root}/overlay2")  # at last, when all of it is done


def _name(directory: str) -> None:
    with open(f"{directory}/mount-id", "w", encoding="ascii") as file:
        file.write(os.path.basename(directory))


def join(directories: Iterable[str]) -> str:
    """Folders as overlayfs' options name them."""
    return ":".join(path.replace("\\", "\\\\").replace(":", "\\:") for path in directories)


def overlay_options() -> tuple[str, ...]:
    """ "off" for those features that this kernel has; in a user namespace they are, and attributes are a user's."""
    if not user_namespaces.is_initial():
        return ("userxattr",)
    return tuple(
        f"{name}=off" for name in _OVERLAY_FEATURES if os.path.exists(f"/sys/module/overlay/parameters/{name}")
    )
