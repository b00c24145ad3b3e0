"""Storage for real: workers, overlay mounts, owners, devices, attributes; as root."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.unit.storage import tars
from tests.unit.storage.tars import member

from wherry.linux import mounts
from wherry.model import reference
from wherry.model.errors import EngineError, InvalidParameter, NotFound
from wherry.model.image import History, ImageConfig
from wherry.storage.database import Database
from wherry.storage.load import Loaded, Progress
from wherry.storage.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")

D, L, S = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
CONFIG = ImageConfig(architecture="amd64", os="linux", created="2026-01-01T00:00:00Z", history=[History(comment="x")])
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective and permitted


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

    async def image(self, *members: tuple[tarfile.TarInfo, bytes], tag: str = "app") -> str:
        image_id = await self.store.loader.import_tar(stream(tars.make(*members)), CONFIG)
        self.store.images.tag(image_id, reference.tagged(tag))
        return image_id

    def layer(self, name: str) -> Path:
        return Path(self.store.layers.path(self.store.images.get(name).chain_id))

    async def load(self, data: bytes, chunk: int = 100_000) -> list[Loaded]:
        return [event async for event in self.store.loader.load(stream(data, chunk)) if isinstance(event, Loaded)]

    async def save(self, *names: str) -> bytes:
        return b"".join([chunk async for chunk in self.store.saver.save(names)])

    def content(self) -> tuple[list[str], list[str]]:
        return sorted(os.listdir(self.root / "layers")), sorted(self.store.blobs)

    def staged(self) -> list[str]:
        return [name for name in os.listdir(self.root / "tmp") if not name.startswith("gone-")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "data")
    yield found
    found.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "other")
    yield found
    found.close()


@contextlib.contextmanager
def mounted(disk: Disk, snapshot: str) -> Iterator[Path]:
    """The snapshot's root, mounted on the host for the test's own hands."""
    (mount,) = disk.store.snapshots.mounts(snapshot)
    target = disk.root / f"mounted-{snapshot}"
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
    """Everything about a tree that a layer has to keep."""
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
        attributes = {
            key: os.getxattr(inner, key, follow_symlinks=False) for key in os.listxattr(inner, follow_symlinks=False)
        }
        when = int(facts.st_mtime)
        found[name] = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_rdev, when, contents, first, attributes)
    return found


def everything() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        member("./", D, mode=0o755, mtime=1),
        member("bin", D, mode=0o755, mtime=2),
        member("bin/su", data=b"program", mode=0o4755, uid=0, gid=0, mtime=3),
        member("bin/wall", data=b"program", mode=0o2755, uid=0, gid=5, mtime=3),
        member("bin/ping", data=b"program", mode=0o755, mtime=3, pax_headers={"SCHILY.xattr.user.note": "hello"}),
        member("dev", D, mtime=4),
        member("dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, mtime=5),
        member("dev/loop", tarfile.BLKTYPE, mode=0o660, uid=0, gid=6, devmajor=7, devminor=0, mtime=5),
        member("dev/pipe", tarfile.FIFOTYPE, mode=0o600, uid=33, gid=33, mtime=5),
        member("home", D, mode=0o2770, uid=1000, gid=1001, mtime=6),
        member("home/file", data=b"x" * 100_000, mode=0o600, uid=1000, gid=1000, mtime=7),
        member("home/link", S, linkname="/etc/passwd", uid=1000, gid=1000, mtime=8),
        member("home/second", L, linkname="home/file"),
        member("home/far", data=b"", uid=4_000_000, gid=4_000_000, mtime=9),
        member("tmp", D, mode=0o1777, mtime=10),
        member("größe" * 30, data=b"long", mtime=11),
    ]


async def test_a_layer_has_all_that_its_tar_says(disk: Disk) -> None:
    before = os.umask(0o077)
    try:
        image_id = await disk.image(*everything())
    finally:
        os.umask(before)
    found = look(disk.layer("app"))
    assert disk.store.images.get("app").id == image_id
    assert disk.store.images.get("app").size == 21 + 100_000 + 4
    assert found["."][0] == stat.S_IFDIR | 0o755
    for info, _ in everything()[1:]:
        if info.type == L:
            continue
        mode, uid, gid, device, mtime, *_ = found[info.name]
        assert (stat.S_IMODE(mode), uid, gid, mtime) == (
            info.mode if info.type != S else 0o777,
            info.uid,
            info.gid,
            info.mtime,
        ), info.name
        if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            assert (os.major(device), os.minor(device)) == (info.devmajor, info.devminor)
    assert found["home/second"][6] == "home/file"
    assert found["bin/ping"][7] == {"user.note": b"hello"}
    assert disk.staged() == []


async def test_file_capabilities(disk: Disk) -> None:
    """They come after the owner and the contents, both of which would take them away."""
    record = b"SCHILY.xattr.security.capability=" + CAPABILITY + b"\n"
    record = b"%d " % (len(record) + 3) + record
    data = tars.make(
        (member("pax", b"x", record)[0], record),
        member("ping", data=b"program", mode=0o755, uid=7, gid=7),
        format=tarfile.USTAR_FORMAT,
    )
    image_id = await disk.store.loader.import_tar(stream(data), CONFIG)
    assert os.getxattr(disk.layer(image_id) / "ping", "security.capability") == CAPABILITY


async def test_what_is_packed_and_unpacked_is_the_same(disk: Disk) -> None:
    await disk.image()
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    upper = disk.root / "containers" / "c1" / "upper"
    subprocess.run(["tar", "-x", "-C", upper], input=tars.make(*everything()), check=True)
    os.setxattr(upper / "bin" / "ping", "security.capability", CAPABILITY)
    os.setxattr(upper / "home", "user.note", b"a directory's")
    with open(upper / "sparse", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"data")
    os.utime(upper, (1, 1))
    layer = await disk.store.snapshots.commit("c1")
    found, expected = look(Path(disk.store.layers.path(layer.chain_id))), look(upper)
    assert found.pop(".")[:4] == expected.pop(".")[:4]
    assert found == expected
    again = await disk.store.snapshots.commit("c1")
    assert again == layer, "the same tree gives the same tar"


async def test_a_commit_carries_what_was_deleted(disk: Disk) -> None:
    await disk.image(
        member("kept/file", data=b"1"), member("gone/file", data=b"2"), member("replaced/old", data=b"3"),
        member("file", data=b"4"), member("kept/inner/x", data=b"5"),
    )  # fmt: skip
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    with mounted(disk, "c1") as root:
        shutil.rmtree(root / "gone")
        shutil.rmtree(root / "replaced")
        (root / "replaced").mkdir()
        (root / "replaced" / "new").write_text("new")
        (root / "file").unlink()
        shutil.rmtree(root / "kept" / "inner")
        (root / "kept" / "inner").symlink_to("file")
        expected = look(root)
    layer = await snapshots.commit("c1")
    snapshots.create("c2", layer.chain_id)
    with mounted(disk, "c2") as root:
        found = look(root)
    assert {name: facts[0] for name, facts in found.items()} == {name: facts[0] for name, facts in expected.items()}
    assert [facts[5] for facts in found.values()] == [facts[5] for facts in expected.values()]


WHITEOUTS = [
    member("directory", D),
    member("directory/.wh..wh..opq"),
    member("directory/new", data=b"x"),
    member(".wh.gone"),
    member("deep/down/.wh.file"),
    member(".wh..wh.plnk", D),
]


async def test_whiteouts_become_overlayfs_s(disk: Disk) -> None:
    await disk.image(*WHITEOUTS)
    layer = disk.layer("app")
    assert os.getxattr(layer / "directory", "trusted.overlay.opaque") == b"y"
    assert sorted(str(path.relative_to(layer)) for path in layer.rglob("*")) == [
        "deep", "deep/down", "deep/down/file", "directory", "directory/new", "gone",
    ]  # fmt: skip
    for name in ("gone", "deep/down/file"):
        facts = (layer / name).lstat()
        assert stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


@pytest.mark.parametrize("whiteout_first", [True, False])
async def test_a_whiteout_beside_a_new_one_of_the_same_name(disk: Disk, whiteout_first: bool) -> None:
    """A whiteout is about the layers below, whatever comes before or after it."""
    whiteouts = [member(".wh.directory"), member(".wh.file")]
    new = [member("directory", D), member("directory/new"), member("file", data=b"new")]
    await disk.image(*(whiteouts + new if whiteout_first else new + whiteouts))
    layer = disk.layer("app")
    assert os.getxattr(layer / "directory", "trusted.overlay.opaque") == b"y"
    assert (layer / "directory" / "new").exists()
    assert (layer / "file").read_bytes() == b"new"


async def test_diff_is_docker_s(disk: Disk) -> None:
    """The cases and the answers were taken from Docker 20.10, which compares the two trees."""
    await disk.image(
        member("etc", D), member("etc/a", data=b"a"), member("etc/sub", D), member("etc/sub/b", data=b"b"),
        member("d1", D), member("d1/d2", D), member("d1/d2/c", data=b"c"), member("op", D), member("op/o", data=b"o"),
        member("rmdir", D), member("rmdir/x", D), member("f", data=b"root"), member("same", data=b"same"),
        member("n1-", D),
    )  # fmt: skip
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    assert snapshots.changes("c1") == []
    with mounted(disk, "c1") as root:
        (root / "etc" / "sub" / "b").write_text("changed")
        os.utime(root / "d1" / "d2" / "c")
        shutil.rmtree(root / "op")
        (root / "op").mkdir()
        (root / "op" / "n").write_text("n")
        shutil.rmtree(root / "rmdir")
        (root / "etc" / "new").write_text("new")
        (root / "f").unlink()
        (root / "f").mkdir()
        (root / "n1" / "n2").mkdir(parents=True)
        (root / "n1" / "n2" / "x").touch()
        os.close(os.open(root / "same", os.O_WRONLY))  # copied up, and nothing else
        (root / "brief").touch()
        (root / "brief").unlink()
    assert snapshots.changes("c1") == [
        (0, "/d1"), (0, "/d1/d2"), (0, "/d1/d2/c"),
        (0, "/etc"), (1, "/etc/new"), (0, "/etc/sub"), (0, "/etc/sub/b"),
        (0, "/f"),
        (1, "/n1"), (1, "/n1/n2"), (1, "/n1/n2/x"),
        (0, "/op"), (1, "/op/n"), (2, "/op/o"),
        (2, "/rmdir"),
    ]  # fmt: skip


async def test_diff_through_several_layers(disk: Disk) -> None:
    await disk.image(member("a/one", data=b"1"), member("b/old", data=b"1"), member("c/x/y", data=b"1"))
    snapshots = disk.store.snapshots
    snapshots.create("c1", disk.store.images.get("app").chain_id)
    with mounted(disk, "c1") as root:
        (root / "a" / "one").unlink()
        (root / "a" / "two").write_text("2")
        shutil.rmtree(root / "b")
        (root / "b").mkdir()
        (root / "b" / "new").touch()
    layer = await snapshots.commit("c1")
    snapshots.create("c2", layer.chain_id)
    with mounted(disk, "c2") as root:
        (root / "a" / "one").write_text("again")
        (root / "b" / "old").touch()
        shutil.rmtree(root / "c" / "x")
        (root / "c" / "x").mkdir()
        os.chmod(root / "b" / "new", 0o600)
    assert snapshots.changes("c2") == [
        (0, "/a"), (1, "/a/one"), (0, "/b"), (0, "/b/new"), (1, "/b/old"), (0, "/c"), (0, "/c/x"), (2, "/c/x/y"),
    ]  # fmt: skip


async def test_the_size_of_a_snapshot(disk: Disk) -> None:
    await disk.image(member("a", data=b"x" * 1000))
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    assert disk.store.snapshots.size("c1") == 0
    with mounted(disk, "c1") as root:
        (root / "new").write_bytes(b"x" * 500)
        os.link(root / "new", root / "second")
        with open(root / "sparse", "wb") as file:
            file.truncate(10_000)
    assert disk.store.snapshots.size("c1") == 10_500


async def test_the_root_directory_looks_like_the_image_s(disk: Disk) -> None:
    await disk.image(member("./", D, mode=0o750, uid=1, gid=2), member("a"))
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    with mounted(disk, "c1") as root:
        facts = root.stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o750, 1, 2)


PACKERS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": __import__("bz2").compress,
    "xz": __import__("lzma").compress,
}


@pytest.mark.parametrize("kind", PACKERS)
async def test_imports_every_compression(disk: Disk, kind: str) -> None:
    data = tars.make(*everything())
    image_id = await disk.store.loader.import_tar(stream(PACKERS[kind](data), 1000), CONFIG)
    image = disk.store.images.get(image_id)
    assert image.config.rootfs.diff_ids == ["sha256:" + hashlib.sha256(data).hexdigest()]
    (layer,) = disk.store.images.layers(image)
    kept = data if kind in ("plain", "bzip2", "xz") else PACKERS[kind](data)
    if kind != "gzip":  # which has the time of day in it
        assert disk.store.blobs.read(layer.blob) == kept
    assert layer.media_type.endswith({"gzip": "+gzip", "zstd": "+zstd"}.get(kind, ".tar"))
    assert (disk.layer(image_id) / "home" / "file").stat().st_size == 100_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a tar archive"),
        (b"x" * 10_000, "not a tar archive"),
        (gzip.compress(b"x" * 10_000), "not a tar archive"),
        (gzip.compress(tars.make(member("a", data=b"x" * 50_000)))[:-20], "broken gzip data"),
        (tars.make(member("a", data=b"x" * 50_000))[:30_000], "cut off"),
        (tars.make(member("../a")), "leads out of the archive"),
    ],
    ids=["nothing", "noise", "compressed noise", "cut gzip", "cut tar", "leads out"],
)
async def test_a_broken_import_leaves_nothing(disk: Disk, data: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        await disk.store.loader.import_tar(stream(data), CONFIG)
    assert disk.content() == ([], [])
    assert disk.staged() == []
    assert disk.store.images.count() == 0


async def test_a_source_that_breaks_off_is_not_taken_for_whole(disk: Disk) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield tars.make(member("a", data=b"x" * 50_000))[:20_480]
        raise ConnectionResetError("the client went away")

    with pytest.raises((EngineError, ConnectionResetError)):
        await disk.store.loader.import_tar(broken(), CONFIG)
    assert disk.content() == ([], [])


async def three_images(disk: Disk) -> list[str]:
    """Two that share a layer, and one with two names; the second is the first's child."""
    base = await disk.image(*everything(), tag="base:1")
    disk.store.snapshots.create("c1", disk.store.images.get(base).chain_id)
    with mounted(disk, "c1") as root:
        (root / "new").write_text("new")
        shutil.rmtree(root / "home")
    layer = await disk.store.snapshots.commit("c1")
    parent = disk.store.images.get(base).config
    config = ImageConfig(
        architecture="amd64", os="linux", rootfs=type(parent.rootfs)(diff_ids=[*parent.rootfs.diff_ids, layer.diff_id]),
        history=[*parent.history, History(created_by="commit")],
    )  # fmt: skip
    child = disk.store.images.create(config, parent=base, layer=layer)
    disk.store.images.tag(child, reference.tagged("registry.example/team/child:2"))
    other = await disk.image(member("other", data=b"x"), tag="other")
    disk.store.images.tag(other, reference.tagged("other:second"))
    disk.store.snapshots.remove("c1")
    return [base, child, other]


