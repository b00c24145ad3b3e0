"""The packages that images tell of: rpm's databases, and what is no database at all."""

import os
import struct
from pathlib import Path

import pytest

from wherry.storage.worker.packages import Files, _headers, _npm, _paragraphs, _rpm_package


def rpm_header(**tags: str | int) -> bytes:
    numbers = {"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "license": 1014, "architecture": 1022}
    entries, store = b"", b""
    for name, value in tags.items():
        kind = 4 if isinstance(value, int) else 6
        entries += struct.pack(">IIII", numbers[name], kind, len(store), 1)
        store += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
    return struct.pack(">II", len(tags), len(store)) + entries + store


BASH = rpm_header(epoch=1, name="bash", version="5.2", release="3.el9", architecture="x86_64", license="GPLv3+")


def test_a_header_of_rpm() -> None:
    assert _rpm_package(BASH) == {
        "type": "rpm", "name": "bash", "version": "1:5.2-3.el9", "architecture": "x86_64", "license": "GPLv3+",
        "source": "",
    }  # fmt: skip


def test_rpms_own_database() -> None:
    page = struct.pack("<4s7I", b"RpmP", 0, 1, 1, 2, 0, 0, 0) + struct.pack("<4I", 0x746F6C53, 1, 256, 8)
    page += struct.pack("<4I", 0x746F6C53, 0, 0, 0)  # a free slot
    data = page.ljust(4096, b"\0") + struct.pack("<4I", 0x53626C42, 1, 1, len(BASH)) + BASH
    assert list(_headers(data)) == [BASH]
    assert list(_headers(data[:4100])) == []
    assert list(_headers(b"RpmP")) == list(_headers(b"x" * 5000)) == []


@pytest.mark.parametrize("header", [b"", b"\xff" * 8, BASH[:20], struct.pack(">II", 1 << 31, 1 << 31) + b"\0" * 99])
def test_what_is_no_header_of_rpm(header: bytes) -> None:
    assert not _rpm_package(header).get("name")


def test_files_have_their_limits(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    (tmp_path / "small").write_bytes(b"a" * 60)
    os.mkfifo(tmp_path / "pipe")
    files = Files(100)
    found = [files.read(str(tmp_path / name)) for name in ("sparse", "pipe", "nothing", "small", "small")]
    assert found == [b"", b"", b"", b"a" * 60, b""], "all together have a limit, too"
    assert Files().read(str(tmp_path / "small"), 59) == b""


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"name": 1, "version": {}}', b'"x"', b"[" * 3_000_000])
def test_what_is_no_package_of_npm(text: bytes) -> None:
    assert not _npm(text).get("name")


def test_paragraphs() -> None:
    text = "Package: a\nDescription: long\n Version: not this\n\nPackage: b\n"
    assert [each.get("Package") for each in _paragraphs(text, ":")] == ["a", "b"]
    assert "Version" not in next(_paragraphs(text, ":"))
