# ruff: noqa: ASYNC221  # a test waits for what it does to files and processes
"""Images in and out: load, save, and what happens when that is interrupted."""

import asyncio
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import tars
from tests.support.disk import Disk, docker_archive, everything, look, stream
from tests.support.tars import member
from wherry.common import reference
from wherry.common.errors import InvalidParameter, NotFound
from wherry.model.image import History, ImageConfig
from wherry.storage.load import Progress

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts need root")
D, S = tarfile.DIRTYPE, tarfile.SYMTYPE


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "other")
    yield found
    found.close()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


async def three_images(disk: Disk) -> list[str]:
    """Two that share a layer, and one with two names; the second is the first's child."""
    base = await disk.image(*everything(), tag="base:1")
    disk.store.snapshots.create("c1", disk.store.images.get(base).chain_id)
    with disk.mounted("c1") as root:
        (root / "new").write_text("new")
        shutil.rmtree(root / "home")
    layer = await disk.store.snapshots.commit("c1")
    parent = disk.store.images.get(base).config
    config = ImageConfig(
        architecture="amd64", os="linux", rootfs=type(parent.rootfs)(diff_ids=[*parent.rootfs.diff_ids, layer.diff_id]),
        history=[*parent.history, History(created_by="commit")],
    )  # fmt: skip
    child = disk.store.images.create(config, parent=base, layer=layer)
    disk.store.images.tag(child, reference.parse_to_tag("registry.example/team/child:2"))
    other = await disk.image(member("other", data=b"x"), tag="other")
    disk.store.images.tag(other, reference.parse_to_tag("other:second"))
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
    with pytest.raises(NotFound, match="No such image: nothing"):
        await disk.save("nothing")


@pytest.mark.parametrize("outer", PACKERS)
async def test_loads_every_compression(disk: Disk, other: Disk, outer: str) -> None:
    image_id = await disk.image(*everything())
    (loaded,) = await other.load(PACKERS[outer](await disk.save("app")))
    assert loaded.id == image_id


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
                contents = tar.extractfile(info).read()
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
