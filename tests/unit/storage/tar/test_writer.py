"""What we write, tarfile, GNU tar and we ourselves read the same."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tars
from wherry.common.tar import BLOCK_DEVICE, DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry
from wherry.storage.tar.reader import TarReader
from wherry.storage.tar.writer import TarWriter, directory_entry, file_entry

characters = st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=("Cs", "Cc"))
parts = st.text(characters, min_size=1, max_size=120).map(str.strip).filter(lambda part: part not in ("", ".", ".."))
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
attributes = st.dictionaries(st.from_regex(r"user\.[a-z]{1,9}", fullmatch=True), st.binary(max_size=50), max_size=2)
KINDS = [REGULAR, DIRECTORY, SYMLINK, HARD_LINK, BLOCK_DEVICE]


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from(KINDS))
    data = draw(st.binary(max_size=1500)) if kind == REGULAR else b""
    entry = Entry(
        draw(paths).encode(),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        len(data),
        draw(st.integers(-(10**18), 10**19)),
        draw(paths).encode() if kind in (SYMLINK, HARD_LINK) else b"",
    )
    if kind == BLOCK_DEVICE:
        entry.major, entry.minor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))
    entry.xattrs = draw(attributes)
    return entry, data


def write(*written: tuple[Entry, bytes]) -> bytes:
    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    for entry, data in written:
        writer.add(entry)
        if data:
            writer.write(data)
    writer.close()
    return buffer.getvalue()


def facts(entry: Entry) -> tuple[object, ...]:
    values = (entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, entry.link)
    return (entry.name.rstrip(b"/"), *values, entry.major, entry.minor, entry.xattrs)


@settings(deadline=None)
@given(st.lists(entries(), max_size=5))
def test_we_read_what_we_write(written: list[tuple[Entry, bytes]]) -> None:
    data = write(*written)
    assert len(data) % 512 == 0
    found = tars.read(data)
    assert [(facts(entry), contents) for entry, contents in found] == [
        (facts(entry), contents) for entry, contents in written
    ]
    assert write(*written) == data, "the same entries give the same bytes"


@settings(deadline=None)
@given(st.lists(entries(), max_size=5))
def test_tarfile_reads_what_we_write(written: list[tuple[Entry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(write(*written)), errors="surrogateescape") as tar:
        found = tar.getmembers()
        for info, (entry, data) in zip(found, written, strict=True):
            assert info.name == entry.name.decode()
            assert (info.type, info.mode, info.uid, info.gid) == (entry.kind, entry.mode, entry.uid, entry.gid)
            assert info.linkname == entry.link.decode()
            assert abs(info.mtime - entry.mtime / 1e9) < 1e-5
            if entry.kind == BLOCK_DEVICE:
                assert (info.devmajor, info.devminor) == (entry.major, entry.minor)
            if entry.kind == REGULAR:
                assert tar.extractfile(info).read() == data


@pytest.mark.skipif(not shutil.which("tar"), reason="no GNU tar")
def test_gnu_tar_reads_what_we_write(tmp_path: Path) -> None:
    long = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120
    linked = Entry(b"link", SYMLINK, 0o777, link=b"t" * 150)
    data = write(
        (directory_entry("d" * 90), b""),
        (file_entry(long, 5, mtime=1_500_000_000_123_456_789, mode=0o600), b"hello"),
        (file_entry("größe", 3), b"abc"),
        (linked, b""),
    )
    subprocess.run(["tar", "-x", "--no-same-owner", "-C", tmp_path], input=data, check=True)
    assert (tmp_path / long).read_bytes() == b"hello"
    assert (tmp_path / long).stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (tmp_path / "größe").read_bytes() == b"abc"
    assert (tmp_path / "link").readlink() == Path("t" * 150)


def test_large_sizes_go_into_a_pax_header() -> None:
    written: list[bytes] = []
    TarWriter(written.append).add(Entry(b"a", REGULAR, size=2**40))
    reader = TarReader(tars.source(b"".join(written)))
    entry = reader.next()
    assert entry is not None and entry.size == 2**40


def test_names_on_every_edge() -> None:
    for length in (1, 99, 100, 101, 155, 156, 255, 256, 257, 1000):
        for name in ("n" * length, ("d" * 50 + "/") * (length // 51) + "n", "d" * length + "/n"):
            found = tars.read(write((file_entry(name, 0), b""), (directory_entry(name + "x"), b"")))
            assert [entry.name.rstrip(b"/").decode() for entry, _ in found] == [name, name + "x"]
