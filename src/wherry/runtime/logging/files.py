"""The files of a log: the one that is written, ``path``, and the older ones, ``path.1`` (the newest), ``path.2`` …

Whoever reads a log keeps a place in it, so that no file is removed before it was read: a lock on the log's directory,
whose offset is the time of the last record that was read. The kernel drops it with the process that has it. A file that
somebody has still to read, and that rotation has no number for, stays as ``path.<large number>`` until then.
"""

import contextlib
import fcntl
import gzip
import os
import re
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from wherry.linux.files import is_locked, lock, unlock
from wherry.runtime.spec import Log

_ROTATED = re.compile(r"\.(\d+)(\.gz)?")
_OVERLAP = 64
_BEGINNING = 1 << 19  # what is read at once from a container is at most half of that
_GZIP = b"\x1f\x8b"
KEPT_BELOW = 1_000_000_000
"""The numbers of files that only somebody's place keeps count down from here, so that the oldest has the highest."""
_KEPT_ABOVE = KEPT_BELOW // 2


class Cut(Exception):
    """What was read before is no longer there: somebody has cut the file."""


class LogFile:
    """One file, plain or compressed, to be read at any offset."""

    def __init__(self, fd: int, content: bytes | None = None) -> None:
        self._fd = fd
        self._content = content
        self._seen_at = 0  # the chunk that was read last, and the bytes before it
        self._seen = b""
        self._before = b""

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size if self._content is None else len(self._content)

    @property
    def is_compressed(self) -> bool:
        return self._content is not None

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end. Raises Cut.

        That it was cut shows in what stood before: each line and record has a time, so that no other can equal it. It
        is looked at after the reading, so that the answer was there before any cut.
        """
        if self._content is not None:
            return self._content[offset : offset + count]
        data = self._pread(offset, count)
        before = self._known_before(offset)
        if before and self._pread(offset - len(before), len(before)) != before:
            raise Cut
        self._seen_at, self._seen, self._before = offset, data, before
        return data

    def _known_before(self, offset: int) -> bytes:
        if offset == self._seen_at:
            return self._before
        end = offset - self._seen_at
        return self._seen[max(0, end - _OVERLAP) : end] if 0 < end <= len(self._seen) else b""

    def _pread(self, offset: int, count: int) -> bytes:
        data = os.pread(self._fd, count, offset)
        while data and len(data) < count and (more := os.pread(self._fd, count - len(data), offset + len(data))):
            data += more
        return data

    def is_at(self, path: str) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(path))
        except FileNotFoundError:
            return False

    def is_same(self, other: "LogFile") -> bool:
        return os.path.samestat(os.fstat(self._fd), os.fstat(other._fd))

    def close(self) -> None:
        os.close(self._fd)


def open_file(path: str) -> LogFile | None:
    """None when it is gone."""
    if (fd := _open(path)) < 0:
        return None
    if not _is_compressed(fd):
        return LogFile(fd)
    with open(fd, "rb", closefd=False) as compressed:
        return LogFile(fd, gzip.decompress(compressed.read()))


def read_beginning(path: str) -> bytes:
    """Enough of a file to hold its first line or record; nothing when it is gone."""
    if (fd := _open(path)) < 0:
        return b""
    with open(fd, "rb") as file:
        return gzip.open(file).read(_BEGINNING) if _is_compressed(fd) else file.read(_BEGINNING)


def _open(path: str) -> int:
    """Also one that was compressed meanwhile. -1 when it is gone."""
    for name in (path, path if path.endswith(".gz") else f"{path}.gz"):
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    return -1


def _is_compressed(fd: int) -> bool:
    return os.pread(fd, len(_GZIP), 0) == _GZIP


def list_files(path: str) -> list[str]:
    """The log's files, oldest first. One that is just being compressed is there once."""
    directory, name = os.path.split(path)
    try:
        entries = os.listdir(directory or ".")
    except FileNotFoundError:
        return []
    found: dict[int, str] = {}
    for entry in sorted(entry for entry in entries if entry.startswith(name)):
        if match := _ROTATED.fullmatch(entry, len(name)):
            found.setdefault(int(match[1]), f"{path}.{match[1]}{match[2] or ''}")
    rotated = [found[number] for number in sorted(found, reverse=True)]
    return [*rotated, path] if name in entries else rotated


def list_kept(path: str) -> list[str]:
    """The files that only somebody's place keeps, oldest first."""
    return [found for found in list_files(path) if (number := _number(path, found)) and number > _KEPT_ABOVE]


def kept_name(path: str) -> str:
    """The name for the next one of those."""
    kept = list_kept(path)
    return f"{path}.{(_number(path, kept[-1]) if kept else KEPT_BELOW) - 1}"


def _number(path: str, file: str) -> int:
    match = _ROTATED.fullmatch(file, len(path))
    return int(match[1]) if match else 0


class Places:
    """The readers' places in a log, as a reader or the writer sees them."""

    def __init__(self, path: str) -> None:
        """Raises FileNotFoundError when the log's directory is not there."""
        self._path = path
        self._fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._place: int | None = None

    def take(self, at: int) -> None:
        """All that is later than ``at`` is wanted."""
        if at != self._place:
            lock(self._fd, at, 1, shared=True)
            if self._place is not None:
                unlock(self._fd, self._place, 1)
            self._place = at

    def is_awaited(self, last: int) -> bool:
        """Whether somebody has still to read a file whose last record is of that time."""
        return is_locked(self._fd, 0, last)

    @contextlib.contextmanager
    def steady(self) -> Iterator[None]:
        """No file is renamed or removed meanwhile."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def renaming(self) -> Iterator[bool]:
        """Whether files may be renamed now: nobody is looking for one. Never waits, since a container would."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Gives the place up, and removes what nobody has a place before any more."""
        if self._place is not None:
            unlock(self._fd, self._place, 1)
            if not is_locked(self._fd):
                for name in list_kept(self._path):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name)
        self.close()

    def close(self) -> None:
        os.close(self._fd)


# Rotation: ``path`` becomes ``path.1``, that becomes ``path.2`` and so on, and the oldest goes once nobody reads it.
#
# With compression, ``path.1`` becomes ``path.1.gz`` a step at a time (``work``), between the reads of the container's
# output.

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
