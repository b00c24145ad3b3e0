"""Reading logs back, in the formats that ``log`` writes, across rotated and compressed files.

    reader = Reader(log, tail=100, timestamps=True)
    for chunk in reader.read():      # what is there now
        ...
    for chunk in reader.read():      # what came since; call it again when the file changes
        ...

What comes out is what the Docker API sends: frames of ``stream u8, 3 zero bytes, length u32 big-endian, data``, many of
them in one chunk; or the bare data of a terminal. The first chunk is small, so that nobody waits for it, and each is
twice the one before, up to a mebibyte. Where no line has to be touched, none is looked for, and a frame holds what was
written at once; with ``by_line`` it holds one line.
"""

import gzip
import os
import re
import struct
from collections.abc import Iterator
from urllib.parse import quote_plus

from wherry.runtime.logging import json_file
from wherry.runtime.logging.json_file import Record, format_time
from wherry.runtime.logging.writer import HEADER, OVERHEAD, TRAILER
from wherry.runtime.spec import Log

_FRAME = struct.Struct(">B3xI")
_CHUNK = 1 << 20
_FIRST_CHUNK = 1 << 14
_ROTATED = re.compile(r"\.(\d+)(\.gz)?")


class Reader:
    """A place in a log, and what is wanted of it.

    ``since`` and ``until`` are nanoseconds since the epoch, both included; ``tail`` counts lines from the end at the
    first ``read``. ``details`` puts the log's attributes before each line. ``framed`` is False for a terminal's log.
    ``by_line``: each line gets a frame of its own, also one that was written in pieces.
    """

    def __init__(
        self,
        log: Log,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: int | None = None,
        until: int | None = None,
        tail: int | None = None,
        timestamps: bool = False,
        details: bool = False,
        framed: bool = True,
        by_line: bool = False,
    ) -> None:
        self._log = log
        self._streams = frozenset((1,) * stdout + (2,) * stderr)
        self._since = since or 0
        self._until = until
        self._tail = tail
        self._timestamps = timestamps
        self._prefix = _attributes(log.attrs) if details else b""
        self._framed = framed
        self._by_line = framed and by_line
        self._begun = {1: b"", 2: b""}  # with by_line: of each stream, the line whose end was not seen yet
        self._file: _File | None = None
        self._offset = 0
        self._last = 0  # when the last record was written that was read, whether wanted or not
        self._line_begins = {1: True, 2: True}
        self._skip = 0  # bytes of the first record that are before the tail
        self._chunk = _FIRST_CHUNK

    done = False
    """Set once a record later than ``until`` was seen: nothing more will come."""

    def read(self) -> Iterator[bytes]:
        """Everything from where it stopped the last time to what is in the log now."""
        if self._file is None and not self._begin():
            return
        while self._file is not None and not self.done:
            was_current = self._file.is_current(self._log.path)
            yield from self._read_file(self._file)
            if was_current or not self._next_file():
                break
        if self._by_line and (rest := self._unfinished()):
            yield rest

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> bool:
        """Finds where to start; whether there is anything yet."""
        files = _files(self._log.path)
        if self._tail is not None:
            return self._seek_tail(files, self._tail)
        for path in files:
            self._file = _open(path)
            if self._file is not None:
                return True
        return False

    def _seek_tail(self, files: list[str], wanted: int) -> bool:
        find = _local_tail if self._log.driver == "local" else _json_tail
        nothing = wanted == 0
        wanted = max(1, wanted)
        ended: set[int] = set()
        for path in reversed(files):
            file = _open(path)
            if file is None:
                continue
            self.close()
            self._file = file
            self._offset, self._skip, wanted = find(file, wanted, self._streams, ended)
            if wanted <= 0:
                break
        if nothing and self._file is not None:
            for end, record in self._records(self._file, self._offset):
                self._offset, self._last = end, record.at
            self._skip = 0
        return self._file is not None

    def _next_file(self) -> bool:
        """Goes on in the file that was written after this one, whatever it is called by now."""
        self.close()
        self._offset = 0
        for path in _files(self._log.path):
            file = _open(path)
            if file is None:
                continue
            first = next(self._records(file, 0), None)
            if path == self._log.path or (first is not None and first[1].at > self._last):
                self._file = file
                return True
            file.close()
        return False

    def _read_file(self, file: "_File") -> Iterator[bytes]:
        """A chunk of output for each chunk of the file."""
        parts: list[bytes] = []
        size = 0
        for end, record in self._records(file, self._offset):
            self._offset, self._last = end, record.at
            skip, self._skip = self._skip, 0
            if record.at < self._since or record.stream not in self._streams:
                continue
            if self._until is not None and record.at > self._until:
                self.done = True
                break
            data = record.data[skip:] if skip else record.data
            if self._timestamps or self._prefix:
                data = self._prefixed(record, data)
            if not data:
                continue
            if self._by_line:
                parts += self._lines(record.stream, data)
            else:
                if self._framed:
                    parts.append(_FRAME.pack(record.stream, len(data)))
                parts.append(data)
            size += len(data)
            if size >= self._chunk:
                yield b"".join(parts)
                parts, size = [], 0
                self._chunk = min(self._chunk * 2, _CHUNK)
        if parts:
            yield b"".join(parts)

    def _lines(self, stream: int, data: bytes) -> Iterator[bytes]:
        """A frame for each line that ends in ``data``."""
        *whole, self._begun[stream] = (self._begun[stream] + data).split(b"\n")
        for line in whole:
            yield _FRAME.pack(stream, len(line) + 1)
            yield line
            yield b"\n"
        if len(self._begun[stream]) >= json_file.LINE_AT_MOST:
            yield self._unfinished()

    def _unfinished(self) -> bytes:
        """The lines that were begun, as there is nothing more of them to be read now."""
        begun, self._begun = self._begun, {1: b"", 2: b""}
        return b"".join(_FRAME.pack(stream, len(line)) + line for stream, line in begun.items() if line)

    def _records(self, file: "_File", offset: int) -> Iterator[tuple[int, Record]]:
        """The whole records from an offset on, each with the offset after it."""
        return _local_records(file, offset) if self._log.driver == "local" else json_file.records(file.read, offset)

    def _prefixed(self, record: Record, data: bytes) -> bytes:
        """The same with the time, the attributes or both before each line that begins in it."""
        if not data:
            return data
        time = f"{format_time(record.at)} ".encode() if self._timestamps else b""
        prefix = time + self._prefix
        ends_line = data.endswith(b"\n")
        body = data[:-1] if ends_line else data
        text = body.replace(b"\n", b"\n" + prefix) + (b"\n" if ends_line else b"")
        begins_line = self._line_begins[record.stream]
        self._line_begins[record.stream] = ends_line
        return prefix + text if begins_line else text


