"""Unpacking where no privilege is needed: everything belongs to who runs the test. The rest is in tests/integration."""

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tars
from tests.support.tars import member
from wherry.storage.tar.contents import UnpackError
from wherry.storage.tar.reader import TarError
from wherry.storage.tar.unpack import Limits, Unpacked, Unpacker, clean

D, L, S = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


class Root:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def unpack(self, *members: tuple[tarfile.TarInfo, bytes], **options: Any) -> Unpacked:
        return Unpacker(self.fd, **options).unpack(tars.source(tars.make(*tars.owned(members))))

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    path = tmp_path / "root"
    path.mkdir()
    found = Root(path)
    yield found
    os.close(found.fd)
    assert [entry.name for entry in tmp_path.iterdir()] == ["root"], "something was written outside"


def test_files_directories_links(root: Root) -> None:
    closed = 0o500 if os.geteuid() == 0 else 0o700  # who is not root could not put the file in
    big = os.urandom(5_000_000)
    found = root.unpack(
        member("./", D, mode=0o711, mtime=5),
        member("./directory/", D, mode=closed, mtime=6),
        member("./directory/file", data=b"hello", mode=0o640, mtime=7),
        member("big", data=big),
        member("empty"),
        member("soft", S, linkname="directory/file", mtime=8),
        member("hard", L, linkname="./directory/file"),
        member("pipe", tarfile.FIFOTYPE, mode=0o600),
    )
    path = root.path
    assert (found.members, found.size) == (8, 5 + len(big))
    assert (path / "directory" / "file").read_bytes() == b"hello"
    assert (path / "big").read_bytes() == big
    assert (path / "empty").read_bytes() == b""
    assert (path / "soft").readlink() == Path("directory/file")
    assert (path / "hard").stat().st_ino == (path / "directory" / "file").stat().st_ino
    assert stat.S_ISFIFO((path / "pipe").stat().st_mode)
    for name, mode, mtime in (("", 0o711, 5), ("directory", closed, 6), ("directory/file", 0o640, 7)):
        facts = (path / name).stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_mtime) == (mode, mtime)
    assert (path / "soft").lstat().st_mtime == 8


def test_modes_are_the_archive_s_whatever_the_umask(root: Root) -> None:
    before = os.umask(0o077)
    try:
        root.unpack(member("a", mode=0o4777), member("b", D, mode=0o2777), member("b/c", mode=0o666), member("d/e"))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((root.path / name).stat().st_mode) for name in ("a", "b", "b/c", "d")}
    assert modes == {"a": 0o4777, "b": 0o2777, "b/c": 0o666, "d": 0o755}


def test_a_set_group_id_directory_does_not_give_its_bit_on(root: Root) -> None:
    root.unpack(
        member("b", D, mode=0o2775), member("b/c", D, mode=0o755), member("b/c/d"), member("b/l", S, linkname="x")
    )
    assert stat.S_IMODE((root.path / "b" / "c").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["a//b", "./a/./b", "/a/b", "//a/b/", "a/x/../b", "./a/b"])
def test_names_are_taken_relative_to_the_root(root: Root, name: str) -> None:
    root.unpack(member(name, data=b"x") if not name.endswith("/") else member(name, D))
    assert "a/b" in root.tree()


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../../b", b"/../a", b"./..", b"a/b/../../../c"])
def test_names_that_lead_out_are_refused(root: Root, name: bytes) -> None:
    with pytest.raises(TarError, match="leads out of the archive"):
        clean(name)
    with pytest.raises(TarError, match="leads out of the archive"):
        root.unpack(member(name.decode(), data=b"x"))
    with pytest.raises(TarError, match="leads out of the archive"):
        root.unpack(member("link", L, linkname=name.decode()))


def test_missing_parents_are_made(root: Root) -> None:
    root.unpack(member("a/b/c/d", data=b"x"), member("a/b", D, mode=0o700, mtime=9))
    assert root.tree() == ["a", "a/b", "a/b/c", "a/b/c/d"]
    assert (root.path / "a" / "b").stat().st_mtime == 9


