"""Opening and making paths inside a root that somebody else has filled with links."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.linux import files
from wherry.linux.syscalls import SyscallError


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def place(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def test_links_are_followed_inside_the_root(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/up").symlink_to("../../../../etc")
    (tmp_path / "root/absolute").symlink_to("/etc")
    for name in ("up", "absolute", "etc/../etc", "/../../etc"):
        assert place(files.open_in(root, name)) == f"{tmp_path}/root/etc"


def test_magic_links_are_refused(root: int) -> None:
    with pytest.raises(SyscallError) as caught:
        files.open_in(os.open("/", os.O_PATH), "/proc/self/cwd")
    assert caught.value.errno == errno.ELOOP


def test_directories_are_made(tmp_path: Path, root: int) -> None:
    assert place(files.make_directories(root, "/a/b/c")) == f"{tmp_path}/root/a/b/c"
    assert place(files.make_directories(root, "a//b/../b/c/")) == f"{tmp_path}/root/a/b/c"


def test_a_dangling_link_leads_to_where_it_points_inside(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/var").mkdir()
    (tmp_path / "root/var/run").symlink_to("/run")
    (tmp_path / "root/out").symlink_to(f"../../{tmp_path.name}/outside")
    assert place(files.make_directories(root, "/var/run/app")) == f"{tmp_path}/root/run/app"
    files.make_directories(root, "/out/x")
    assert os.listdir(tmp_path / "outside") == []
    assert (tmp_path / "root" / tmp_path.name / "outside/x").is_dir()


def test_links_in_a_circle_end(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    with pytest.raises(SyscallError) as caught:
        files.make_directories(root, "/a/x")
    assert caught.value.errno == errno.ELOOP


def test_files_are_made(tmp_path: Path, root: int) -> None:
    assert place(files.make_file(root, "/new/dir/file")) == f"{tmp_path}/root/new/dir/file"
    (tmp_path / "root/etc/mtab").symlink_to("../proc/mounts")
    assert place(files.make_file(root, "/etc/mtab")) == f"{tmp_path}/root/proc/mounts"


def test_a_file_in_the_way_is_said(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/etc/passwd").touch()
    with pytest.raises(SyscallError, match="Not a directory") as caught:
        files.make_directories(root, "/etc/passwd/x")
    assert caught.value.errno == errno.ENOTDIR
