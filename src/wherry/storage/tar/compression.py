"""What a stream is compressed with, by its first bytes, how to read it, and how layers are packed for registries."""

import bz2
import hashlib
import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, cast

from wherry.storage.tar.reader import TarError

Compression = Literal["", "gzip", "zstd", "bzip2", "xz"]

# What the registry and the OCI layout call a layer. The last two are read as Docker does, but have no name there.
MEDIA_TYPES: dict[Compression, str] = {
    "": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "bzip2": "application/vnd.oci.image.layer.v1.tar+bzip2",
    "xz": "application/vnd.oci.image.layer.v1.tar+xz",
}
COMPRESSIONS = {media_type: kind for kind, media_type in MEDIA_TYPES.items()}
# Of isal's 0 to 3: as small as zlib's 1, at four times the speed. Another one gives every layer another digest.
_LEVEL = 3
# zlib's window bits: the largest window, in gzip's container, whose header has no name and no time.
_GZIP_FORMAT = 31

# Enough of a stream for ``detect``.
MAGIC = 10

Read = Callable[[int], bytes]


def detect(start: bytes) -> Compression:
    """The compression of what begins with ``start``; "" for none that is known."""
    if start.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return "zstd"  # the second is a frame to be skipped, which some writers begin with
    if start.startswith(b"BZh"):
        return "bzip2"
    if start.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return ""


def prepare(kind: Compression) -> None:
    """Loads what ``decompressor`` needs, for a process that is about to lock itself in."""
    if kind == "gzip":
        import isal.igzip  # noqa: F401  # 10 ms, paid by the worker that has to
    elif kind == "zstd":
        import zstandard  # noqa: F401


def decompressor(kind: Compression, read: Read) -> Read:
    """A ``read`` of the plain bytes. It raises TarError for what is broken, and for what ends too early."""
    stream: BinaryIO
    broken: tuple[type[Exception], ...]
    if kind == "":
        return read
    if kind == "gzip":
        from isal import igzip, isal_zlib

        opened: Any = igzip.IGzipFile
        stream = opened(fileobj=io.BufferedReader(_Raw(read), 1 << 18), mode="rb")
        broken = (igzip.BadGzipFile, cast(type[Exception], isal_zlib.error), EOFError)
    elif kind == "zstd":
        import zstandard

        # The format allows windows up to 2 GB; 128 MB is what "zstd --long" writes and what others accept.
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            cast(BinaryIO, _Raw(read)), read_across_frames=True, read_size=1 << 18
        )
        broken = (zstandard.ZstdError,)
    elif kind == "bzip2":
        stream = cast(BinaryIO, bz2.BZ2File(io.BufferedReader(_Raw(read))))
        broken = (OSError, EOFError)
    else:
        stream = cast(BinaryIO, lzma.LZMAFile(io.BufferedReader(_Raw(read))))  # noqa: SIM115  # nothing to close
        broken = (lzma.LZMAError, EOFError)

    def read_plain(size: int) -> bytes:
        try:
            return stream.read(size)
        except broken as error:
            raise TarError(f"broken {kind} data: {error}") from None

    return read_plain


class Compressor:
    """Packs a stream; the same pieces give the same bytes. ``digest`` and ``size`` are of those that it has given.

    ``level`` is the library's own: zlib's 0 to 9, zstd's up to 22.
    """

    def __init__(self, kind: Compression = "gzip", level: int | None = None) -> None:
        self._stream = _compressor(kind, level)
        self._hash = hashlib.sha256()
        self.size = 0

    def pack(self, data: bytes) -> bytes:
        """What there is to send by now, which may be nothing."""
        return self._noted(self._stream.compress(data) if self._stream else data)

    def finish(self) -> bytes:
        """The rest."""
        return self._noted(self._stream.flush() if self._stream else b"")

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def _noted(self, packed: bytes) -> bytes:
        self._hash.update(packed)
        self.size += len(packed)
        return packed


def _compressor(kind: Compression, level: int | None) -> Any:
    """None for what is to stay plain."""
    if kind == "":
        return None
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3 if level is None else level).compressobj()
    if level is not None:
        import zlib

        return zlib.compressobj(level=level, wbits=_GZIP_FORMAT)
    from isal import isal_zlib

    return isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP_FORMAT)


def resume(start: bytes, read: Read) -> Read:
    """A ``read`` that gives once more what was read already, and then goes on."""
    rest = memoryview(start)

    def again(size: int) -> bytes:
        nonlocal rest
        if not rest:
            return read(size)
        piece, rest = bytes(rest[:size]), rest[size:]
        return piece

    return again


class _Raw(io.RawIOBase):
    """A ``read`` function as the raw file that decompressors want."""

    def __init__(self, read: Read) -> None:
        self._read_source = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        data = self._read_source(len(buffer))
        buffer[: len(data)] = data
        return len(data)
