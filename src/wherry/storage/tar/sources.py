"""Where a tar's bytes come from: a file that may still be growing, or a stream that can only be read on.

A source is a position in a window of bytes, and hands out pieces of that window without copying them. The window of a
file is a mapping: writing a file from it costs one copy, as copy_file_range(2) would, and works between any two file
systems.
"""

import mmap
import os
import queue
import struct
import threading
from collections.abc import Callable
from typing import Protocol

_CHUNK = 256 << 10
_MAP = 64 << 20
_AFTER_END_AT_MOST = 16 << 20  # tools fill their last record up, to some kilobytes


class Truncated(Exception):
    """The source ended in the middle of something."""


class TrailingData(Exception):
    """More follows the end of an archive than any tool writes there."""


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Source:
    """A stream with a window. Subclasses say where the next one comes from."""

    def __init__(self) -> None:
        self._window = memoryview(b"")
        self._at = 0

    def more(self) -> bool:
        """Whether there is at least one byte left."""
        return self._at < len(self._window) or self._refill()

    def take(self, size: int) -> bytes:
        """Exactly the next ``size`` bytes. Raises Truncated."""
        at = self._at
        end = at + size
        if end <= len(self._window):
            self._at = end
            return bytes(self._window[at:end])
        parts: list[memoryview] = []
        self.copy(parts.append, size)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        while size > len(self._window) - self._at:
            size -= len(self._window) - self._at
            if not self._refill():
                raise Truncated
        self._at += size

    def copy(self, write: Callable[[memoryview], None], size: int) -> None:
        """Hands exactly the next ``size`` bytes to ``write``, in pieces that stay valid. Raises Truncated."""
        while size:
            if self._at == len(self._window) and not self._refill():
                raise Truncated
            piece = self._window[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            write(piece)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        if not self.more():
            return b""
        return self.take(min(size, len(self._window) - self._at))

    def drain(self) -> None:
        """Reads on to the very end: what follows an archive's end counts for its digest. Raises TrailingData."""
        left = _AFTER_END_AT_MOST + self._at
        while (left := left - len(self._window)) >= 0:
            if not self._refill():
                return
        raise TrailingData(f"more than {_AFTER_END_AT_MOST >> 20} MB follow the end of the archive")

    def _next_window(self) -> memoryview | bytes:
        """The bytes after the window, or none at the end."""
        raise NotImplementedError

    def _refill(self) -> bool:
        """Replaces a window that is used up."""
        self._window = memoryview(self._next_window())
        self._at = 0
        return bool(self._window)


class FileSource(Source):
    """A file from its start. With a ``feed`` it is one that somebody still writes, and reading waits for them."""

    def __init__(self, fd: int, feed: "Feed | None" = None) -> None:
        super().__init__()
        self._fd = fd
        self._feed = feed
        self._offset = 0  # of the window's end

    def _next_window(self) -> memoryview | bytes:
        room = self._feed.wait(self._offset) if self._feed else os.fstat(self._fd).st_size - self._offset
        if room <= 0:
            return b""
        inside = self._offset % mmap.ALLOCATIONGRANULARITY
        length = min(room, _MAP)
        mapping = mmap.mmap(self._fd, inside + length, mmap.MAP_SHARED, mmap.PROT_READ, offset=self._offset - inside)
        self._offset += length
        return memoryview(mapping)[inside:]


class StreamSource(Source):
    """Whatever has a ``read(size)``: a pipe, or a decompressor."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read = read

    def _next_window(self) -> bytes:
        return self._read(_CHUNK)


class ReadAhead:
    """Reads and hashes in a thread of its own, a few chunks ahead: decompressing and hashing release the GIL."""

    def __init__(self, read: Callable[[int], bytes], digest: Hash, depth: int = 8) -> None:
        self._read_source = read
        self._digest = digest
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(depth)
        threading.Thread(target=self._run, daemon=True, name="read-ahead").start()

    def _run(self) -> None:
        try:
            while data := self._read_source(_CHUNK):
                self._digest.update(data)
                self._chunks.put(data)
            self._chunks.put(b"")
        except BaseException as error:  # handed to the reader, who raises it
            self._chunks.put(error)

    def read(self, size: int = -1) -> bytes:
        chunk = self._chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        if not chunk:
            self._chunks.put(b"")
        return chunk


_NEWS = struct.Struct("<Q?")


def news(available: int, *, whole: bool = False) -> bytes:
    """What a Feeder tells a Feed."""
    return _NEWS.pack(available, whole)


class Feed:
    """The reader's end of the news about a file that grows: how many bytes of it are there, and when it is whole.

    The other end is a Feeder in another process. When that one goes without having said that the file is whole, the
    file is cut off.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._available = 0
        self._whole = False

    def wait(self, offset: int) -> int:
        """Blocks until there is something behind ``offset``; answers how much. 0 is the end of the file."""
        while self._available <= offset and not self._whole:
            told = os.read(self._fd, _NEWS.size * 1024)
            if not told:
                raise Truncated
            self._available, self._whole = _NEWS.unpack_from(told, len(told) - _NEWS.size)
        return max(0, self._available - offset)


class Feeder:
    """The writer's end: says how far the file has grown. It does not mind when nobody listens any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, available: int, whole: bool = False) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, news(available, whole=whole))
        except BrokenPipeError:
            self.close()

    @property
    def is_closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