def test_a_later_member_replaces_an_earlier_one(root: Root) -> None:
    root.unpack(
        member("file", data=b"old"),
        member("file", data=b"new"),
        member("to-directory", data=b"x"),
        member("to-directory", D),
        member("to-directory/inside"),
        member("to-file", D),
        member("to-file/inside/deep"),
        member("to-file", data=b"file", mtime=3),
        member("to-link", data=b"x"),
        member("to-link", S, linkname="file"),
        member("link", S, linkname="file"),
        member("link", data=b"itself"),
        member("way", data=b"not a directory"),
        member("way/through", data=b"x"),
        member("again", D, mode=0o700),
        member("again/kept"),
        member("again", D, mode=0o711),
    )
    path = root.path
    assert (path / "file").read_bytes() == b"new"
    assert (path / "to-file").read_bytes() == b"file"
    assert (path / "to-file").stat().st_mtime == 3
    assert (path / "to-link").readlink() == Path("file")
    assert (path / "link").read_bytes() == b"itself"
    assert {"to-directory/inside", "way/through", "again/kept"} <= set(root.tree())
    assert stat.S_IMODE((path / "again").stat().st_mode) == 0o711


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, S, L], ids=["file", "symlink", "hard link"])
def test_another_one_makes_what_was_just_taken_away(root: Root, kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    root.unpack(member("first", data=b"first"), member("file", data=b"theirs"))
    unlink, left = os.unlink, [3]

    def contended(path: bytes, *, dir_fd: int) -> None:
        unlink(path, dir_fd=dir_fd)
        if left[0]:
            left[0] -= 1
            (root.path / "file").write_text("theirs")

    monkeypatch.setattr(os, "unlink", contended)
    root.unpack(member("file", kind, b"ours" if kind == tarfile.REGTYPE else b"", linkname="first"))
    assert (root.path / "file").read_text() == ("ours" if kind == tarfile.REGTYPE else "first") and left == [0]


def test_times_of_what_was_replaced_do_not_come_back(root: Root) -> None:
    root.unpack(
        member("a", D, mtime=1),
        member("a/b", D, mtime=2),
        member("a", S, linkname="c", mtime=3),
        member("c", D, mtime=4),
    )
    assert (root.path / "a").lstat().st_mtime == 3
    assert (root.path / "c").stat().st_mtime == 4


def test_links_on_the_way_resolve_inside(root: Root) -> None:
    root.unpack(
        member("usr/lib", D),
        member("lib", S, linkname="usr/lib"),
        member("lib/file", data=b"x"),
        member("absolute", S, linkname="/usr/lib"),
        member("absolute/second", data=b"y"),
        member("climbs", S, linkname="../../../../../../usr/lib"),
        member("climbs/third", data=b"z"),
    )
    assert {"usr/lib/file", "usr/lib/second", "usr/lib/third"} <= set(root.tree())


def test_a_directory_in_place_of_a_link_to_one_is_a_new_one(root: Root) -> None:
    root.unpack(
        member("usr/lib", D, mode=0o755, mtime=4),
        member("lib", S, linkname="usr/lib"),
        member("lib/inner", D, mtime=5),
        member("lib", D, mode=0o700, mtime=6),
        member("lib/new"),
    )
    assert {"lib/new", "usr/lib/inner"} <= set(root.tree()) and "lib/inner" not in root.tree()
    modes = [stat.S_IMODE((root.path / name).stat().st_mode) for name in ("usr/lib", "lib")]
    assert modes == [0o755, 0o700]


def test_a_directory_that_is_a_link_to_nothing(root: Root) -> None:
    with pytest.raises(TarError, match="a directory that is a link to nothing"):
        root.unpack(member("link", S, linkname="nowhere"), member("link/file", data=b"x"))


@pytest.mark.parametrize("target", ["missing", "a/missing", "file/below"])
def test_a_hard_link_to_nothing(root: Root, target: str) -> None:
    with pytest.raises(TarError, match=f"link: a hard link to {target}, which is not there"):
        root.unpack(member("file"), member("link", L, linkname=target))


def test_a_hard_link_to_a_symbolic_one_does_not_follow_it(root: Root) -> None:
    root.unpack(
        member("soft", S, linkname="/etc/passwd"),
        member("hard", L, linkname="soft"),
        member("same", data=b"x"),
        member("same", L, linkname="same"),
    )
    assert (root.path / "hard").is_symlink()
    assert (root.path / "same").read_bytes() == b"x"


def test_sparse_files(root: Root) -> None:
    headers = {"GNU.sparse.map": "4096,5,100000,3", "GNU.sparse.size": "1000000"}
    found = root.unpack(member("sparse", data=b"helloabc", pax_headers=headers))
    data = (root.path / "sparse").read_bytes()
    assert found.size == len(data) == 1_000_000
    assert (data[4096:4101], data[100_000:100_003]) == (b"hello", b"abc")
    assert data.count(0) == 1_000_000 - 8
    assert (root.path / "sparse").stat().st_blocks * 512 < 500_000


def test_deep_and_long_names(root: Root) -> None:
    long = "/".join(["d" * 200] * 15)
    root.unpack(member(f"{long}/file", data=b"x"), member("n" * 255, data=b"y"))
    assert f"{long}/file" in root.tree()
    with pytest.raises(UnpackError, match="File name too long"):
        root.unpack(member("n" * 256, data=b"y"))


def test_more_directories_than_stay_open(root: Root) -> None:
    names = [f"d{number}" for number in range(200)]
    root.unpack(
        *(member(name, D, mtime=1) for name in names), *(member(f"{name}/f", data=b"x") for name in reversed(names))
    )
    assert all((root.path / name).stat().st_mtime == 1 for name in names)


def test_owner_replaces_every_owner(root: Root) -> None:
    owner = (os.geteuid(), os.getegid())
    info, data = member("a/b", data=b"x", uid=4_000_000, gid=4_000_000)
    Unpacker(root.fd, owner=owner).unpack(tars.source(tars.make((info, data))))
    facts = (root.path / "a" / "b").stat()
    assert (facts.st_uid, facts.st_gid) == owner


def test_keeping_kinds(root: Root) -> None:
    root.unpack(member("directory", D), member("directory/kept"), member("file", data=b"x"))
    with pytest.raises(TarError, match='cannot overwrite directory "/directory" with non-directory "/directory"'):
        root.unpack(member("directory", data=b"x"), keep_kinds=True)
    with pytest.raises(TarError, match='cannot overwrite non-directory "/file" with directory "/file"'):
        root.unpack(member("file", D), keep_kinds=True)
    root.unpack(member("file", data=b"new"), member("directory", D), keep_kinds=True)
    assert (root.path / "file").read_bytes() == b"new"
    assert "directory/kept" in root.tree()


def test_whiteouts_are_plain_names_outside_of_layers(root: Root) -> None:
    root.unpack(member(".wh.a", data=b""), member("d/.wh..wh..opq"))
    assert root.tree() == [".wh.a", "d", "d/.wh..wh..opq"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..."])
def test_whiteouts_of_nothing_are_refused(root: Root, name: str) -> None:
    with pytest.raises(TarError, match="a whiteout of nothing"):
        root.unpack(member(name), layer=True)


def test_limits(root: Root) -> None:
    with pytest.raises(TarError, match="larger than the file system has room for"):
        root.unpack(member("a", data=b"x" * 600), member("b", data=b"x" * 600), limits=Limits(space=1000))
    with pytest.raises(TarError, match="more files than"):
        root.unpack(member("c"), member("d"), limits=Limits(members=1))
    found = Limits.of_file_system(root.fd)
    assert found.space is not None and found.space > 0


def test_a_root_that_is_no_directory(root: Root) -> None:
    with pytest.raises(TarError, match="in place of the root"):
        root.unpack(member("./", S, linkname="/etc"))


def test_a_cut_archive_leaves_no_thread_and_no_descriptor(root: Root) -> None:
    before = len(os.listdir("/proc/self/fd"))
    data = tars.make(*tars.owned([member("a", data=b"x" * 100_000), member("b/c", data=b"x" * 100_000)]))
    for length in (600, 150_000, len(data) - 12_000):
        with pytest.raises(TarError, match="cut off"):
            Unpacker(root.fd).unpack(tars.source(data[:length]))
    assert len(os.listdir("/proc/self/fd")) == before


def test_errors_name_the_member(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UnpackError, match=r"^unpack some/file: No space left on device$"):
        root.unpack(member("some/file", data=b"x"))
