"""Active snapshots: the layers that a build is making, each a directory that the next step stands on before it is one.

The life of one:

1. ``Workspace.begin`` makes an empty directory in the build's staging area.
2. ``mounts`` says how to make a root of it: an overlay upon all snapshots before it and upon the image's layers. A step
   runs in that root, or a worker copies files into it. Places that a step needs something mounted at, and that the
   image lacks, come from a directory at the very bottom, so that nothing of them is left behind.
3. ``seal``: nothing writes to it any more. A worker begins to pack it into a blob, which is what its digest comes from,
   while the next step already runs on top of the directory.
4. ``keep`` waits for the digests, and renames each upper directory into a layer. Nothing is unpacked or copied.

A ``Tree`` is what a step begins with and ends with: the layers of an image and the snapshots upon them. Leaving the
workspace takes away what was not kept, whatever happens.
"""

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from wherry.linux.mounts import Mount
from wherry.storage.content import chain_id_of
from wherry.storage.layers import Layers
from wherry.storage.merged import find_merged
from wherry.storage.snapshots import LayerInfo, join, overlay_options
from wherry.storage.staging import Staging
from wherry.storage.tar.compression import MEDIA_TYPES
from wherry.storage.worker import client, jobs
from wherry.storage.worker.jobs import StagedLayer

# The digest of a tar of nothing: a step that changed no file makes no layer.
EMPTY_DIFF = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