async def test_save_and_load(disk: Disk, other: Disk) -> None:
    ids = await three_images(disk)
    names = ["base:1", "registry.example/team/child:2", "other"]
    data = await disk.save(*names)
    assert data == await disk.save(*names), "the same images give the same bytes"
    loaded = await other.load(data, 12_345)
    assert [image.id for image in loaded] == ids
    assert [[name.familiar for name in image.names] for image in loaded] == [
        ["base:1"],
        ["registry.example/team/child:2"],
        ["other:latest", "other:second"],
    ]
    assert other.content() == (disk.content()[0], sorted({*other.store.blobs}))
    assert other.store.images.get(ids[1]).parent == ids[0]
    for name in ids:
        assert look(other.layer(name)) == look(disk.layer(name))
    assert await other.save(*names) == data, "and again from there"
    assert await other.load(data) == loaded, "loading twice changes nothing"
    assert other.staged() == []


async def test_what_is_loaded_replaces_a_name(disk: Disk, other: Disk) -> None:
    await disk.image(member("new"), tag="app")
    old = await other.image(member("old"), tag="app")
    (loaded,) = await other.load(await disk.save("app"))
    assert [(name.familiar, before) for name, before in loaded.replaced] == [("app:latest", old)]


async def test_saving_by_id_has_no_names(disk: Disk, other: Disk) -> None:
    image_id = await disk.image(member("a"), tag="app")
    data = await disk.save(image_id[7:19])
    (loaded,) = await other.load(data)
    assert (loaded.id, loaded.names) == (image_id, [])
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        await disk.save("nothing")


