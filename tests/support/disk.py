"""A data root of a test's own, and the archives that go in and out of it."""

import contextlib
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.support import tars
from tests.support.tars import member
from wherry.common import reference
from wherry.linux import mounts
from wherry.model.image import History, ImageConfig
from wherry.storage.database import Database
from wherry.storage.load import Loaded
from wherry.storage.store import Store

CONFIG = ImageConfig(architecture="amd64", os="linux", created="2026-01-01T00:00:00Z", history=[History(comment="x")])


async def stream(data: bytes, chunk: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), chunk):
        yield data[at : at + chunk]


class Disk:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.database = Database(str(root / "state.db"))
        self.store = Store.open(str(root), self.database)

    def close(self) -> None:
        self.store.close()
        self.database.close()

    async def import_tar(self, data: bytes) -> str:
        return await self.store.loader.import_tar(stream(data), CONFIG)

    async def image(self, *members: tuple[tarfile.TarInfo, bytes], tag: str = "app") -> str:
        image_id = await self.import_tar(tars.make(*members))
        self.store.images.tag(image_id, reference.parse_to_tag(tag))
        return image_id

    def layer(self, name: str) -> Path:
        """The folder of an image's top layer."""
        return Path(self.store.layers.path(self.store.images.get(name).chain_id))

    async def load(self, data: bytes, chunk: int = 100_000) -> list[Loaded]:
        return [event async for event in self.store.loader.load(stream(data, chunk)) if isinstance(event, Loaded)]

    async def save(self, *names: str) -> bytes:
        return b"".join([chunk async for chunk in self.store.saver.save(names)])

    def content(self) -> tuple[list[str], list[str]]:
        """The names of all layers and blobs."""
        return sorted(os.listdir(self.root / "layers")), sorted(self.store.blobs)

    def staged(self) -> list[str]:
        """What somebody is still making."""
        return [name for name in os.listdir(self.root / "tmp") if not name.startswith("gone-")]

    @contextlib.contextmanager
    def mounted(self, snapshot: str, *, volatile: bool = False) -> Iterator[Path]:
        """The snapshot's root, mounted on the host for the test's own hands."""
        (mount,) = self.store.snapshots.mounts(snapshot, volatile=volatile)
        target = self.root / f"mounted-{snapshot}"
        target.mkdir(exist_ok=True)
        fd = mounts.make(mount.type, mount.source, mount.options)
        place = os.open(target, os.O_PATH | os.O_DIRECTORY)
        mounts.attach(fd, place)
        os.close(place)
        os.close(fd)
        try:
            yield target
        finally:
            mounts.unmount(str(target), 0)


def look(path: Path) -> dict[str, tuple[Any, ...]]:
    """Everything about a tree that a layer has to keep, by name: mode, uid, gid, device, time in seconds, contents, the
    first name of the same file, extended attributes.

    A whiteout has no time to keep, and the tree's root only where the layer names it.
    """
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[int, str] = {}
    for name in sorted([".", *(str(inner.relative_to(path)) for inner in path.rglob("*"))]):
        inner = path / name
        facts = inner.lstat()
        first = inodes.setdefault(facts.st_ino, name)
        contents: Any = None
        if stat.S_ISREG(facts.st_mode):
            contents = hashlib.sha256(inner.read_bytes()).hexdigest()
        elif stat.S_ISLNK(facts.st_mode):
            contents = os.readlink(inner)
        keys = os.listxattr(inner, follow_symlinks=False)
        attributes = {key: os.getxattr(inner, key, follow_symlinks=False) for key in keys}
        is_whiteout = stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
        when = None if is_whiteout or name == "." else int(facts.st_mtime)
        found[name] = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_rdev, when, contents, first, attributes)
    return found


def everything() -> list[tuple[tarfile.TarInfo, bytes]]:
    """Members of every kind, with owners, modes and times of all sorts."""
    directory, hard, soft = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
    return [
        member("./", directory, mode=0o755, mtime=1),
        member("bin", directory, mode=0o755, mtime=2),
        member("bin/su", data=b"program", mode=0o4755, uid=0, gid=0, mtime=3),
        member("bin/wall", data=b"program", mode=0o2755, uid=0, gid=5, mtime=3),
        member("bin/ping", data=b"program", mode=0o755, mtime=3, pax_headers={"SCHILY.xattr.user.note": "hello"}),
        member("dev", directory, mtime=4),
        member("dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, mtime=5),
        member("dev/loop", tarfile.BLKTYPE, mode=0o660, uid=0, gid=6, devmajor=7, devminor=0, mtime=5),
        member("dev/pipe", tarfile.FIFOTYPE, mode=0o600, uid=33, gid=33, mtime=5),
        member("home", directory, mode=0o2770, uid=1000, gid=1001, mtime=6),
        member("home/file", data=b"x" * 100_000, mode=0o600, uid=1000, gid=1000, mtime=7),
        member("home/link", soft, linkname="/etc/passwd", uid=1000, gid=1000, mtime=8),
        member("home/second", hard, linkname="home/file"),
        member("home/far", data=b"", uid=4_000_000, gid=4_000_000, mtime=9),
        member("tmp", directory, mode=0o1777, mtime=10),
        member("größe" * 30, data=b"long", mtime=11),
    ]


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def docker_archive(
    layers: dict[str, bytes], *, diff_ids: list[str] | None = None, names: list[str] | None = None, **changes: Any
) -> bytes:
    """As docker save wrote it until version 24: ``layers`` by name. ``changes`` puts a member, or takes it away."""
    found = diff_ids if diff_ids is not None else [sha256(data) for data in layers.values()]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": found}}
    manifest = [{"Config": "config.json", "RepoTags": names or ["app:latest"], "Layers": list(layers)}]
    documents = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    members: dict[str, Any] = layers | documents | changes
    return tars.make(*(member(name, data=data) for name, data in members.items() if data is not None))