class _File:
    """A log file, plain or compressed, to be read at any offset."""

    def __init__(self, fd: int, content: bytes | None) -> None:
        self._fd = fd
        self._content = content

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size if self._content is None else len(self._content)

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end."""
        if self._content is not None:
            return self._content[offset : offset + count]
        data = os.pread(self._fd, count, offset)
        while data and len(data) < count and (more := os.pread(self._fd, count - len(data), offset + len(data))):
            data += more
        return data

    def is_current(self, path: str) -> bool:
        """Whether it is still the file that is being written."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        os.close(self._fd)


def _open(path: str) -> _File | None:
    """None when it was rotated away meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not path.endswith(".gz"):
        return _File(fd, None)
    with open(fd, "rb", closefd=False) as compressed:
        return _File(fd, gzip.decompress(compressed.read()))


def _files(path: str) -> list[str]:
    """The log's files, oldest first. One that is just being compressed is there once."""
    directory, name = os.path.split(path)
    found: dict[int, str] = {}
    try:
        entries = os.listdir(directory or ".")
    except FileNotFoundError:
        return []
    for entry in sorted(entries):
        match = _ROTATED.fullmatch(entry.removeprefix(name)) if entry.startswith(name) else None
        if match:
            found.setdefault(int(match[1]), f"{path}.{match[1]}{match[2] or ''}")
    rotated = [found[number] for number in sorted(found, reverse=True)]
    return [*rotated, path] if name in entries else rotated