@pytest.mark.parametrize("outer", PACKERS)
async def test_loads_every_compression(disk: Disk, other: Disk, outer: str) -> None:
    image_id = await disk.image(*everything())
    (loaded,) = await other.load(PACKERS[outer](await disk.save("app")))
    assert loaded.id == image_id


def docker_archive(
    layers: dict[str, bytes], *, diff_ids: list[str] | None = None, names: list[str] | None = None, **changes: Any
) -> bytes:
    """As docker save wrote it until version 24, with ``changes`` of members by name ("." for "/")."""
    found = (
        diff_ids if diff_ids is not None else ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers.values()]
    )
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": found}}
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": names or ["app:latest"], "Layers": list(layers)}]
    members = {**layers, "config.json": config, "manifest.json": json.dumps(manifest).encode()}
    members |= changes
    return tars.make(*(member(name, data=data) for name, data in members.items() if data is not None))


LAYER = tars.make(member("a", data=b"x" * 1000), member("b", D))


async def test_loads_docker_s_older_archives(disk: Disk) -> None:
    compressed = gzip.compress(LAYER)
    second = tars.make(member("c"))
    (loaded,) = await disk.load(
        docker_archive(
            {"1/layer.tar": compressed, "2/layer.tar": second},
            diff_ids=["sha256:" + hashlib.sha256(data).hexdigest() for data in (LAYER, second)],
            names=["app:1", "team/app:2"],
        )
    )
    assert [name.familiar for name in loaded.names] == ["app:1", "team/app:2"]
    layers = disk.store.images.layers(disk.store.images.get("app:1"))
    assert [layer.blob for layer in layers] == [
        "sha256:" + hashlib.sha256(data).hexdigest() for data in (compressed, second)
    ]


