# a test waits for what it does to files and processes
"""Tars become layers, with everything that they say."""

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import struct
import tarfile
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from tests.support import tars
from tests.support.disk import CONFIG, Disk, everything, look, stream
from tests.support.tars import member
from wherry.common.errors import EngineError, InvalidParameter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")
D, S = tarfile.DIRTYPE, tarfile.SYMTYPE


CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective and permitted


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
        if info.type == tarfile.LNKTYPE:
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


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
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
