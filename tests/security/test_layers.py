"""Layers and archives that try to get out, to lie, or to take the machine with them."""

import contextlib
import ctypes
import gzip
import io
import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import tars
from tests.support.disk import CONFIG, Disk, docker_archive, sha256, stream
from tests.support.tars import member
from tests.support.waiting import until
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.storage.tar import compression
from wherry.storage.tar.reader import TarError, TarReader
from wherry.storage.tar.sources import StreamSource
from wherry.storage.tar.unpack import Limits, Unpacker

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="locking a worker in needs root")

D, L, S = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A place that no layer may touch, with a file in it."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("secret")
    before = [(path, path.stat().st_mtime_ns) for path in (place, place / "secret")]
    yield place
    assert [(path, path.stat().st_mtime_ns) for path in (place, place / "secret")] == before
    assert os.listxattr(place) == []
    assert os.listdir(place) == ["secret"]


def attacks(outside: Path) -> dict[str, Members]:
    climb = "../" * 40
    return {
        "dots": [member(f"{climb}{outside}/new", data=b"x")],
        "dots inside": [member(f"a/{climb}{outside}/new", data=b"x")],
        "absolute": [member(f"{outside}/new", data=b"x")],
        "through an absolute link": [member("out", S, linkname=str(outside)), member("out/new", data=b"x")],
        "through a relative link": [member("out", S, linkname=f"{climb}{outside}"), member("out/secret", data=b"x")],
        "through two links": [
            member("a", D), member("a/b", S, linkname=".."), member("c", S, linkname=f"a/b/{climb}{outside}"),
            member("c/new", data=b"x"),
        ],
        "onto a link": [member("out", S, linkname=f"{outside}/secret"), member("out", data=b"overwritten")],
        "directory onto a link": [
            member("out", S, linkname=str(outside)), member("out", D, mode=0o777, uid=5), member("out/new", data=b"x")
        ],
        "times through a link": [
            member("out", D, mtime=5), member("out", S, linkname=str(outside)),
        ],
        "hard link to the outside": [member("hard", L, linkname=f"{outside}/secret")],
        "hard link by dots": [member("hard", L, linkname=f"{climb}{outside}/secret")],
        "hard link through a link": [
            member("out", S, linkname=str(outside)), member("hard", L, linkname="out/secret"), member("hard", data=b"x")
        ],
        "hard link to a link, written through": [
            member("out", S, linkname=f"{outside}/secret"), member("hard", L, linkname="out"), member("hard", data=b"x")
        ],
        "whiteout of the parent": [member("a/.wh...")],
        "whiteout through a link": [member("out", S, linkname=str(outside)), member("out/.wh.secret")],
        "opaque through a link": [member("out", S, linkname=str(outside)), member("out/.wh..wh..opq")],
        "device through a link": [
            member("out", S, linkname=str(outside)), member("out/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        ],
        "magic link": [member("out", S, linkname="/proc/self/cwd"), member("out/new", data=b"x")],
    }  # fmt: skip


@pytest.mark.parametrize("attack", attacks(Path("/")))
@pytest.mark.parametrize("packed", [False, True])
async def test_nothing_is_written_outside(disk: Disk, outside: Path, attack: str, packed: bool) -> None:
    """A hole: the folder beside the layer's has changed, or a file of it is linked into the layer."""
    data = tars.make(*attacks(outside)[attack])
    try:
        image_id = await disk.import_tar(gzip.compress(data) if packed else data)
    except InvalidParameter:
        assert disk.content() == ([], [])
        return
    # What was not refused has stayed inside.
    secret = (outside / "secret").stat().st_ino
    assert not [path for path in disk.layer(image_id).rglob("*") if path.lstat().st_ino == secret]


@pytest.mark.parametrize("attack", attacks(Path("/")))
def test_the_first_wall_stands_alone(tmp_path: Path, outside: Path, attack: str) -> None:
    """Without chroot, descriptors and openat2 alone keep an archive inside."""
    place = tmp_path / "root"
    place.mkdir()
    root = os.open(place, os.O_RDONLY)
    try:
        Unpacker(root, layer=True).unpack(tars.source(tars.make(*attacks(outside)[attack])))
    except (TarError, OSError):
        pass
    finally:
        os.close(root)


async def test_who_unpacks_is_locked_in(disk: Disk) -> None:
    """A hole: what the first wall overlooks is written on the host, since that is the process's root."""
    data = tars.make(member("file", data=os.urandom(1 << 20)))

    async def with_a_look() -> AsyncIterator[bytes]:
        yield data[: 1 << 19]
        await until(lambda: [root for root in _roots(os.getpid()) if root.startswith(str(disk.root))], 30)
        yield data[1 << 19 :]

    await disk.store.loader.import_tar(with_a_look(), CONFIG)


def _roots(pid: int) -> list[str]:
    """The root directories of a process's descendants."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # one that has ended
            for child in map(int, children.read_text().split()):
                found += [os.readlink(f"/proc/{child}/root"), *_roots(child)]
    return found


async def test_a_layer_cannot_speak_to_overlayfs(disk: Disk) -> None:
    """A redirect would bring in files of another layer, an opaque mark hide them, metacopy borrow contents."""
    marks = {f"SCHILY.xattr.trusted.overlay.{name}": "y" for name in ("opaque", "redirect", "metacopy", "origin")}
    marks |= {"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.mine": "kept"}
    image_id = await disk.import_tar(tars.make(member("d", D, pax_headers=marks), member("f", pax_headers=marks)))
    for name in ("d", "f"):
        assert os.listxattr(disk.layer(image_id) / name) == ["trusted.mine"]


async def test_a_device_is_only_a_name(disk: Disk) -> None:
    """As in Docker a layer may have any device node; what a container may open is for its device cgroup."""
    image_id = await disk.import_tar(tars.make(member("sda", tarfile.BLKTYPE, mode=0o666, devmajor=8, devminor=0)))
    assert stat.S_ISBLK((disk.layer(image_id) / "sda").lstat().st_mode)
    for major, minor in ((2**12, 0), (0, 2**20)):
        info, _ = member("x", tarfile.CHRTYPE, devmajor=major, devminor=min(minor, 0o7777777))
        with pytest.raises(InvalidParameter, match=r"device .* is out of range"):
            await disk.import_tar(tars.make((info, b"")))


class TestBombs:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[int]:
        (tmp_path / "root").mkdir()
        fd = os.open(tmp_path / "root", os.O_RDONLY)
        yield fd
        os.close(fd)

    def compressed(self, kind: str) -> bytes:
        """100 MB of zeros in one file, in some kilobytes."""
        size = 100_000_000
        info, _ = member("zeros")
        info.size = size
        header = info.tobuf(tarfile.USTAR_FORMAT)
        if kind == "gzip":
            buffer = io.BytesIO()
            with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
                file.write(header)
                for _ in range(100):
                    file.write(bytes(size // 100))
            return buffer.getvalue()
        return zstandard.compress(header + bytes(size))

    @pytest.mark.parametrize("kind", ["gzip", "zstd"])
    def test_what_unfolds_is_stopped_at_the_limit(self, root: int, kind: compression.Compression) -> None:
        """A hole: some kilobytes fill the disk, or the memory."""
        data = self.compressed(kind)
        assert len(data) < 200_000
        read = compression.decompressor(kind, io.BytesIO(data).read)
        tracemalloc.start()
        try:
            with pytest.raises(TarError, match="larger than the file system has room for"):
                Unpacker(root, limits=Limits(space=1_000_000)).unpack(StreamSource(read))
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
        assert sum(path.stat().st_size for path in Path(f"/proc/self/fd/{root}").iterdir()) <= 1_000_000

    def test_memory_stays_small_whatever_the_size(self, root: int) -> None:
        """A hole: the unpacker's memory grows with what it unpacks."""
        read = compression.decompressor("gzip", io.BytesIO(self.compressed("gzip")).read)
        tracemalloc.start()
        try:
            with pytest.raises(TarError, match="cut off"):  # the archive ends without its closing zeros: never reached
                Unpacker(root).unpack(StreamSource(_cut(read, 60_000_000)))
            assert tracemalloc.get_traced_memory()[1] < 40_000_000
        finally:
            tracemalloc.stop()

    def test_a_zstd_window_is_not_any_size(self) -> None:
        """A hole: a header of some bytes has a gigabyte of memory reserved."""
        parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
        data = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = data.compress(b"x" * 1000) + data.flush()
        with pytest.raises(TarError, match="broken zstd data"):
            compression.decompressor("zstd", io.BytesIO(packed).read)(1000)

    @pytest.mark.parametrize("size", [2**33, 2**62, 2**63 - 1])
    def test_a_size_that_is_made_up(self, root: int, size: int) -> None:
        """A hole: room is made for the size that a header says, before its bytes are there."""
        info, _ = member("huge")
        info.size = size
        header = info.tobuf(tarfile.GNU_FORMAT)
        with pytest.raises(TarError, match=r"cut off|larger than"):
            Unpacker(root, limits=Limits.of_file_system(root)).unpack(tars.source(header + bytes(100_000)))

    def test_a_pax_header_that_is_made_up(self) -> None:
        """A hole: an extended header of gigabytes is read into memory."""
        info, _ = member("huge", b"x")
        info.size = 2**33
        reader = TarReader(tars.source(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
        with pytest.raises(TarError, match="an extended header of 8589934592 bytes"):
            reader.next()

    def test_headers_without_end(self) -> None:
        """A million extended headers in front of one member hold no more memory than the last."""
        info, _ = member("p", b"x", b"20 comment=aaaaaaaa\n")
        block = info.tobuf(tarfile.USTAR_FORMAT) + b"20 comment=aaaaaaaa\n".ljust(512, b"\0")
        left = [20_000]

        def read(size: int) -> bytes:
            left[0] -= 100
            return block * 100 if left[0] >= 0 else b""

        tracemalloc.start()
        try:
            with pytest.raises(TarError, match="cut off"):
                TarReader(StreamSource(read)).next()
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()

    def test_a_sparse_file_of_any_size_takes_no_room(self, root: int, tmp_path: Path) -> None:
        """A hole: holes are written out, a terabyte of zeros."""
        headers = {"GNU.sparse.map": "0,5", "GNU.sparse.size": str(2**40)}
        Unpacker(root).unpack(tars.source(tars.make(member("sparse", data=b"hello", pax_headers=headers))))
        facts = (tmp_path / "root" / "sparse").stat()
        assert facts.st_size == 2**40 and facts.st_blocks * 512 < 100_000

    async def test_names_nested_as_deep_as_names_go(self, disk: Disk) -> None:
        """A hole: a name that is too deep ends the unpacker, or cannot be removed any more."""
        image_id = await disk.import_tar(tars.make(member("a/" * 2000 + "f", data=b"x"), member("a", data=b"replaced")))
        assert (disk.layer(image_id) / "a").read_bytes() == b"replaced"
        with pytest.raises(InvalidParameter, match="a name that no file can have"):
            await disk.import_tar(tars.make(member("a/" * 3000 + "f")))

    @pytest.mark.parametrize("name", ["manifest.json", "config.json", "index.json"])
    @pytest.mark.parametrize("opening", ["[", '{"a":', '[{"Config":', '{"manifests":[{"annotations":'])
    async def test_json_nested_without_end(self, disk: Disk, name: str, opening: str) -> None:
        """A hole: the decoder's stack overflows, and the engine is gone."""
        layer = tars.make(member("a"))
        with pytest.raises(InvalidParameter) as found:
            await disk.load(docker_archive({"l": layer}, **{name: opening.encode() * 200_000}))
        assert len(found.value.message) < 500
        assert disk.content() == ([], [])

    async def test_a_document_that_is_none(self, disk: Disk) -> None:
        """A hole: a manifest of any size is held in memory."""
        layer = tars.make(member("a"))
        huge = b'[{"Config": "' + b"x" * (9 << 20) + b'"}]'
        with pytest.raises(InvalidParameter, match=r"neither a manifest\.json nor an index\.json"):
            await disk.load(docker_archive({"l": layer}, **{"manifest.json": huge}))


class Sender:
    """Sends these pieces, and counts the bytes that were taken of them."""

    def __init__(self, *pieces: Iterable[bytes]) -> None:
        self.taken = 0
        self._pieces = itertools.chain(*pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "target" if kind == S else ""
    return info.tobuf(tarfile.GNU_FORMAT)


class TestRefusedEarly:
    """What cannot become an image is not read to its end. A hole looks like this: a file that is worth nothing keeps
    the engine busy for as long as somebody sends, fills its disk, or its memory with what it has noted."""

    SIZE = 3 << 30
    FEW = 100 << 20

    @pytest.mark.parametrize("begin", [b"", header("x", SIZE), header("x", SIZE) + b"text".ljust(512)])
    async def test_three_gigabytes_of_nothing(self, disk: Disk, begin: bytes) -> None:
        """Zeros, which are the end of an archive; in a member; in one that is no layer."""
        sender = Sender((begin,), itertools.repeat(bytes(1 << 18), self.SIZE >> 18))
        with pytest.raises(InvalidParameter):
            await drain(disk.store.loader.load(sender))
        assert sender.taken < self.FEW
        assert disk.content() == ([], [])

    async def test_three_gigabytes_of_nothing_to_import(self, disk: Disk) -> None:
        """The same stream as the only layer of an image."""
        sender = Sender(itertools.repeat(bytes(1 << 18), self.SIZE >> 18))
        with pytest.raises(InvalidParameter, match="more than 16 MB follow the end of the archive"):
            await disk.store.loader.import_tar(sender, CONFIG)
        assert sender.taken < self.FEW
        assert disk.content() == ([], [])

    @pytest.mark.parametrize("kind", [tarfile.REGTYPE, D, S])
    async def test_two_hundred_thousand_members(self, disk: Disk, kind: bytes) -> None:
        """A hole: each is noted, until somebody stops sending."""
        sender = Sender(itertools.repeat(header("x", kind=kind) * 512, 400))
        with pytest.raises(InvalidParameter, match="not an archive of images: it has 10000 members and goes on"):
            await drain(disk.store.loader.load(sender))
        assert sender.taken < 20_000 * 512

    async def test_as_many_as_archives_of_images_have(self, disk: Disk) -> None:
        """Docker's old archives: for each layer two documents beside it. And some thousands that others have put in."""
        layers = {f"{number}/layer.tar": tars.make(member(f"f{number}", data=b"x")) for number in range(100)}
        beside = {f"{number}/{name}": b"1.0" for number in range(100) for name in ("VERSION", "json")}
        more = {f"extra-{number}": b"{}" for number in range(9000)}
        assert len(await disk.load(docker_archive(layers, **beside, **more))) == 1

    async def test_a_layer_that_goes_on_after_its_end(self, disk: Disk) -> None:
        """Compressed it is small, and what it says of itself is right."""
        layer = tars.make(member("a")) + bytes(64 << 20)
        with pytest.raises(InvalidParameter, match="more than 16 MB follow the end of the archive"):
            await disk.load(docker_archive({"l": gzip.compress(layer, 1)}, diff_ids=[sha256(layer)]))
        padded = tars.make(member("a")) + bytes(1 << 20)
        assert len(await disk.load(docker_archive({"l": padded}))) == 1


async def test_a_layer_is_what_its_image_says(disk: Disk) -> None:
    """A hole: it is kept by another's name, and images that have the other one get these files."""
    meant, made = tars.make(member("meant")), tars.make(member("made"))
    with pytest.raises(InvalidParameter, match="invalid diffID for layer 0"):
        await disk.load(docker_archive({"l": made}, diff_ids=[sha256(meant)]))
    assert disk.content() == ([], [])


async def drain(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


def _cut(read: compression.Read, size: int) -> compression.Read:
    left = [size]

    def cut(wanted: int) -> bytes:
        data = read(min(wanted, left[0])) if left[0] else b""
        left[0] -= len(data)
        return data

    return cut


@pytest.mark.parametrize(
    "path",
    [
        "../../../outside/secret", "/../outside", "blobs/sha256/../../../../outside/secret", "l/../../x",
        "{outside}/secret", "../../../../../../../..{outside}/secret",
    ],
)  # fmt: skip
async def test_an_archive_s_own_paths_stay_in_it(disk: Disk, outside: Path, path: str) -> None:
    """A hole: a manifest names a file of the host's as its configuration or its layer, and it is taken in."""
    path = path.format(outside=outside)
    layer = tars.make(member("a"))
    config = json.dumps([{"Config": path, "RepoTags": None, "Layers": ["l"]}]).encode()
    layers = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": [path]}]).encode()
    for manifest in (config, layers):
        with pytest.raises(InvalidParameter, match="is missing"):
            await disk.load(docker_archive({"l": layer}, **{"manifest.json": manifest}))


async def test_links_of_an_archive_that_go_round(disk: Disk) -> None:
    """A hole: the engine follows them for ever."""
    manifest = json.dumps([{"Config": "a", "RepoTags": None, "Layers": []}]).encode()
    data = tars.make(member("a", S, linkname="b"), member("b", S, linkname="a"), member("manifest.json", data=manifest))
    with pytest.raises(InvalidParameter, match="is missing"):
        await disk.load(data)


async def test_error_messages_obey_no_terminal(disk: Disk) -> None:
    """A hole: a name out of the archive writes to the title, the clipboard or the lines of who reads the message."""
    with pytest.raises(InvalidParameter) as found:
        await disk.import_tar(tars.make(member("\x1b]0;title\x07/\r\n../../x/../../..", data=b"x")))
    assert found.value.message.isprintable()


# Containers that try to get at whoever looks at their files


async def container(disk: Disk, *members: tuple[tarfile.TarInfo, bytes]) -> Any:
    image_id = await disk.import_tar(tars.make(*members))
    disk.store.snapshots.create("c1", disk.store.images.get(image_id).chain_id)
    return disk.store.snapshots.mounts("c1")


async def read(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_copying_follows_no_link_out(disk: Disk, outside: Path) -> None:
    """CVE-2018-15664: the links of the container lead where they lead for the container."""
    climb = "../" * 40
    root = await container(
        disk,
        member("absolute", S, linkname=str(outside)),
        member("relative", S, linkname=f"{climb}{outside}"),
        member("magic", S, linkname="/proc/self/root"),
        member("inside", D),
    )
    files = disk.store.files
    for link in ("absolute", "relative", "magic"):
        with pytest.raises(NotFound):
            await files.stat(root, f"/{link}/secret")
        with pytest.raises(NotFound):
            await files.put(root, f"/{link}", stream(tars.make(member("new", data=b"x"))))
        with pytest.raises(NotFound):
            async with files.get(root, f"/{link}/") as (_, chunks):
                await read(chunks)
    for path in (f"{climb}{outside}/secret", f"/inside/{climb}{outside}/secret"):
        with pytest.raises(NotFound):
            await files.stat(root, path)
    archive = tars.make(member("out", S, linkname=str(outside)), member("out/new", data=b"x"))
    with pytest.raises(InvalidParameter):
        await files.put(root, "/inside", stream(archive))
    exported = await read(files.export(root))
    assert b"secret" not in exported.replace(str(outside).encode(), b"")


async def test_what_would_block_a_reader_is_not_opened(disk: Disk) -> None:
    """A FIFO, a device and a socket in a container's files are packed as what they are, or left out."""
    root = await container(
        disk,
        member("pipe", tarfile.FIFOTYPE),
        member("zero", tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("file", data=b"x"),
    )
    upper = disk.root / "containers" / "c1" / "diff"
    os.mkfifo(upper / "second pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(upper / "socket"))
    data = await read(disk.store.files.export(root))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {"file", "pipe", "second pipe", "zero"} <= set(tar.getnames())
        assert "socket" not in tar.getnames()
    async with disk.store.files.get(root, "/pipe") as (_, chunks):
        assert await read(chunks)
    layer = await disk.store.snapshots.commit("c1")
    assert layer.size == 0


async def test_a_tree_that_no_tar_can_hold(disk: Disk) -> None:
    """Directories nested deeper than any path can say: clear errors, and the container can still be removed."""
    await container(disk, member("a"))
    fd = os.open(disk.root / "containers" / "c1" / "diff", os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    snapshots = disk.store.snapshots
    with pytest.raises(InvalidParameter, match="the path is longer than 4095 bytes"):
        await snapshots.commit("c1")
    with pytest.raises(EngineError, match="nested deeper than 256"):
        snapshots.changes("c1")
    with pytest.raises(EngineError, match="nested deeper than 256"):
        snapshots.size("c1")
    snapshots.remove("c1")
    disk.store.close()
    assert os.listdir(disk.root / "tmp") == []


def test_a_worker_that_has_entered_loads_nothing_and_cannot_be_traced(tmp_path: Path) -> None:
    """CVE-2019-14271: a library of the container's. CVE-2019-5736: a process of the engine's, reached from inside."""
    library = tmp_path / os.path.dirname(os.__file__).lstrip("/")
    library.mkdir(parents=True)
    (library / "this.py").write_text("print('loaded from the container')")
    program = """
import sys
from wherry.linux.mounts import Mount
from wherry.storage.worker import rootfs
rootfs.enter((Mount("bind", sys.argv[1], options=("rbind",)),))
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
try:
    import this
except ImportError:
    print("nothing is loaded")
"""
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1
    result = subprocess.run([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["0", "nothing is loaded"]
