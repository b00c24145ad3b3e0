"""Writing what a container prints to its log.

Two formats: ``local_file`` is wherry's own, and costs the least. ``json_file`` is Docker's: a JSON object a line, or a
piece of a line of 16 KiB; log shippers read it.

Times never go backwards nor repeat within a log: a reader that follows it across files relies on that.

The file may be cut or renamed by others at any time: the writer looks at it before each write, and goes on in a new one
when it is no longer there.
"""

import contextlib
import os
import time
from collections.abc import Callable

from wherry.runtime.logging import json_file, local_file
from wherry.runtime.logging.files import Rotation
from wherry.runtime.logging.json_file import LINE_AT_MOST
from wherry.runtime.logging.local_file import HEADER, OVERHEAD, TRAILER
from wherry.runtime.spec import Log

_ROOM = 64 << 10  # bytes that are free again on a disk that was full


class Writer:
    """A log that is being written. Errors of the disk (it is full, say) cost log lines, never the container; what they
    have cost is said in their place, as soon as something can be written again."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        self._log = log
        self._warn = warn
        self._failure = ""  # why the last write failed
        self._lost = 0  # lines since the log has last said how many
        self._time = self._size = 0
        self._use(self._open())
        self._rotation = Rotation(log) if log.max_size else None

    def write(self, stream: int, data: memoryview) -> None:
        """Appends what was read from ``stream``: 1 is stdout, 2 is stderr."""
        self._look()
        if self._lost and self._has_room():
            self._tell_loss()
        self._write(stream, data)

    def end(self, stream: int) -> None:
        """Nothing more comes from ``stream``: what is held back is written."""

    @property
    def delay(self) -> float | None:
        """In how many seconds ``work`` is to be called; None when there is none."""
        return 0 if self._rotation is not None and self._rotation.has_work else None

    def work(self) -> None:
        """Does a little of what there is to do: compresses a piece."""
        if self._rotation is not None:
            self._rotation.work()

    def settle(self) -> None:
        """The container has ended: what is held back is written, and what others may look at now is made whole."""
        self.end(1)
        self.end(2)
        if self._lost:
            self._tell_loss()
        if self._lost:
            self._warn(f"{self._lost} lines of output are missing in {self._log.path}")
            self._lost = 0

    def close(self) -> None:
        """Finishes what was begun."""
        self.settle()
        if self._rotation is not None:
            self._rotation.close()
        os.close(self._fd)

    def _write(self, stream: int, data: memoryview) -> None:
        raise NotImplementedError

    def _write_part(self, stream: int, part: bytes) -> None:
        """Writes what waits for nothing that comes after it."""
        raise NotImplementedError

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        """Counts the lines of a record."""
        raise NotImplementedError

    def _tell_loss(self) -> None:
        """Says in the log how much is missing here; again later, if that cannot be written either."""
        lost, self._lost = self._lost, 0
        text = f"[wherry: {lost} lines of output could not be logged here: {self._failure}]"
        self._write_part(2, f"{text}\n".encode())
        if self._lost:
            self._lost = lost
        else:
            self._warn(f"{lost} lines of output are missing in {self._log.path}, which can be written again")

    def _mend(self) -> None:
        """Takes away what was cut off at the end of the file: the machine stopped, or somebody has cut it."""
        raise NotImplementedError

    def _look(self) -> None:
        """Finds the log as others have left it."""
        try:
            found = os.stat(self._log.path)
            if (found.st_dev, found.st_ino) == self._file:
                if found.st_size < self._size:
                    self._size = found.st_size
                    self._mend()
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            self._fail(error)
            return
        self._reopen()

    def _reopen(self) -> None:
        try:
            fd = self._open()
        except OSError as error:
            self._fail(error)
            return
        os.close(self._fd)
        self._use(fd)

    def _use(self, fd: int) -> None:
        found = os.fstat(fd)
        self._fd, self._file, self._size = fd, (found.st_dev, found.st_ino), found.st_size
        self._mend()

    def _append(self, parts: list[bytes | memoryview], length: int, at: int) -> None:
        """Writes one record whole, or not at all. ``at`` is its time."""
        if self._rotation is not None and self._size and self._size + length > self._log.max_size:
            self._rotate(self._rotation)
        if self._lost and not self._has_room():
            self._lost += self._count_lines(parts)
            return
        try:
            written = os.pwritev(self._fd, parts, self._size)  # which appends, where the file is open for that
            while written < length:
                written += os.pwrite(self._fd, b"".join(parts)[written:], self._size + written)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._fail(error)
            self._lost += self._count_lines(parts)
            return
        self._failure = ""
        self._size += length
        self._time = at

    def _has_room(self) -> bool:
        """Whether it is worth while to go on: at the edge of a full disk every other line would find a place."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize >= _ROOM

    def _fail(self, error: OSError) -> None:
        if not self._failure:
            self._warn(f"output is not logged to {self._log.path}: {error.strerror}")
        self._failure = error.strerror or str(error)

    def _now(self) -> int:
        """A time for the next record."""
        return max(time.time_ns(), self._time + 1)

    def _open(self) -> int:
        return os.open(self._log.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _read(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def _rotate(self, rotation: Rotation) -> None:
        try:
            if rotation.rotate(self._time):
                self._reopen()
        except OSError as error:
            self._warn(f"the log {self._log.path} cannot be rotated: {error.strerror}")


class LocalWriter(Writer):
    """wherry's own format."""

    def _write(self, stream: int, data: memoryview) -> None:
        self._write_part(stream, data)

    def _write_part(self, stream: int, *parts: bytes | memoryview) -> None:
        size, at = sum(map(len, parts)), self._now()
        self._append([HEADER.pack(stream, size, at), *parts, TRAILER.pack(OVERHEAD + size)], OVERHEAD + size, at)

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        return max(1, sum(bytes(part).count(b"\n") for part in parts[1:-1]))

    def _mend(self) -> None:
        if not self._size:
            return
        last = local_file.ends_whole(self._read, self._size)
        if last is None:
            self._size, last = local_file.whole_length(self._read, self._size)
            os.ftruncate(self._fd, self._size)
        self._time = max(self._time, last)


class JsonFileWriter(Writer):
    """Docker's format."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(log, warn)
        self._begun = json_file.Begun()
        self._middle = {1: json_file.middle_of("stdout", log.attrs), 2: json_file.middle_of("stderr", log.attrs)}

    def _write(self, stream: int, data: memoryview) -> None:
        for part in json_file.cut(b"".join(self._begun.complete(stream, data))):
            self._write_part(stream, part)

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        return bytes(parts[0]).count(b"\n")

    def end(self, stream: int) -> None:
        if rest := self._begun.rest(stream):
            self._look()
            self._write_part(stream, rest)

    def _mend(self) -> None:
        end = self._size
        while end > 0:
            start = max(0, end - LINE_AT_MOST)
            newline = self._read(start, end - start).rfind(b"\n")
            end = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if end < self._size:
            os.ftruncate(self._fd, end)
            self._size = end
        _, last = next(json_file.backwards(self._read, end), (0, None))
        if last is not None:
            self._time = max(self._time, last.at)

    def _write_part(self, stream: int, part: bytes) -> None:
        """Writes at once, unless the log has to be rotated in between; then in as many parts as it takes."""
        at = self._now()
        record = json_file.encode(part, self._middle[stream], at)
        if self._log.max_size and self._size + len(record) > self._log.max_size:
            half = part.find(b"\n", len(part) // 2, len(part) - 1) + 1 or part.find(b"\n", 0, len(part) - 1) + 1
            if half:
                self._write_part(stream, part[:half])
                self._write_part(stream, part[half:])
                return
        self._append([record], len(record), at)
