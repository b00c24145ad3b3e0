"""Rotation: ``path`` becomes ``path.1``, that becomes ``path.2`` and so on, and the oldest goes once nobody reads it.

With compression, ``path.1`` becomes ``path.1.gz`` a step at a time (``work``), between the reads of the container's
output.
"""

import contextlib
import os
import time
import zlib
from typing import NamedTuple

from wherry.runtime.logging.files import Places, kept_name, list_kept
from wherry.runtime.spec import Log

_KEPT_AT_MOST = 1 << 30
"""Bytes of files that are kept for readers alone. One that stops reading cannot fill the disk."""
_COMPRESS_AT_ONCE = 256 * 1024
_GZIP_WINDOW = 31  # zlib's way to say: with gzip's header and trailer


class _Kept(NamedTuple):
    path: str
    last: int  # the time of its last record
    size: int


class Rotation:
    def __init__(self, log: Log) -> None:
        self._path = log.path
        self._files = max(1, log.max_files)
        self._compress = log.compress
        self._compression: _Compression | None = None
        self._places = Places(log.path)
        self._began = time.time_ns()
        self._last: list[int] = []  # the times of the last records of path.1, path.2 …, as far as they are known
        self._kept = [_Kept(path, self._began, os.stat(path).st_size) for path in list_kept(log.path)]

    @property
    def has_work(self) -> bool:
        return self._compression is not None

    def work(self) -> None:
        """Compresses a piece."""
        if self._compression is not None and self._compression.step():
            self._compression = None

    def rotate(self, last: int) -> bool:
        """Gives the log's file the next name; ``last`` is its last record's time. Whether that could be done now.

        Raises OSError.
        """
        while self.has_work:  # the file that is being compressed is about to get another name
            self.work()
        with self._places.renaming() as allowed:
            if not allowed:
                return False
            self._drop_oldest(last)
            for number in range(self._files - 1, 0, -1):
                older = self._name(number - 1)
                for suffix in ("", ".gz"):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(older + suffix, self._name(number) + suffix)
        self._last = [last, *self._last][: self._files - 1]
        self._release()
        if self._compress and self._files > 1:
            self._compression = _Compression(self._name(1))
        return True

    def close(self) -> None:
        while self.has_work:
            self.work()
        self._release()
        self._places.close()

    def _name(self, number: int) -> str:
        return f"{self._path}.{number}" if number else self._path

    def _drop_oldest(self, last: int) -> None:
        number = self._files - 1
        if number:
            last = self._last[number - 1] if len(self._last) >= number else self._began
        for suffix in ("", ".gz"):
            oldest = self._name(number) + suffix
            with contextlib.suppress(FileNotFoundError):
                if not self._places.is_awaited(last):
                    os.unlink(oldest)
                    continue
                kept = kept_name(self._path) + suffix
                os.rename(oldest, kept)
                self._kept.append(_Kept(kept, last, os.stat(kept).st_size))

    def _release(self) -> None:
        """Removes those that were kept for readers who have read them."""
        while self._kept:
            first = self._kept[0]
            if self._places.is_awaited(first.last) and sum(kept.size for kept in self._kept) <= _KEPT_AT_MOST:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(first.path)
            del self._kept[0]


class _Compression:
    """Turns a file that is no longer written into a .gz beside it, a piece a step."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._target = os.open(f"{path}.gz.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        self._compressor = zlib.compressobj(level=1, wbits=_GZIP_WINDOW)

    def step(self) -> bool:
        """Whether it is done: compressed, or given up because the disk is full."""
        try:
            chunk = os.read(self._source, _COMPRESS_AT_ONCE)
            compressed = memoryview(self._compressor.compress(chunk) if chunk else self._compressor.flush())
            while compressed:
                compressed = compressed[os.write(self._target, compressed) :]
            if chunk:
                return False
            os.rename(f"{self._path}.gz.part", f"{self._path}.gz")
            os.unlink(self._path)
        except OSError:  # the plain file is still there, and as good
            with contextlib.suppress(OSError):
                os.unlink(f"{self._path}.gz.part")
        os.close(self._source)
        os.close(self._target)
        return True
