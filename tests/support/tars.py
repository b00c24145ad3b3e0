"""Making and reading tars in tests."""

import io
import os
import tarfile
from collections.abc import Iterable
from typing import Any

from wherry.common.tar import Entry
from wherry.storage.tar.reader import TarReader
from wherry.storage.tar.sources import StreamSource


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def make(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT, **options: Any) -> bytes:
    """A tar by the standard library. Members own themselves as root does, unless they say otherwise."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, **options) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def owned(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members, owned by who runs the test: anybody may unpack them."""
    found = []
    for info, data in members:
        info.uid, info.gid = os.geteuid(), os.getegid()
        found.append((info, data))
    return found


def source(data: bytes, chunk: int = 0) -> StreamSource:
    """A stream of ``data``, in pieces of ``chunk`` bytes."""
    stream = io.BytesIO(data)
    return StreamSource(lambda size: stream.read(min(size, chunk) if chunk else size))


def read(data: bytes, chunk: int = 0) -> list[tuple[Entry, bytes]]:
    """What our reader finds."""
    reader = TarReader(source(data, chunk))
    return [(entry, reader.read()) for entry in reader]
