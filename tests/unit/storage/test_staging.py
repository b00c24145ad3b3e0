import os
from pathlib import Path

from wherry.storage.staging import remove_tree


def test_removes_files_links_and_directories(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "file").touch()
    (top / "link").symlink_to(outside)
    os.mkfifo(top / "pipe")
    remove_tree(str(top))
    remove_tree(str(top))
    assert os.listdir(tmp_path) == ["outside"]
    (tmp_path / "link").symlink_to(outside)
    remove_tree(str(tmp_path / "link"))
    assert (outside / "kept").exists()


def test_removes_what_is_deeper_than_the_stack_and_than_any_path(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "top")
    fd = os.open(tmp_path / "top", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(tmp_path / "top"))
    assert os.listdir(tmp_path) == []