async def test_layers_that_are_links_to_layers(disk: Disk) -> None:
    diff_id = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}}).encode()
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["2/layer.tar", "1/layer.tar"]}]
    data = tars.make(
        member("1/layer.tar", data=LAYER),
        member("2/layer.tar", S, linkname="../1/layer.tar"),
        member("config.json", data=config),
        member("manifest.json", data=json.dumps(manifest).encode()),
    )
    (loaded,) = await disk.load(data)
    assert len(disk.store.images.layers(disk.store.images.get(loaded.id))) == 2
    assert len(disk.content()[0]) == 2, "the same tar upon two different layers is two layers"


def oci_layout(
    layer: bytes, *, annotations: dict[str, str] | None = None, nested: bool = False, **changes: Any
) -> bytes:
    diff_id = "sha256:" + hashlib.sha256(LAYER).hexdigest()
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    found = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if nested:
        other = {**found, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "sparc64"}}
        index = {"schemaVersion": 2, "manifests": [other, found]}
        found = blob(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    found["annotations"] = annotations or {"io.containerd.image.name": "docker.io/library/app:1"}
    index = {"schemaVersion": 2, "manifests": [found]}
    members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), **blobs}
    members |= changes
    return tars.make(*(member(name, data=data) for name, data in members.items() if data is not None))


