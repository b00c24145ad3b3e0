"""Reading logs back, in the formats that ``writer`` writes, across rotated, compressed and cut files.

    reader = Reader(log, LogQuery(tail=100, timestamps=True))
    for chunk in reader.read():      # what is there now
        ...
    for chunk in reader.read():      # what came since; call it again when the file changes
        ...

What comes out is what the Docker API sends: frames of ``stream u8, 3 zero bytes, length u32 big-endian, data``, many of
them in one chunk; or the bare data of a terminal. The first chunk is small, so that nobody waits for it, and each is
twice the one before, up to a mebibyte. Where no line has to be touched, none is looked for, and a frame holds what was
written at once; with ``by_line`` it holds one line.
"""

import bisect
import struct
from collections.abc import Iterator
from itertools import takewhile
from urllib.parse import quote_plus

import msgspec

from wherry.runtime.logging import json_file, local_file
from wherry.runtime.logging.files import Cut, LogFile, Places, list_files, open_file, read_beginning
from wherry.runtime.logging.json_file import Record, format_time
from wherry.runtime.logging.write_behind import beginning
from wherry.runtime.spec import Log

_FRAME = struct.Struct(">B3xI")
_CHUNK = 1 << 20
_FIRST_CHUNK = 1 << 14
_NEVER = 1 << 63


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a log.

    ``since`` and ``until`` are nanoseconds since the epoch, both included; ``tail`` counts lines from the end at the
    first ``read``. ``details`` puts the log's attributes before each line. ``by_line``: each line gets a frame of its
    own, also one that was written in pieces.
    """

    stdout: bool = True
    stderr: bool = True
    since: int | None = None
    until: int | None = None
    tail: int | None = None
    timestamps: bool = False
    details: bool = False
    by_line: bool = False


class Reader:
    """A place in a log. ``framed`` is False for a terminal's log."""

    def __init__(self, log: Log, wanted: LogQuery = LogQuery(), *, framed: bool = True) -> None:  # noqa: B008 - it is frozen
        self._log = log
        self._format = local_file if log.driver == "local" else json_file
        self._streams = frozenset((1,) * wanted.stdout + (2,) * wanted.stderr)
        self._since = wanted.since or 0
        self._until = wanted.until
        self._tail = wanted.tail
        self._timestamps = wanted.timestamps
        self._prefix = _attributes(log.attrs) if wanted.details else b""
        self._framed = framed
        self._by_line = framed and wanted.by_line
        self._begun = {1: b"", 2: b""}  # with by_line: of each stream, the line whose end was not seen yet
        self._places: Places | None = None
        self._file: LogFile | None = None
        self._offset = 0
        self._last = 0  # when the last record was written that was read, whether wanted or not
        self._floor = 0  # records up to this time were read in another file already
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
            is_current = self._file.is_at(self._log.path)
            yield from self._read_file(self._file)
            if is_current or (following := self._next_file(self._file)) is None:
                break
            yield from self._read_file(self._file)  # what came before the writer went on in the other one
            self._file.close()
            self._file, self._offset, self._floor = following, 0, self._last
        if self._places is not None:
            self._places.take(self._last)
        if self._by_line and (rest := self._unfinished()):
            yield rest

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._places is not None:
            self._places.leave()
            self._places = None

    def _begin(self) -> bool:
        """Finds where to start; whether there is anything yet."""
        try:
            self._places = self._places or Places(self._log.path)
        except FileNotFoundError:
            return False
        self._places.take(0)
        with self._places.steady():
            files = [file for path in list_files(self._log.path) if (file := open_file(path)) is not None]
        if files:
            self._offset = beginning(self._log, files[0].read) if self._log.json_path else 0
            self._file = self._seek_tail(files, self._tail) if self._tail is not None else files[0]
        for file in files:
            if file is not self._file:
                file.close()
        return bool(files)

    def _seek_tail(self, files: list[LogFile], wanted: int) -> LogFile:
        """The file where the tail begins."""
        tail = _Tail(max(1, wanted), self._streams)
        first = self._offset
        for file in reversed(files):
            backwards = self._format.backwards(file.read, file.size)
            if first:
                backwards = takewhile(lambda found: found[0] >= first, backwards)
            self._offset, self._skip = tail.find(backwards, first)
            if not tail.missing:
                break
        if wanted == 0:
            for end, record in self._records(file):
                self._offset, self._last = end, record.at
            self._skip = 0
        return file

    def _next_file(self, finished: LogFile) -> LogFile | None:
        """The one that was written after this one, whatever it is called by now: the first that begins later.

        Or the one before that, if it is another: somebody may have cut the log, which then begins with what was read.
        """
        assert self._places is not None
        with self._places.steady():
            paths = list_files(self._log.path)
            number = bisect.bisect_right(paths, self._last, key=self._first_time)
            for path in paths[max(0, number - 1) : number + 1]:
                file = open_file(path)
                if file is not None:
                    is_next = path == paths[-1] or not file.is_compressed
                    if self._first_time(path) > self._last or (is_next and not file.is_same(finished)):
                        return file
                    file.close()
        return None

    def _first_time(self, path: str) -> int:
        """When a file begins; an empty one is the newest."""
        chunk = read_beginning(path)
        first = next(self._format.records(lambda offset, count: chunk[offset : offset + count], 0), None)
        return first[1].at if first is not None else _NEVER

    def _read_file(self, file: LogFile) -> Iterator[bytes]:
        """A chunk of output for each chunk of the file."""
        parts: list[bytes] = []
        size = 0
        for end, record in self._records(file):
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

    def _records(self, file: LogFile) -> Iterator[tuple[int, Record]]:
        """The whole records from where it is, each with the offset after it."""
        while True:
            try:
                for end, record in self._format.records(file.read, self._offset):
                    if record.at > self._floor:
                        yield end, record
                return
            except Cut:
                self._offset, self._floor = 0, self._last

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


class _Tail:
    """Looks for where the last lines begin. The very last newline ends a line, and begins none."""

    def __init__(self, wanted: int, streams: frozenset[int]) -> None:
        self.missing = wanted
        self._streams = streams
        self._ended: set[int] = set()  # the streams whose ends were passed

    def find(self, backwards: Iterator[tuple[int, Record]], start: int) -> tuple[int, int]:
        """The offset of a record, and the bytes to skip in it; ``start`` or the first one when some are missing."""
        for start, (stream, _, data) in backwards:
            if stream not in self._streams:
                continue
            searched = len(data)
            if not self._ended and data.endswith(b"\n"):
                searched -= 1
            elif self._ended and stream not in self._ended and not data.endswith(b"\n"):
                self.missing -= 1  # a line of its own, if unfinished
                if not self.missing:
                    return start, len(data)
            self._ended.add(stream)
            newline = data.rfind(b"\n", 0, searched)
            while newline >= 0:
                self.missing -= 1
                if not self.missing:
                    return start, newline + 1
                newline = data.rfind(b"\n", 0, newline)
        return start, 0


def _attributes(attrs: dict[str, str]) -> bytes:
    """Attributes as Docker shows them: sorted, escaped as in a URL's query, and a blank after them."""
    pairs = ",".join(f"{quote_plus(key)}={quote_plus(attrs[key])}" for key in sorted(attrs))
    return f"{pairs} ".encode()