class ActiveSnapshot:
    """One layer in the making. ``layer`` is what became of it: None until it was kept, or when there was nothing."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.sealed: asyncio.Future[StagedLayer] | None = None
        self.layer: LayerInfo | None = None

    @property
    def upper(self) -> str:
        return f"{self.directory}/layer/diff"

    @property
    def is_empty(self) -> bool:
        return not os.listdir(self.upper)


class Tree(msgspec.Struct, frozen=True):
    """Files: those of the layers up to ``chain_id`` ("" for none), and of the snapshots upon them, the lowest first."""

    chain_id: str = ""
    snapshots: tuple[ActiveSnapshot, ...] = ()

    def on(self, snapshot: ActiveSnapshot) -> "Tree":
        return Tree(self.chain_id, (*self.snapshots, snapshot))

    @property
    def known(self) -> str | None:
        """The chain id of all of it, when all its snapshots have become layers."""
        return top_of(self) if all(snapshot.layer is not None for snapshot in self.snapshots) else None


class Workspace:
    """The files of one build. Made by ``BuildSnapshots.workspace``."""

    def __init__(self, path: str, layers: Layers, options: tuple[str, ...], in_use: Counter[str]) -> None:
        self.path = path
        self._layers = layers
        self._options = options
        self._in_use = in_use
        self._held: list[str] = []
        self._count = 0
        self._snapshots: list[ActiveSnapshot] = []
        self._kept: set[str] = set()
        self._workers = contextlib.AsyncExitStack()
        self._idle: list[client.Worker] = []
        for name in ("none/a", "none/b"):
            os.makedirs(f"{path}/{name}", 0o755)

    def directory(self, name: str) -> str:
        """A new, empty directory."""
        self._count += 1
        path = f"{self.path}/{name}-{self._count}"
        os.mkdir(path, 0o755)
        return path

    def hold(self, chain_id: str) -> None:
        """Keeps a layer and those below it from being collected while this build goes on."""
        if chain_id:
            self._held.append(chain_id)
            self._in_use[chain_id] += 1

    def stands_on(self, chain_id: str, below: str) -> bool:
        """Whether a layer is the next one upon another ("" for none), or that one itself."""
        return chain_id == below or self._layers.get(chain_id).parent == below

    async def put_on(self, tree: Tree, chain_id: str) -> tuple[Tree, ActiveSnapshot | None]:
        """A tree with a layer's own files upon it, as a snapshot where there is no such layer yet."""
        self.hold(chain_id)
        layer = self._layers.get(chain_id)
        if tree.known is not None:
            above = chain_id_of(tree.known, layer.diff_id)
            if above in self._layers:
                self.hold(above)
                return Tree(above), None
        snapshot = self.begin(tree)
        await client.run(jobs.Flatten(folders=(self._layers.path(chain_id),), directory=snapshot.upper))
        compression = next(name for name, media_type in MEDIA_TYPES.items() if media_type == layer.media_type)
        staged = StagedLayer(
            layer.blob, layer.diff_id, layer.size, layer=f"{snapshot.directory}/layer", compression=compression
        )
        snapshot.sealed = asyncio.get_running_loop().create_future()
        snapshot.sealed.set_result(staged)
        return tree.on(snapshot), snapshot

    def begin(self, tree: Tree) -> ActiveSnapshot:
        """A new snapshot upon a tree. Its root directory is root's and everybody's to enter, as a container's is."""
        snapshot = ActiveSnapshot(self.directory("snapshot"))
        os.mkdir(f"{snapshot.directory}/layer", 0o700)
        os.mkdir(snapshot.upper, 0o755)
        self._snapshots.append(snapshot)
        return snapshot

    def mounts(self, tree: Tree, snapshot: ActiveSnapshot, places: Iterable[tuple[str, str]] = ()) -> tuple[Mount, ...]:
        """What to mount to have the root of a snapshot upon a tree.

        ``places`` are paths and their kinds ("dir", "file") that are there though the tree lacks them, and that leave
        no trace in the snapshot; but for "kept" directories, which come to be in it.

        To be mounted once: "volatile" saves waiting for the disk at the unmounting (layers are synced later), and marks
        its work directory so that no second mount can take it.
        """
        lower = self._folders(tree)
        wanted = []
        for path, kind in places:
            if kind != "kept":
                wanted.append((path, kind))
            elif not find_merged(lower, path):
                os.mkdir(snapshot.upper + path, 0o755)
        if wanted:
            lower.append(self._make_places(wanted))
        options = (
            f"lowerdir={join(lower or [f'{self.path}/none/a'])}",
            f"upperdir={snapshot.upper}",
            f"workdir={self.directory('work')}",
            "volatile",
            *self._options,
        )
        return (Mount("overlay", "overlay", "", options),)

    async def make_directory(self, tree: Tree, snapshot: ActiveSnapshot, path: str, user: str = "") -> None:
        """A directory of a snapshot upon a tree, with its parents, where there is none; it is given to ``user``."""
        await client.run(jobs.MakeDirectory(root=self.mounts(tree, snapshot), path=path, user=user))

    def view(self, tree: Tree, path: str = "/", target: str = "") -> Mount | None:
        """A read-only mount upon ``target`` of what lies at ``path`` of a tree; None when there is nothing."""
        found = find_merged(self._folders(tree), path)
        if isinstance(found, str):
            return Mount("bind", found, target, ("bind", "ro", "rprivate"), create="file")
        if not found and path.strip("/"):
            return None
        # An overlay without upper wants two directories at least, and not the same one twice.
        lower = [*found, f"{self.path}/none/a", f"{self.path}/none/b"]
        return Mount("overlay", "overlay", target, (f"lowerdir={join(lower)}", "ro", *self._options))

    async def hide_ignored(
        self, directory: str, path: str, ignored: Sequence[tuple[bool, str, str]], target: str
    ) -> Mount:
        """A read-only mount of a context's directory, which is ``path`` there, without what is ``ignored``."""
        if ignored:
            whiteouts = self.directory("whiteouts")
            job = jobs.IgnoreOverlay(directory=directory, path=path, ignored=tuple(ignored), place=whiteouts)
            if await self.ask(job):
                options = (f"lowerdir={join([whiteouts, directory])}", "ro", *self._options)
                return Mount("overlay", "overlay", target, options)
        return Mount("bind", directory, target, ("bind", "ro", "rprivate"), create="dir")

    def is_directory(self, tree: Tree, path: str) -> bool:
        """Whether a tree has a directory at ``path``."""
        found = find_merged(self._folders(tree), path)
        return path == "/" or (bool(found) and not isinstance(found, str))

    def scratch(self, mount: Mount) -> Mount:
        """A mount that can be written to; what is written is nobody's afterwards."""
        lower = mount.source if mount.type == "bind" else ""
        place = self.directory("scratch")
        if mount.create == "file":
            own = shutil.copy2(mount.source, f"{place}/file", follow_symlinks=False)
            facts = os.lstat(mount.source)
            os.chown(own, facts.st_uid, facts.st_gid)
            return Mount("bind", own, mount.target, ("bind", "rw", "rprivate"), create="file")
        for name in ("upper", "work"):
            os.mkdir(f"{place}/{name}", 0o755)
        kept = [option for option in mount.options if option not in ("ro", "bind", "rbind", "rprivate")]
        if lower:
            kept = [f"lowerdir={join([lower])}", *self._options]
        options = (*kept, f"upperdir={place}/upper", f"workdir={place}/work", "volatile")
        return Mount("overlay", "overlay", mount.target, options)

    async def ask(self, job: jobs.Job) -> Any:
        """What a job answers that can be followed by others: its worker waits for the next one."""
        if self._idle:
            worker = self._idle.pop()
            answer = await worker.ask(job)
        else:
            worker = await self._workers.enter_async_context(client.working(job))
            answer = await worker.finish()
        self._idle.append(worker)
        return answer

    async def set_latest(self, snapshot: ActiveSnapshot, latest: int) -> None:
        """Sets back to ``latest`` (ns since the epoch) every time in the snapshot that is later."""
        await client.run(jobs.Clamp(directory=snapshot.upper, latest=latest))

    def seal(self, snapshot: ActiveSnapshot) -> None:
        """Begins to pack it; nothing may write to it from now on."""
        job = jobs.Seal(upper=snapshot.upper, blob=f"{snapshot.directory}/blob")
        snapshot.sealed = asyncio.create_task(_pack(job, snapshot))

    async def keep(self, tree: Tree) -> list[LayerInfo | None]:
        """Makes layers of a tree's snapshots; for each what it became, None for one that changed nothing."""
        parent = tree.chain_id
        for snapshot in tree.snapshots:
            assert snapshot.sealed is not None, "a snapshot was not sealed"
            staged = await snapshot.sealed
            if snapshot.layer is None and staged.diff_id != EMPTY_DIFF:
                layer = self._layers.add(staged, parent)
                self._kept.add(layer.chain_id)
                snapshot.layer = LayerInfo(layer.diff_id, layer.chain_id, layer.size)
            parent = snapshot.layer.chain_id if snapshot.layer else parent
        return [snapshot.layer for snapshot in tree.snapshots]

    async def flatten(self, tree: Tree, above: str) -> Tree:
        """A tree of the same files whose layers above the layer ``above`` are one. Its snapshots must be kept."""
        chain = self._layers.chain(top_of(tree))
        base = [layer.chain_id for layer in self._layers.chain(above)]
        folders = [self._layers.path(layer.chain_id) for layer in reversed(chain[len(base) :])]
        flat = Tree(above)
        snapshot = self.begin(flat)
        await client.run(jobs.Flatten(folders=tuple(folders), directory=snapshot.upper))
        self.seal(snapshot)
        return flat.on(snapshot)

    async def close(self) -> None:
        """Ends what is being packed, and lets go of the layers that were kept: an image or the cache has them now."""
        sealing = [snapshot.sealed for snapshot in self._snapshots if snapshot.sealed is not None]
        for task in sealing:
            task.cancel()
        await asyncio.gather(*sealing, return_exceptions=True)
        await self._workers.aclose()
        self._layers.release(self._kept)
        for chain_id in self._held:
            self._in_use[chain_id] -= 1

    def _folders(self, tree: Tree) -> list[str]:
        """The highest first."""
        snapshots = [
            self._layers.path(snapshot.layer.chain_id) if snapshot.layer else snapshot.upper
            for snapshot in reversed(tree.snapshots)
        ]
        return [*snapshots, *self._layers.folders(tree.chain_id)]

    def _make_places(self, places: Sequence[tuple[str, str]]) -> str:
        """A directory with these in it, for the bottom of an overlay. The paths are clean and absolute."""
        bottom = self.directory("places")
        for path, kind in places:
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                if kind == "dir":
                    os.makedirs(bottom + path, 0o755)
                else:
                    os.makedirs(os.path.dirname(bottom + path), 0o755, exist_ok=True)
                    os.close(os.open(bottom + path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        return bottom


class BuildSnapshots:
    """Makes workspaces, and holds the layers that builds under way stand on."""

    def __init__(self, layers: Layers, staging: Staging) -> None:
        self._layers = layers
        self._staging = staging
        self._options = overlay_options()
        self._in_use: Counter[str] = Counter()
        layers.leases.append(lambda: frozenset(+self._in_use))

    @contextlib.asynccontextmanager
    async def workspace(self) -> AsyncIterator[Workspace]:
        """A place for one build; what was not kept goes at the end."""
        async with self._staging.area() as area:
            os.chmod(area, 0o711)  # a user in a container opens files that are bound from here
            workspace = Workspace(area, self._layers, self._options, self._in_use)
            try:
                yield workspace
            finally:
                await asyncio.shield(workspace.close())
        self._staging.sync_later()


def top_of(tree: Tree) -> str:
    """The chain id of a tree whose snapshots are all kept."""
    kept = [snapshot.layer.chain_id for snapshot in tree.snapshots if snapshot.layer is not None]
    return kept[-1] if kept else tree.chain_id


async def _pack(job: jobs.Seal, snapshot: ActiveSnapshot) -> StagedLayer:
    staged: StagedLayer = await client.run(job)
    staged.layer = f"{snapshot.directory}/layer"
    return staged
