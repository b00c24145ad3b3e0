"""The packages that images tell of: rpm's databases, and what is no database at all."""

import struct

import pytest

from wherry.storage.worker.packages import _ndb, _npm, _paragraphs, _rpm_package


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
    assert list(_ndb(data)) == [BASH]
    assert list(_ndb(data[:4100])) == []
    assert list(_ndb(b"RpmP")) == list(_ndb(b"x" * 5000)) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"name": 1, "version": {}}', b'"x"'])
def test_what_is_no_package_of_npm(text: bytes) -> None:
    assert not _npm(text).get("name")


def test_paragraphs() -> None:
    text = "Package: a\nDescription: long\n Version: not this\n\nPackage: b\n"
    assert [each.get("Package") for each in _paragraphs(text, ":")] == ["a", "b"]
    assert "Version" not in next(_paragraphs(text, ":"))
