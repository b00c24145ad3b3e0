"""Content by its digest: ``blobs/sha256/<digest>``, each file what its name says, whole, and never changed.

A blob is written beside, in the staging area, hashed as it is written, and renamed to its name when size and digest are
known to be right. So a file below blobs/ needs no further look: it is there or it is not.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from wherry.common.errors import InvalidParameter, NotFound
from wherry.storage.staging import Staging

# Digests: "sha256:" and 64 hexadecimal digits, the names of content.

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(digest: str) -> str:
    """The digest itself. Raises InvalidParameter for anything that is not one: digests become names of files."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidParameter(f"invalid digest: {str(digest)[:100]!r} (only sha256 is supported)")
    return digest


def hexadecimal(digest: str) -> str:
    return check_digest(digest).removeprefix("sha256:")


def chain_id_of(parent: str, diff_id: str) -> str:
    """The id of a layer with all that is below it, by the OCI image specification. ``parent`` "" is the bottom."""
    return digest_of(f"{parent} {diff_id}".encode()) if parent else diff_id


def chain_ids_of(diff_ids: list[str]) -> list[str]:
    """The chain ids of an image's layers, the lowest first."""
    chain, found = "", []
    for diff_id in diff_ids:
        chain = chain_id_of(chain, check_digest(diff_id))
        found.append(chain)
    return found


_CHUNK = 1 << 20


class Blobs:
    """``root`` is the data root. Blobs that nobody refers to are swept by the store when it opens."""

    def __init__(self, root: str, staging: Staging) -> None:
        self._directory = f"{root}/blobs/sha256"
        self._staging = staging
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def path(self, digest: str) -> str:
        """The path of a blob, whether or not it is there."""
        return f"{self._directory}/{hexadecimal(digest)}"

    def __contains__(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def __iter__(self) -> Iterator[str]:
        return (f"sha256:{name}" for name in os.listdir(self._directory))

    def size(self, digest: str) -> int:
        return self._stat(digest).st_size

    def open(self, digest: str) -> BinaryIO:
        """Raises NotFound."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"content {digest} is not here") from None

    def read(self, digest: str) -> bytes:
        """A small blob as a whole. Raises NotFound."""
        with self.open(digest) as file:
            return file.read()

    def write(self, data: bytes, *, sync: bool = True) -> str:
        """Keeps ``data``; its digest. Without ``sync`` it is for what a foreign boot id will have dropped."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(sync=sync)

    def writer(self) -> "Writer":
        return Writer(self, f"{self._staging.path}/blob-{secrets.token_hex(8)}")

    def adopt(self, path: str, digest: str) -> None:
        """Moves a file of the staging area to its name. That its content is ``digest`` has been found out already."""
        os.rename(path, self.path(digest))

    def delete(self, digest: str) -> None:
        self._staging.throw_away(self.path(digest))

    def _stat(self, digest: str) -> os.stat_result:
        try:
            return os.stat(self.path(digest))
        except FileNotFoundError:
            raise NotFound(f"content {digest} is not here") from None


class Writer:
    """A blob that is being written. Without ``commit`` nothing of it stays."""

    def __init__(self, blobs: Blobs, path: str) -> None:
        self._blobs = blobs
        self._path = path
        self._file: BinaryIO | None = open(path, "xb", buffering=0)  # noqa: SIM115  # this is a context manager
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(data)
        self.size += len(data)

    def commit(self, *, size: int | None = None, digest: str = "", sync: bool = True) -> str:
        """Syncs and puts the blob to its name; its digest. Raises InvalidParameter when it is not what was expected."""
        assert self._file is not None
        found = f"sha256:{self._hash.hexdigest()}"
        if size is not None and self.size != size:
            raise InvalidParameter(f"content is {self.size} bytes long, expected {size}")
        if digest and found != digest:
            raise InvalidParameter(f"content has the digest {found}, expected {digest}")
        if sync:
            os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._blobs.adopt(self._path, found)
        return found

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            os.unlink(self._path)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
