"""What cp is made of: paths, and tars out of and into local files."""

import os
import socket
import tarfile
from pathlib import Path

import pytest

from wherry.cli.copy_paths import Place, arrange, base, keep_ending, local_source, rename, split
from wherry.cli.cp import split_argument
from wherry.cli.session import CommandError
from wherry.cli.tar import Unpacker
from wherry.client.pack import pack
from wherry.client.transport import ClientError


@pytest.mark.parametrize(
    ("argument", "container", "path"),
    [
        ("c:/x", "c", "/x"), ("c:x:y", "c", "x:y"), ("x", "", "x"), ("/c:x", "", "/c:x"), ("./c:x", "", "./c:x"),
        ("../c:x", "", "../c:x"), ("-", "", "-"), ("c:", "c", ""),
    ],
)  # fmt: skip
def test_whose_path_it_is(argument: str, container: str, path: str) -> None:
    assert split_argument(argument) == (container, path)


@pytest.mark.parametrize(
    ("path", "directory", "entry"),
    [
        ("/a/b", "/a", "b"), ("/a/b/", "/a", "b"), ("/a/b/.", "/a/b", "."), ("/", "/", "/"), ("a", ".", "a"),
        (".", ".", "."), ("", ".", "."), ("/a/../b", "/", "b"),
    ],
)  # fmt: skip
def test_a_directory_and_the_entry_in_it(path: str, directory: str, entry: str) -> None:
    assert split(path) == (directory, entry)


def test_endings_are_kept() -> None:
    assert [keep_ending("/a", text) for text in ("a", "a/", "a/.", "a/./")] == ["/a", "/a/", "/a/.", "/a/./"]
    assert [base(text) for text in ("/a/b/", "/", "", "a/.")] == ["b", "/", ".", "."]


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (Place("/s/d", is_directory=True), Place("/t", is_directory=True), ("/t", "", "")),
        (Place("/s/d", is_directory=True), Place("/t/new", exists=False), ("/t", "d", "new")),
        (Place("/s/d/.", is_directory=True), Place("/t/new", exists=False), ("/t", ".", "new")),
        (Place("/s/f"), Place("/t/file"), ("/t", "f", "file")),
        (Place("/s/f"), Place("/t/new", exists=False), ("/t", "f", "new")),
        (Place("/s/f", name="link"), Place("/t/new", exists=False), ("/t", "link", "new")),
        (Place("/s/d", is_directory=True), Place("/t/file"), "cannot copy directory"),
        (Place("/s/f"), Place("/t/new/", exists=False), "no such directory"),
    ],
)
def test_what_is_put_where(source: Place, destination: Place, expected: object) -> None:
    if isinstance(expected, str):
        with pytest.raises(CommandError, match=expected):
            arrange(source, destination)
    else:
        assert arrange(source, destination) == expected


def test_names_in_an_archive() -> None:
    assert rename("d/e", "d", "new") == "new/e"
    assert rename("dd/e", "d", "new") == "dd/e"
    assert rename("./e", ".", "new") == "new/e"
    assert rename("/bin", "/", "new") == "new/bin"


def test_a_link_means_itself_or_its_target(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    assert not local_source(f"{tmp_path}/link", follow=False).is_directory
    followed = local_source(f"{tmp_path}/link", follow=True)
    assert (followed.path, followed.name, followed.is_directory) == (f"{tmp_path}/dir", "link", True)
    with pytest.raises(CommandError, match=f"^lstat {tmp_path}/nope: no such file or directory$"):
        local_source(f"{tmp_path}/nope", follow=False)


def test_a_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    (top / "file").write_bytes(os.urandom(3 << 20))
    (top / "file").chmod(0o640)
    (top / "empty").touch()
    (top / "below" / ("long" * 60)).write_text("long")
    (top / "below" / "grüße\udcff").write_text("name")
    (top / "below" / "link").symlink_to("../" + "x" * 300)
    os.link(top / "file", top / "hard")
    os.mkfifo(top / "fifo")
    socket.socket(socket.AF_UNIX).bind(str(top / "socket")[:100])
    (top / "below").chmod(0o500)
    os.utime(top / "below", (1, 1_000_000_000))
    packed = b"".join(bytes(piece) for piece in pack(str(top), "renamed"))
    assert len(packed) % tarfile.RECORDSIZE == 0
    pieces = iter([memoryview(packed)[at : at + 100_000] for at in range(0, len(packed), 100_000)])
    Unpacker(str(tmp_path), "renamed", "copy").unpack(lambda: next(pieces, memoryview(b"")))
    copy = tmp_path / "copy"
    assert (copy / "file").read_bytes() == (top / "file").read_bytes()
    assert (copy / "file").stat().st_mode == (top / "file").stat().st_mode
    assert (copy / "hard").samefile(copy / "file")
    assert (copy / "fifo").is_fifo()
    assert os.readlink(copy / "below" / "link") == "../" + "x" * 300
    assert sorted(os.listdir(copy / "below")) == sorted(os.listdir(top / "below"))
    assert (copy / "below").stat().st_mode == (top / "below").stat().st_mode
    assert (copy / "below").stat().st_mtime == 1_000_000_000
    (top / "below").chmod(0o700)
    (copy / "below").chmod(0o700)


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    pieces = pack(str(tmp_path / "file"), "file")
    next(pieces)
    next(pieces)
    os.truncate(tmp_path / "file", 1 << 20)
    with pytest.raises(ClientError, match="became shorter"):
        list(pieces)


@pytest.mark.parametrize("cut", [100, 600, 1500])
def test_an_archive_that_is_cut_is_an_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    packed = b"".join(bytes(piece) for piece in pack(str(tmp_path / "file"), "copy"))
    pieces = iter([memoryview(packed)[:cut]])
    with pytest.raises(CommandError, match="the archive that the engine sent"):
        Unpacker(str(tmp_path)).unpack(lambda: next(pieces, memoryview(b"")))
