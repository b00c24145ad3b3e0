"""Local files of a container's archive: nothing of it leaves the directory."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from wherry.client.files import _unpack


def packed(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Of names, types and contents, or what links lead to."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid = kind, 0o6777, 12345
            if kind == tarfile.REGTYPE:
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                archive.addfile(member)
    found.seek(0)
    return found


def test_a_folder_by_another_name(tmp_path: Path) -> None:
    members = (
        ("d", tarfile.DIRTYPE, ""),
        ("d/file", tarfile.REGTYPE, "content"),
        ("d/hard", tarfile.LNKTYPE, "d/file"),
        ("d/soft", tarfile.SYMTYPE, "../e/file"),
    )
    _unpack(packed(*members), str(tmp_path / "e"))
    assert (tmp_path / "e" / "file").read_text() == (tmp_path / "e" / "soft").read_text() == "content"
    facts = (tmp_path / "e" / "file").stat()
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_nlink) == (0o755, os.geteuid(), 2)


@pytest.mark.parametrize(
    "members",
    [
        [("../out", tarfile.REGTYPE, "x")],
        [("/out", tarfile.REGTYPE, "x")],
        [("link", tarfile.SYMTYPE, "/etc")],
        [("link", tarfile.SYMTYPE, "..")],
        [("link", tarfile.LNKTYPE, "../out")],
        [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "..")],
        [("d", tarfile.DIRTYPE, ""), ("d/up", tarfile.SYMTYPE, "."), ("d/up/up", tarfile.SYMTYPE, "../..")],
        [("null", tarfile.CHRTYPE, "")],
        [("pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_what_leads_out_or_is_no_file(tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(tarfile.TarError):
        _unpack(packed(*members), str(inside))
    assert os.listdir(tmp_path) == ["inside"]
