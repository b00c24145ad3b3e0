import bz2
import gzip
import hashlib
import io
import lzma
import random
from collections.abc import Callable

import pytest
import zstandard

from wherry.storage.tar import compression
from wherry.storage.tar.compression import Compression, Compressor, decompressor, detect
from wherry.storage.tar.reader import TarError

TEXT = b"some text, again and again. " * 20_000
SKIPPED = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
PACKED: dict[Compression, bytes] = {
    "": TEXT,
    "gzip": gzip.compress(TEXT),
    "zstd": zstandard.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
}


def reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read


def unpack(kind: Compression, data: bytes) -> bytes:
    read = decompressor(kind, reader(data))
    found = b""
    while chunk := read(10_000):
        found += chunk
    return found


@pytest.mark.parametrize("kind", PACKED)
def test_detects_and_unpacks(kind: Compression) -> None:
    assert detect(PACKED[kind][: compression.MAGIC]) == kind
    compression.prepare(kind)
    assert unpack(kind, PACKED[kind]) == TEXT


@pytest.mark.parametrize("kind", PACKED)
def test_what_was_read_to_detect_it_is_read_again(kind: Compression) -> None:
    """However much that was: decompressors read in pieces of their own size."""
    noise = random.Random(1).randbytes(1_000_000)
    pack: dict[Compression, Callable[[bytes], bytes]] = {
        "": bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress, "xz": lzma.compress
    }  # fmt: skip
    packed = pack[kind](noise)
    for size in (0, 1, 20_000, 600_000, len(packed)):
        read = decompressor(kind, compression.resume(packed[:size], reader(packed[size:])))
        assert b"".join(iter(lambda read=read: read(300_000), b"")) == noise


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_several_streams_in_a_row(kind: Compression) -> None:
    assert unpack(kind, PACKED[kind] * 2) == TEXT * 2


def test_a_zstd_frame_that_is_to_be_skipped() -> None:
    assert detect(SKIPPED) == "zstd"
    assert unpack("zstd", SKIPPED + PACKED["zstd"]) == TEXT


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_what_is_cut_off_is_refused(kind: Compression) -> None:
    with pytest.raises(TarError, match=f"broken {kind} data"):
        unpack(kind, PACKED[kind][:-10])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_what_is_broken_is_refused(kind: Compression) -> None:
    data = bytearray(PACKED[kind])
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    with pytest.raises(TarError, match=f"broken {kind} data"):
        unpack(kind, bytes(data))


@pytest.mark.parametrize("start", [b"", b"\x1f", b"{}", b"PK\x03\x04"])
def test_what_is_not_compressed(start: bytes) -> None:
    assert detect(start) == ""


def test_packs_the_same_again() -> None:
    pieces = [TEXT, random.Random(1).randbytes(1_000_000), b"end"]

    def pack() -> tuple[bytes, Compressor]:
        packer = Compressor()
        return b"".join([*map(packer.pack, pieces), packer.finish()]), packer

    packed, packer = pack()
    assert gzip.decompress(packed) == b"".join(pieces)
    assert packed[:8] == b"\x1f\x8b\x08\0\0\0\0\0", "no name, no time"
    assert (packer.size, packer.digest) == (len(packed), f"sha256:{hashlib.sha256(packed).hexdigest()}")
    assert pack()[0] == packed


@pytest.mark.parametrize(("kind", "level"), [("gzip", 1), ("gzip", 9), ("zstd", None), ("zstd", 19), ("", None)])
def test_packs_in_every_way(kind: Compression, level: int | None) -> None:
    packer = Compressor(kind, level)
    packed = packer.pack(TEXT) + packer.finish()
    assert unpack(kind, packed) == TEXT
    assert packer.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
