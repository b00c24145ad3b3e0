# ruff: noqa: ASYNC220  # a test waits for what it does to files and processes
"""Containers' files, from inside their roots."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import tars
from tests.support.disk import Disk, everything, look, stream
from tests.support.tars import member
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.model.image import ImageConfig
from wherry.storage.worker.jobs import Running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")
D, S = tarfile.DIRTYPE, tarfile.SYMTYPE


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
    for path in ("/nothing", "/nothing/below", "/loose/below"):
        with pytest.raises(NotFound):
            await files.stat(root, path)
    with pytest.raises(EngineError, match="lstat /home/file/below: not a directory"):
        await files.stat(root, "/home/file/below")


async def get(disk: Disk, root: Any, path: str) -> list[str]:
    async with disk.store.files.get(root, path) as (_, chunks):
        data = b"".join([chunk async for chunk in chunks])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


async def test_get(disk: Disk) -> None:
    root = await container(disk)
    of_init = ["etc/hostname", "etc/hosts", "etc/mtab"]
    assert await get(disk, root, "/etc") == ["etc", *of_init, "etc/passwd", "etc/resolv.conf"]
    assert await get(disk, root, "/etc/passwd") == ["passwd"]
    assert (await get(disk, root, "/etc/."))[:2] == [".", "./hostname"]
    assert await get(disk, root, "/out") == ["out"]
    assert (await get(disk, root, "/out/"))[:2] == ["out", "out/hostname"]
    assert await get(disk, root, "/out/passwd") == ["passwd"]
    with pytest.raises(NotFound):
        await get(disk, root, "/nothing")


async def test_put(disk: Disk) -> None:
    root = await container(disk)
    files = disk.store.files
    data = tars.make(member("new", data=b"new", uid=5, gid=6), member(".wh.x"), member("passwd", data=b"changed"))
    await files.put(root, "/out", stream(data))
    await files.put(root, "/data", stream(gzip.compress(data)), user="7")
    with disk.mounted("c1") as merged:
        assert (merged / "etc" / "new").read_bytes() == b"new"
        assert (merged / "etc" / "passwd").read_bytes() == b"changed"
        assert (merged / "etc" / ".wh.x").exists()
        facts = (merged / "data" / "new").stat()
        assert (facts.st_uid, facts.st_gid) == (7, 0)
    for path, kind in (("/etc/passwd", EngineError), ("/nothing", NotFound)):
        with pytest.raises(kind):
            await files.put(root, path, stream(data))
    directory = tars.make(member("passwd", D))
    with pytest.raises(InvalidParameter, match="cannot overwrite non-directory"):
        await files.put(root, "/etc", stream(directory), keep_kinds=True)


async def test_export(disk: Disk) -> None:
    root = await container(disk)
    with disk.mounted("c1") as merged:
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
        files, running = disk.store.files, Running(process.pid)
        assert await get(disk, running, "/data") == ["data", "data/in volume"]
        await files.put(running, "/data", stream(tars.make(member("put", data=b"x"))))
        assert (volume / "put").read_bytes() == b"x"
        data = b"".join([chunk async for chunk in files.export(running)])
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
    with disk.mounted("c1") as root:
        (root / "new").touch()
    assert disk.store.snapshots.changes("c1") == [(1, "/new")]
    view = disk.store.snapshots.view("", "")
    assert (await disk.store.files.stat((view,), "/")).mode & 0o777 == 0o755


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
async def test_archives_of_every_compression_are_put(disk: Disk, pack: Callable[[bytes], bytes]) -> None:
    root = await container(disk)
    noise = random.Random(1).randbytes(1_000_000)
    await disk.store.files.put(root, "/data", stream(pack(tars.make(member("noise", data=noise)))))
    async with disk.store.files.get(root, "/data/noise") as (_, chunks):
        archive = io.BytesIO(b"".join([chunk async for chunk in chunks]))
    with tarfile.open(fileobj=archive) as tar:
        found = tar.extractfile("noise")
        assert found is not None and found.read() == noise