@pytest.mark.parametrize("nested", [False, True])
async def test_loads_an_oci_layout(disk: Disk, other: Disk, nested: bool) -> None:
    compressed = gzip.compress(LAYER, mtime=0)
    (loaded,) = await disk.load(oci_layout(compressed, nested=nested))
    assert [name.familiar for name in loaded.names] == ["app:1"]
    assert (disk.layer("app:1") / "a").read_bytes() == b"x" * 1000
    manifest = disk.store.images.manifest(loaded.id)
    assert manifest is not None
    await other.load(await disk.save("app:1"))
    assert other.store.images.manifest(loaded.id) == manifest, "its manifest keeps its digest"


@pytest.mark.parametrize(
    ("annotation", "expected"), [("app:2", ["app:2"]), ("latest", []), ("docker.io/team/app:3", ["team/app:3"])]
)
async def test_names_by_the_layout_s_own_annotation(disk: Disk, annotation: str, expected: list[str]) -> None:
    data = oci_layout(gzip.compress(LAYER), annotations={"org.opencontainers.image.ref.name": annotation})
    (loaded,) = await disk.load(data)
    assert [name.familiar for name in loaded.names] == expected


NO_DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off|has neither|not a tar"),
        (b"x" * 20_000, "not a tar archive"),
        (tars.make(member("a")), "it has neither a manifest.json nor an index.json"),
        (docker_archive({"l": LAYER})[:3000], "cut off|neither"),
        (gzip.compress(docker_archive({"l": LAYER}))[:-20], "broken gzip data"),
        (docker_archive({"l": LAYER}, **{"manifest.json": b"{"}), "manifest.json: "),
        (docker_archive({"l": LAYER}, **{"manifest.json": b'[{"Config": 5}]'}), "manifest.json: "),
        (docker_archive({"l": LAYER}, **{"manifest.json": b"[" * 1_000_000}), "manifest.json: "),
        (docker_archive({"l": LAYER}, **{"config.json": None}), "config.json is missing"),
        (docker_archive({"l": LAYER}, **{"config.json": b"[]"}), "image configuration: "),
        (docker_archive({"l": LAYER}, l=None), "l is missing, or is not a layer"),
        (docker_archive({"l": LAYER}, l=b"no layer"), "l is missing, or is not a layer"),
        (docker_archive({"l": LAYER[:700]}), "l: the archive is cut off"),
        (docker_archive({"l": tars.make(member("../x"))}), "l: .*leads out of the archive"),
        (docker_archive({"l": LAYER}, diff_ids=[NO_DIGEST]), "invalid diffID for layer 0: expected"),
        (docker_archive({"l": LAYER}, diff_ids=["../../x"]), "invalid digest"),
        (docker_archive({"l": LAYER}, diff_ids=[]), "layers length mismatch: expected 1, got 0"),
        (docker_archive({"l": LAYER}, names=["App:1"]), "must be lowercase"),
        (docker_archive({"l": LAYER}, names=["app"]), "invalid tag"),
        (oci_layout(gzip.compress(LAYER), **{"index.json": b"{}"[:1]}), "index.json: "),
        (oci_layout(b"\x1f\x8b\x08 broken"), "broken gzip|is missing"),
        (oci_layout(gzip.compress(tars.make(member("z")))), "invalid diffID"),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",
)
async def test_a_broken_archive_leaves_nothing(disk: Disk, data: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as found:
        await disk.load(data)
    assert "\n" not in found.value.message and len(found.value.message) < 500
    assert disk.content() == ([], [])
    assert disk.staged() == []


async def test_one_broken_image_of_two_leaves_nothing(disk: Disk) -> None:
    good, bad = docker_archive({"l": LAYER}), docker_archive({"l": LAYER}, diff_ids=[NO_DIGEST])
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    manifest: list[Any] = []
    for number, archive in enumerate((good, bad)):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for info in tar:
                contents = tar.extractfile(info).read()  # type: ignore[union-attr]
                if info.name == "manifest.json":
                    (item,) = json.loads(contents)
                    item |= {"Config": f"{number}/config.json", "Layers": [f"{number}/l"]}
                    manifest.append(item)
                else:
                    members.append(member(f"{number}/{info.name}", data=contents))
    with pytest.raises(InvalidParameter, match="invalid diffID"):
        await disk.load(tars.make(*members, member("manifest.json", data=json.dumps(manifest).encode())))
    assert disk.content() == ([], [])
    assert disk.store.images.count() == 0


async def test_loading_tells_how_far_it_is(disk: Disk) -> None:
    big = tars.make(member("a", data=os.urandom(20_000_000)))
    events = [event async for event in disk.store.loader.load(stream(docker_archive({"abcdef/layer.tar": big})))]
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.name for event in progress] == ["abcdef"] * len(progress)
    assert len(progress) >= 3
    assert (progress[-1].current, progress[-1].total) == (len(big), len(big))


@pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
async def test_skopeo_reads_and_writes_the_same_images(disk: Disk, other: Disk, tmp_path: Path, transport: str) -> None:
    image_id = await disk.image(*everything(), tag="app:1")
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    ours.write_bytes(await disk.save("app:1"))
    command = ["skopeo", "--insecure-policy", "copy"]
    subprocess.run(
        [*command, f"{transport}:{ours}", f"{transport}:{theirs}:docker.io/library/app:2"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (loaded,) = await other.load(theirs.read_bytes())
    assert [name.familiar for name in loaded.names] == ["app:2"]
    assert loaded.id == image_id
    assert look(other.layer("app:2")) == look(disk.layer("app:1"))


async def test_cancelling_a_load_ends_its_worker(disk: Disk) -> None:
    started = asyncio.Event()
    await disk.load(docker_archive({"l": LAYER}))
    before, content = set(children()), disk.content()

    async def endless() -> AsyncIterator[bytes]:
        yield docker_archive({"l": tars.make(member("a", data=b"x" * 5_000_000))})[:4_000_000]
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(_drain(disk.store.loader.load(endless())))
    await started.wait()
    workers = set(children()) - before
    assert workers
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in workers:
        wait_gone(pid)
    assert disk.content() == content
    assert disk.staged() == []


async def _drain(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass


def children(pid: int | None = None) -> list[int]:
    """The descendants of a process."""
    found: list[int] = []
    for child in Path(f"/proc/{pid or os.getpid()}/task").glob("*/children"):
        for number in child.read_text().split():
            found += [int(number), *children(int(number))]
    return found


def test_a_killed_engine_leaves_nothing_half_made(tmp_path: Path) -> None:
    """kill -9 in the middle of a load: the worker goes along, and the next start sweeps."""
    program = """
import asyncio, sys
from wherry.storage.database import Database
from wherry.storage.store import Store

async def endless(data):
    yield data
    print("sent", flush=True)
    await asyncio.Event().wait()

async def main(root, archive):
    store = Store.open(root, Database(root + "/state.db"))
    async for _ in store.loader.load(endless(open(archive, "rb").read())):
        pass

asyncio.run(main(*sys.argv[1:]))
"""
    root = tmp_path / "data"
    root.mkdir()
    archive = tmp_path / "archive"
    big = tars.make(*(member(f"file{number}", data=os.urandom(1000)) for number in range(3000)))
    archive.write_bytes(docker_archive({"1/layer.tar": LAYER, "2/layer.tar": big})[:2_000_000])
    process = subprocess.Popen([sys.executable, "-c", program, str(root), str(archive)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"sent\n"
    workers = children(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for pid in workers:
        wait_gone(pid)
    assert os.listdir(root / "tmp")
    disk = Disk(root)
    assert disk.content() == ([], [])
    disk.close()
    assert os.listdir(root / "tmp") == []


def wait_gone(pid: int) -> None:
    """Until the process, which is not a child, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 10)[0], f"process {pid} outlives the engine"
    finally:
        os.close(fd)


# Files of containers


async def container(disk: Disk) -> Any:
    await disk.image(
        *everything(), member("etc", D), member("etc/passwd", data=b"root"), member("out", S, linkname="/etc"),
        member("loose", S, linkname="nowhere"), member("data", D, mode=0o755),
    )  # fmt: skip
    disk.store.snapshots.create("c1", disk.store.images.get("app").chain_id)
    return disk.store.snapshots.mounts("c1")


async def test_stat(disk: Disk) -> None:
    root = await container(disk)
    files = disk.store.files
    found = await files.stat(root, "/home/file")
    assert (found.name, found.size, found.mode, found.mtime, found.link_target) == (
        "file",
        100_000,
        0o600,
        7 * 10**9,
        "",
    )
    assert (await files.stat(root, "home/link")).link_target == "/etc/passwd"
    assert (await files.stat(root, "/out")).mode == 1 << 27 | 0o777
    assert (await files.stat(root, "/out")).link_target == "/etc"
    assert (await files.stat(root, "/out/")).mode == 1 << 31 | 0o755
    assert (await files.stat(root, "/loose")).link_target == "/nowhere"
    assert (await files.stat(root, "/")).name == "/"
    assert (await files.stat(root, "/bin/su")).mode == 1 << 23 | 0o755
    assert (await files.stat(root, "/bin/wall")).mode == 1 << 22 | 0o755
    assert (await files.stat(root, "/tmp")).mode == 1 << 31 | 1 << 20 | 0o777
    assert (await files.stat(root, "/dev/null")).mode == 1 << 26 | 1 << 21 | 0o666
    assert (await files.stat(root, "/dev/pipe")).mode == 1 << 25 | 0o600
    for path in ("/nothing", "/nothing/below", "/home/file/below", "/loose/below"):
        with pytest.raises(NotFound):
            await files.stat(root, path)


async def get(disk: Disk, root: Any, path: str) -> list[str]:
    async with disk.store.files.get(root, path) as (_, chunks):
        data = b"".join([chunk async for chunk in chunks])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


async def test_get(disk: Disk) -> None:
    root = await container(disk)
    assert await get(disk, root, "/etc") == ["etc", "etc/passwd"]
    assert await get(disk, root, "/etc/passwd") == ["passwd"]
    assert await get(disk, root, "/etc/.") == [".", "./passwd"]
    assert await get(disk, root, "/out") == ["out"]
    assert await get(disk, root, "/out/") == ["out", "out/passwd"]
    assert await get(disk, root, "/out/passwd") == ["passwd"]
    with pytest.raises(NotFound):
        await get(disk, root, "/nothing")


async def test_put(disk: Disk) -> None:
    root = await container(disk)
    files = disk.store.files
    data = tars.make(member("new", data=b"new", uid=5, gid=6), member(".wh.x"), member("passwd", data=b"changed"))
    await files.put(root, "/out", stream(data))
    await files.put(root, "/data", stream(gzip.compress(data)), user="7")
    with mounted(disk, "c1") as merged:
        assert (merged / "etc" / "new").read_bytes() == b"new"
        assert (merged / "etc" / "passwd").read_bytes() == b"changed"
        assert (merged / "etc" / ".wh.x").exists()
        facts = (merged / "data" / "new").stat()
        assert (facts.st_uid, facts.st_gid) == (7, 0)
    for path, kind in (("/etc/passwd", InvalidParameter), ("/nothing", NotFound)):
        with pytest.raises(kind):
            await files.put(root, path, stream(data))
    directory = tars.make(member("passwd", D))
    with pytest.raises(InvalidParameter, match="cannot overwrite non-directory"):
        await files.put(root, "/etc", stream(directory), keep_kinds=True)


async def test_export(disk: Disk) -> None:
    root = await container(disk)
    with mounted(disk, "c1") as merged:
        shutil.rmtree(merged / "home")
        expected = sorted(str(path.relative_to(merged)) for path in merged.rglob("*"))
    data = b"".join([chunk async for chunk in disk.store.files.export(root)])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(name for name in tar.getnames() if name != ".") == expected


async def test_a_running_container_is_entered_by_its_process(disk: Disk, tmp_path: Path) -> None:
    """Its mounts are seen by get and put, as by itself, and left out of an export."""
    await container(disk)
    (mount,) = disk.store.snapshots.mounts("c1")
    program = """
import os, sys, json
from wherry.linux import mounts, namespaces
from wherry.linux.mounts import Mount
options, volume = json.loads(sys.argv[1])
namespaces.unshare(namespaces.CLONE_NEWNS)
mounts.make_private()
inside = mounts.clone(volume)
root = mounts.make("overlay", "overlay", tuple(options))
place = os.open("/mnt", os.O_PATH)
mounts.attach(root, place)
mounts.attach(inside, os.open("/mnt/data", os.O_PATH))
mounts.pivot(root)
print("ready", flush=True)
sys.stdin.read()
"""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "in volume").touch()
    arguments = json.dumps([mount.options, str(volume)])
    process = subprocess.Popen(
        [sys.executable, "-c", program, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    try:
        files = disk.store.files
        assert await get(disk, process.pid, "/data") == ["data", "data/in volume"]
        await files.put(process.pid, "/data", stream(tars.make(member("put", data=b"x"))))
        assert (volume / "put").read_bytes() == b"x"
        data = b"".join([chunk async for chunk in files.export(process.pid)])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert "data" in tar.getnames() and not [name for name in tar.getnames() if name.startswith("data/")]
    finally:
        process.communicate()


async def test_copies_an_image_s_files_into_a_volume(disk: Disk, tmp_path: Path) -> None:
    await container(disk)
    view = disk.store.snapshots.view(disk.store.images.get("app").chain_id, "")
    target = tmp_path / "volume"
    target.mkdir()
    await disk.store.files.copy_out((view,), "/home", str(target))
    expected = look(disk.layer("app") / "home")
    found = look(target)
    assert {name: facts[:6] for name, facts in found.items()} == {name: facts[:6] for name, facts in expected.items()}
    await disk.store.files.copy_out((view,), "/nothing", str(target))


async def test_an_image_without_layers(disk: Disk) -> None:
    image_id = disk.store.images.create(ImageConfig(architecture="amd64", os="linux"))
    disk.store.snapshots.create("c1", disk.store.images.get(image_id).chain_id)
    with mounted(disk, "c1") as root:
        (root / "new").touch()
    assert disk.store.snapshots.changes("c1") == [(1, "/new")]
    view = disk.store.snapshots.view("", "")
    assert (await disk.store.files.stat((view,), "/")).mode & 0o777 == 0o755