def _local_records(file: _File, offset: int) -> Iterator[tuple[int, Record]]:
    want = _CHUNK
    while len(chunk := file.read(offset, want)) >= OVERHEAD:
        at = 0
        available = len(chunk)
        while at + OVERHEAD <= available:
            stream, length, time = HEADER.unpack_from(chunk, at)
            end = at + OVERHEAD + length
            if end > available:
                break
            data_at = at + HEADER.size
            yield offset + end, Record(stream, time, chunk[data_at : data_at + length])
            at = end
        if at == 0 and available < want:
            return  # the rest of this record is not there yet
        want = _CHUNK if at else want * 2
        offset += at


def _local_tail(file: _File, wanted: int, streams: frozenset[int], ended: set[int]) -> tuple[int, int, int]:
    """Where the last ``wanted`` lines begin: the offset of a record, the bytes to skip in it, and how many are missing.

    ``ended`` are the streams whose ends were passed. The very last newline ends a line, and begins none.
    """
    end = file.size
    window, window_at = b"", end
    while end >= OVERHEAD and wanted > 0:
        if end - TRAILER.size < window_at:
            window_at = max(0, end - _CHUNK)
            window = file.read(window_at, end - window_at)
        (length,) = TRAILER.unpack_from(window, end - TRAILER.size - window_at)
        start = end - length
        if length < OVERHEAD or start < 0:
            break
        if start < window_at:
            window_at = max(0, end - max(length, _CHUNK))
            window = file.read(window_at, end - window_at)
        stream, size, _ = HEADER.unpack_from(window, start - window_at)
        if stream in streams:
            data_at = start - window_at + HEADER.size
            data = window[data_at : data_at + size]
            searched = len(data)
            if not ended and data.endswith(b"\n"):
                searched -= 1
            elif ended and stream not in ended and not data.endswith(b"\n"):  # a line of its own, if unfinished
                wanted -= 1
                if wanted == 0:
                    return start, size, 0
            ended.add(stream)
            newline = data.rfind(b"\n", 0, searched)
            while newline >= 0:
                wanted -= 1
                if wanted == 0:
                    return start, newline + 1, 0
                newline = data.rfind(b"\n", 0, newline)
        end = start
    return end, 0, wanted


def _json_tail(file: _File, wanted: int, streams: frozenset[int], ended: set[int]) -> tuple[int, int, int]:
    """As ``_local_tail``; an object counts as a line, as it does in Docker."""
    end = file.size
    rest = b""
    while end > 0 and wanted > 0:
        start = max(0, end - _CHUNK)
        chunk = file.read(start, end - start) + rest
        first = chunk.find(b"\n") + 1
        if start > 0 and first == 0:  # not even one whole line
            rest, end = chunk, start
            continue
        whole = first if start else 0
        position = start + len(chunk)
        for line in reversed(chunk[whole:].split(b"\n")):
            position -= len(line)
            record = json_file.decode(line) if line else None
            if record is not None and record.stream in streams:
                wanted -= 1
                if wanted == 0:
                    return position, 0, 0
            position -= 1
        rest, end = chunk[:whole], start
    return end, 0, wanted


def _attributes(attrs: dict[str, str]) -> bytes:
    """As Docker shows them: sorted, escaped as in a URL's query, and a blank after them."""
    pairs = ",".join(f"{quote_plus(key)}={quote_plus(attrs[key])}" for key in sorted(attrs))
    return f"{pairs} ".encode()
