"""A folder as a tar: what .dockerignore leaves out is not in it, what the engine needs is."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from wherry.client.context import pack
from wherry.client.transport import ClientError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM a\n")
    (tmp_path / ".dockerignore").write_text("*\n!kept\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x" * 1000)
    (tmp_path / "kept" / "link").symlink_to("file")
    (tmp_path / "other").write_text("")
    return tmp_path


def packed(*arguments: object) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(*arguments)))) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() if file else b"" for name, file in files.items()}


def test_what_is_in_it(folder: Path) -> None:
    found = packed(str(folder))
    assert set(found) == {".dockerignore", "Dockerfile", "kept", "kept/file", "kept/link"}
    assert found["kept/file"] == b"x" * 1000


def test_an_ignore_file_beside_the_dockerfile_comes_first(folder: Path) -> None:
    (folder / "Other").write_text("FROM b\n")
    (folder / "Other.dockerignore").write_text("kept\n")
    assert set(packed(str(folder), "Other")) == {".dockerignore", "Dockerfile", "Other", "Other.dockerignore", "other"}


def test_a_dockerfile_from_elsewhere_and_its_ignore_file(folder: Path) -> None:
    found = packed(str(folder), ".outside", b"FROM c\n", b"Dockerfile\nkept\n")
    assert set(found) == {".dockerignore", ".outside", ".outside.dockerignore", "other"}
    assert (found[".outside"], found[".outside.dockerignore"]) == (b"FROM c\n", b"Dockerfile\nkept\n")


def test_links_and_pipes_stay_what_they_are(folder: Path) -> None:
    (folder / "kept" / "other").hardlink_to(folder / "kept" / "file")
    os.mkfifo(folder / "kept" / "pipe")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(str(folder))))) as tar:
        assert (tar.getmember("kept/other").type, tar.getmember("kept/other").linkname) == (
            tarfile.LNKTYPE,
            "kept/file",
        )
        assert tar.getmember("kept/pipe").isfifo()


def test_an_ignore_file_that_is_none(folder: Path) -> None:
    (folder / ".dockerignore").write_text("[z-a]\n")
    with pytest.raises(ClientError, match="dockerignore"):
        packed(str(folder))
