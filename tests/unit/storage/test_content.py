import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.common.errors import InvalidParameter, NotFound
from wherry.storage.content import Blobs, chain_id_of, chain_ids_of
from wherry.storage.staging import Staging

HELLO = "sha256:" + hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    staging = Staging(str(tmp_path))
    yield Blobs(str(tmp_path), staging)
    staging.close()


def left_over(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "tmp")


def test_writes_and_reads(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.writer() as writer:
        writer.write(b"hel")
        writer.write(b"lo")
        assert HELLO not in blobs
        assert writer.commit(size=5, digest=HELLO) == HELLO
    assert HELLO in blobs
    assert blobs.read(HELLO) == b"hello"
    assert blobs.size(HELLO) == 5
    assert list(blobs) == [HELLO]
    assert left_over(tmp_path) == []
    assert blobs.write(b"hello") == HELLO


@pytest.mark.parametrize(("size", "digest"), [(4, ""), (None, "sha256:" + "0" * 64)])
def test_keeps_nothing_that_is_not_as_expected(blobs: Blobs, tmp_path: Path, size: int | None, digest: str) -> None:
    with pytest.raises(InvalidParameter), blobs.writer() as writer:
        writer.write(b"hello")
        writer.commit(size=size, digest=digest)
    assert list(blobs) == []
    assert left_over(tmp_path) == []


def test_what_is_not_committed_goes(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), blobs.writer() as writer:
        writer.write(b"hello")
        raise ZeroDivisionError
    assert left_over(tmp_path) == []


def test_delete_and_what_is_missing(blobs: Blobs) -> None:
    blobs.write(b"hello")
    blobs.delete(HELLO)
    blobs.delete(HELLO)
    with pytest.raises(NotFound):
        blobs.read(HELLO)
    with pytest.raises(NotFound):
        blobs.size(HELLO)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha512:" + "0" * 128, HELLO.upper()])
def test_a_digest_is_no_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid digest"):
        blobs.path(digest)


def test_chain_ids_are_the_specification_s() -> None:
    a, b, c = ("sha256:" + letter * 64 for letter in "abc")
    first = chain_id_of("", a)
    second = chain_id_of(first, b)
    assert first == a
    assert second == "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    assert chain_ids_of([a, b, c]) == [first, second, chain_id_of(second, c)]
