"""What tarfile and GNU tar write, we read the same; what nobody should write, we refuse."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tars
from wherry.common.tar import DIRECTORY, REGULAR
from wherry.storage.tar.reader import TarError, TarReader, looks_like_tar
from wherry.storage.tar.sources import FileSource

names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\n", exclude_categories=("Cs",)), min_size=1, max_size=300
).filter(lambda name: name.strip("/") and not name.endswith("/") and len(name.encode()) < 4000)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
xattr_names = st.from_regex(r"user\.[a-z][a-z0-9.]{0,20}", fullmatch=True)
xattrs = st.dictionaries(xattr_names, st.text(st.characters(codec="ascii", exclude_characters="\0")), max_size=3)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    kind = draw(kinds)
    data = draw(st.binary(max_size=2000)) if kind == tarfile.REGTYPE else b""
    info, data = tars.member(
        draw(names),
        kind,
        data,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 2)),
        gid=draw(st.integers(0, 2**32 - 2)),
        mtime=draw(st.integers(0, 2**33)),
    )
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(names)
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in draw(xattrs).items()}
    return info, data


@settings(deadline=None)
@given(st.lists(members(), max_size=6), st.sampled_from([1, 100, 511, 513, 10_000, 0]))
def test_reads_what_tarfile_writes(written: list[tuple[tarfile.TarInfo, bytes]], chunk: int) -> None:
    data = tars.make(*written)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]
    found = tars.read(data, chunk)
    assert len(found) == len(expected)
    for (entry, contents), (info, wanted) in zip(found, expected, strict=True):
        assert entry.name.rstrip(b"/").decode() == info.name.rstrip("/")
        assert (entry.kind, contents) == (info.type, wanted)
        assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
        assert entry.mtime == info.mtime * 1_000_000_000
        assert entry.link.decode() == info.linkname
        stored = {key[13:]: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.xattr.")}
        assert {key: value.decode() for key, value in entry.xattrs.items()} == stored


@settings(deadline=None)
@given(st.lists(members(), max_size=6))
def test_reads_gnu_s_long_names(written: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    found = tars.read(tars.make(*written, format=tarfile.GNU_FORMAT))
    assert [entry.name.rstrip(b"/").decode() for entry, _ in found] == [info.name.rstrip("/") for info, _ in written]
    assert [(entry.uid, entry.gid) for entry, _ in found] == [(info.uid, info.gid) for info, _ in written]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=3000))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    data = tars.make(tars.member("a", data=b"hello"), tars.member("b" * 200, data=b"x" * 600))
    for broken in (noise, noise + data, data[:700] + noise):
        try:
            tars.read(broken)
        except TarError:
            continue


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 5119), st.integers(0, 255))
def test_one_wrong_byte_is_refused_or_harmless(at: int, value: int) -> None:
    data = bytearray(tars.make(tars.member("a", data=b"hello"), tars.member("b" * 200, data=b"x" * 600, mtime=1.5)))
    data[at % len(data)] = value
    try:
        tars.read(bytes(data))
    except TarError:
        return


def test_every_cut_is_noticed() -> None:
    data = tars.make(tars.member("a" * 200, data=b"hello"), tars.member("b", data=b"x" * 2000))
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    for length in range(0, end, 100):
        try:
            found = tars.read(data[:length])
        except TarError as error:
            assert "cut off" in str(error)
            continue
        # A cut between members looks like an end: it cannot be told from an archive without the closing zeros.
        assert length % 512 == 0 or not found


def tar_of(path: Path, *options: str) -> bytes:
    return subprocess.run(
        ["tar", "-C", path, *options, "-c", "."], check=True, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
    ).stdout


@pytest.mark.skipif(not shutil.which("tar"), reason="no GNU tar")
@pytest.mark.parametrize(
    "options",
    [
        ("--format=gnu",),
        ("--format=posix", "--sparse-version=0.0"),
        ("--format=posix", "--sparse-version=0.1"),
        ("--format=posix", "--sparse-version=1.0"),
    ],
)
def test_sparse_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    size = 10_000_000
    expected = bytearray(size)
    with open(tmp_path / "sparse", "wb") as file:
        for number in range(30):  # more than fit into the header of the old format
            offset = number * 300_000 + 4096
            file.seek(offset)
            piece = bytes([number + 1]) * 5000
            file.write(piece)
            expected[offset : offset + 5000] = piece
        file.truncate(size)
    (tmp_path / "after").write_text("after")
    data = tar_of(tmp_path, "--sparse", "--sort=name", *options)
    assert len(data) < size // 2, "tar has not written it sparsely"
    found = {entry.name: (entry, contents) for entry, contents in tars.read(data, 777)}
    entry, contents = found[b"./sparse"]
    assert (entry.kind, entry.size, entry.stored) == (REGULAR, size, len(contents))
    unfolded = bytearray(size)
    at = 0
    for offset, length in entry.sparse or []:
        unfolded[offset : offset + length] = contents[at : at + length]
        at += length
    assert unfolded == expected
    assert found[b"./after"][1] == b"after"


@pytest.mark.skipif(not shutil.which("tar"), reason="no GNU tar")
@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_reads_what_gnu_tar_writes(tmp_path: Path, format: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("directory/file")
    os.link(tmp_path / "directory" / "file", tmp_path / "second")
    os.utime(tmp_path / "directory" / "file", ns=(0, 1_234_567_890_123_456_789))
    found = {
        entry.name.rstrip(b"/"): entry for entry, _ in tars.read(tar_of(tmp_path, f"--format={format}", "--sort=name"))
    }
    assert set(found) == {b".", b"./directory", b"./directory/file", b"./link", b"./second"}
    assert found[b"./directory"].kind == DIRECTORY
    assert found[b"./link"].link == b"directory/file"
    assert found[b"./second"].link == b"./directory/file"
    exact = 1_234_567_890_123_456_789
    assert found[b"./directory/file"].mtime == (exact if format == "posix" else exact // 10**9 * 10**9)


def test_times_before_the_epoch_and_with_fractions() -> None:
    found = tars.read(
        tars.make(
            tars.member("a", pax_headers={"mtime": "-1.5"}),
            tars.member("b", pax_headers={"mtime": "1234567890.123456789"}),
            tars.member("c", pax_headers={"mtime": "7"}),
        )
    )
    assert [entry.mtime for entry, _ in found] == [-1_500_000_000, 1_234_567_890_123_456_789, 7_000_000_000]


def test_a_global_header_holds_for_all() -> None:
    data = tars.make(tars.member("a"), tars.member("b"), pax_headers={"mtime": "7", "path": "evil", "comment": "x"})
    assert [(entry.name, entry.mtime) for entry, _ in tars.read(data)] == [(b"a", 7 * 10**9), (b"b", 7 * 10**9)]


def test_libarchive_s_attributes() -> None:
    data = tars.make(tars.member("a", pax_headers={"LIBARCHIVE.xattr.user.a%3Db": "aGVsbG8"}))
    assert tars.read(data)[0][0].xattrs == {"user.a=b": b"hello"}


def test_attributes_with_any_bytes() -> None:
    value = bytes(range(256))
    record = b"SCHILY.xattr.user.x=" + value + b"\n"
    record = b"%d " % (len(record) + 4) + record
    pax, _ = tars.member("pax", b"x", record)
    data = tars.make((pax, record), tars.member("a"), format=tarfile.USTAR_FORMAT)
    assert tars.read(data)[0][0].xattrs == {"user.x": value}


def header(**fields: bytes) -> bytes:
    """A header of "a" with raw fields by name: (offset, bytes)."""
    offsets = {"name": 0, "mode": 100, "uid": 108, "size": 124, "kind": 156, "magic": 257, "realsize": 483, "map": 386}
    block = bytearray(tars.make(tars.member("a"), format=tarfile.USTAR_FORMAT)[:512])
    for name, value in fields.items():
        block[offsets[name] : offsets[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_numbers() -> None:
    full = header(size=b"000000000005", uid=b"     10 ")  # digits up to the last byte, and padding before them
    (found, contents), *_ = tars.read(full + b"hello" + bytes(507 + 1024))
    assert (found.size, contents, found.uid) == (5, b"hello", 8)
    base_256 = header(size=b"\x80" + bytes(10) + b"\x05")
    assert tars.read(base_256 + b"hello" + bytes(507))[0][1] == b"hello"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 512, "checksum"),
        (header(size=b"\xff" * 12), "a size of -1"),
        (header(size=b"\x80" + b"\xff" * 11), "a size of"),
        (header(size=b"0000000000z\0"), "not a number"),
        (header(uid=b"\xff" * 8), "owner -1:0 is out of range"),
        (header(kind=b"M"), "cannot be unpacked"),
        (header(name=bytes(100)), "a name that no file can have"),
        (header(kind=b"L", size=b"77777777777\0"), "an extended header of 8589934591 bytes"),
        (header(kind=b"x", size=b"77777777777\0"), "an extended header of"),
        (header(kind=b"x", size=b"00000000010\0") + b"9999 a=b".ljust(512, b"\0"), "out of shape"),
        (header(kind=b"x", size=b"00000000010\0") + b"garbage!".ljust(512, b"\0"), "without a length"),
        (header(kind=b"L", size=b"00000017777\0") + b"n" * 8192 + header(), "a name that no file can have"),
        (header(kind=b"S", map=b"00000000010\0" * 2 + b"00000000000\0" * 2), "sparse map"),
        (header(kind=b"S", realsize=b"\x80" + b"\x7f" * 11), "does not fit its file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        tars.read(data + bytes(1024))


def test_a_cut_header_is_noticed() -> None:
    with pytest.raises(TarError, match="cut off"):
        tars.read(header()[:100])


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
        {"GNU.sparse.map": "0,5,3,5", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,5", "GNU.sparse.size": "3"},
        {"GNU.sparse.map": "0,x", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0," + "9" * 30, "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "9223372036854775807,5", "GNU.sparse.size": "10"},
    ],
)
def test_refuses_sparse_maps_that_lie(headers: dict[str, str]) -> None:
    with pytest.raises(TarError, match=r"sparse|not a number"):
        tars.read(tars.make(tars.member("a", data=b"12345", pax_headers=headers)))


def test_a_size_on_a_link_is_not_its_contents() -> None:
    """Some writers give a hard link the size of its file; nothing of it follows."""
    data = header(kind=b"1", size=b"00000001000\0") + header(name=b"b") + bytes(1024)
    assert [entry.name for entry, _ in tars.read(data)] == [b"a", b"b"]


def test_old_directories_and_contiguous_files() -> None:
    data = header(kind=b"\0", name=b"a/") + header(kind=b"7", name=b"b") + bytes(1024)
    assert [entry.kind for entry, _ in tars.read(data)] == [DIRECTORY, REGULAR]


def test_reading_a_file_goes_through_any_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.storage.tar.sources._MAP", 4096)
    contents = os.urandom(100_000)
    path = tmp_path / "tar"
    path.write_bytes(tars.make(tars.member("a", data=contents), tars.member("b", data=b"end")))
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = TarReader(FileSource(fd))
        assert reader.next() is not None
        assert reader.read(10) == contents[:10]
        pieces: list[bytes] = []
        reader.copy(lambda piece: pieces.append(bytes(piece)), 50_000)
        assert b"".join(pieces) == contents[10:50_010]
        assert reader.next() is not None  # the rest is skipped
        assert reader.read() == b"end"
        assert reader.next() is None
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("start", "expected"), [(bytes(512), True), (header(), True), (b"{" * 512, False), (b"short", False)]
)
def test_looks_like_tar(start: bytes, expected: bool) -> None:
    assert looks_like_tar(start) is expected
