"""Writing what a container prints to its log.

Two formats. ``local`` is wherry's own: a record a chunk as it was read from the container, so that the hot path neither
looks for lines nor converts anything:

    stream u8 (1 stdout, 2 stderr), 3 zero bytes, length u32, time u64 (ns since the epoch), data, record length u32

all big-endian. The length at the end is that of the whole record, so that the file can be read backwards. ``json-file``
is Docker's: a JSON object a line, or a piece of a line of 16 KiB; log shippers read it.

Times never go backwards nor repeat within a log: a reader that follows it across rotations relies on that.

Rotation renames path to path.1, path.1 to path.2 and so on. With compression, path.1 becomes path.1.gz a step at a time
(``Writer.work``), between the reads of the container's output.
"""

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from typing import Protocol

from wherry.runtime.ipc import Loop, StartError
from wherry.runtime.logging import json_file
from wherry.runtime.logging.json_file import LINE_AT_MOST
from wherry.runtime.logging.remote import Dialer, Outlet, connect_journald, journald_composer, syslog_composer
from wherry.runtime.spec import Log, Syslog

HEADER = struct.Struct(">B3xIQ")
TRAILER = struct.Struct(">I")
OVERHEAD = HEADER.size + TRAILER.size

_COMPRESS_AT_ONCE = 256 * 1024
_GZIP_WINDOW = 31  # zlib's way to say: with gzip's header and trailer


class Sink(Protocol):
    """Where a container's output goes, for good. ``Writer`` says what each of these does."""

    @property
    def has_work(self) -> bool: ...
    def write(self, stream: int, data: memoryview) -> None: ...
    def end(self, stream: int) -> None: ...
    def work(self) -> None: ...
    def close(self) -> None: ...


class Writer:
    """A log that is being written. Errors of the disk (it is full, say) cost log lines, never the container."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        self._log = log
        self._warn = warn
        self._failed = False
        self._time = 0
        self._compression: _Compression | None = None
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: int, data: memoryview) -> None:
        """Appends what was read from ``stream``: 1 is stdout, 2 is stderr."""
        raise NotImplementedError

    def end(self, stream: int) -> None:
        """Nothing more comes from ``stream``: what is held back is written."""

    @property
    def has_work(self) -> bool:
        return self._compression is not None

    def work(self) -> None:
        """Does a little of what there is to do: compresses a piece."""
        if self._compression is not None and self._compression.step():
            self._compression = None

    def close(self) -> None:
        """Writes what is held back and finishes what was begun."""
        self.end(1)
        self.end(2)
        while self.has_work:
            self.work()
        os.close(self._fd)

    def _append(self, parts: list[bytes | memoryview], length: int) -> None:
        """Writes one record whole, or not at all."""
        if self._log.max_size and self._size and self._size + length > self._log.max_size:
            self._rotate()
        try:
            written = os.writev(self._fd, parts)
            while written < length:
                written += os.write(self._fd, b"".join(parts)[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            if not self._failed:
                self._failed = True
                self._warn(f"output is not logged to {self._log.path}: {error.strerror}")
            return
        self._failed = False
        self._size += length

    def _now(self) -> int:
        self._time = max(time.time_ns(), self._time + 1)
        return self._time

    def _open(self) -> int:
        return os.open(self._log.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _rotate(self) -> None:
        while self.has_work:  # the file that is being compressed is about to get another name
            self.work()
        path, keep = self._log.path, max(1, self._log.max_files)
        try:
            for number in range(keep - 1, 0, -1):
                older = path if number == 1 else f"{path}.{number - 1}"
                for suffix in ("", ".gz"):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(older + suffix, f"{path}.{number}{suffix}")
                        other = f"{path}.{number}{'' if suffix else '.gz'}"
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(other)
            if keep == 1:
                os.ftruncate(self._fd, 0)
            else:
                os.close(self._fd)
                self._fd = self._open()
                if self._log.compress:
                    self._compression = _Compression(f"{path}.1")
        except OSError as error:
            self._warn(f"the log {path} cannot be rotated: {error.strerror}")
        self._size = os.fstat(self._fd).st_size


class LocalWriter(Writer):
    """wherry's own format. A record that was cut off (the machine stopped) is taken away at the next opening."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(log, warn)
        if self._size and not self._ends_whole():
            self._size = self._whole_length()
            os.ftruncate(self._fd, self._size)

    def write(self, stream: int, data: memoryview) -> None:
        length = OVERHEAD + len(data)
        self._append([HEADER.pack(stream, len(data), self._now()), data, TRAILER.pack(length)], length)

    def _ends_whole(self) -> bool:
        trailer = os.pread(self._fd, TRAILER.size, max(0, self._size - TRAILER.size))
        if len(trailer) < TRAILER.size:
            return False
        (length,) = TRAILER.unpack(trailer)
        start = self._size - length
        if length < OVERHEAD or start < 0:
            return False
        stream, data_length, at = HEADER.unpack(os.pread(self._fd, HEADER.size, start))
        self._time = at
        return stream in (1, 2) and data_length == length - OVERHEAD

    def _whole_length(self) -> int:
        position = 0
        while len(header := os.pread(self._fd, HEADER.size, position)) == HEADER.size:
            stream, length, at = HEADER.unpack(header)
            end = position + OVERHEAD + length
            if stream not in (1, 2) or end > self._size:
                break
            position, self._time = end, at
        return position


class JsonFileWriter(Writer):
    """Docker's format. A line that was cut off is taken away at the next opening, too."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(log, warn)
        self._drop_torn_line()
        self._held: dict[int, bytes] = {1: b"", 2: b""}
        self._middle = {1: json_file.middle_of("stdout", log.attrs), 2: json_file.middle_of("stderr", log.attrs)}

    def write(self, stream: int, data: memoryview) -> None:
        block = self._held[stream] + data
        begun = len(block) - block.rfind(b"\n") - 1  # of the last line; what can be an object of its own is not held
        whole = len(block) - begun % LINE_AT_MOST
        self._held[stream] = block[whole:]
        for part in json_file.cut(block[:whole]):
            self._write_part(stream, part)

    def end(self, stream: int) -> None:
        if self._held[stream]:
            self._write_part(stream, self._held[stream])
            self._held[stream] = b""

    def _drop_torn_line(self) -> None:
        end = self._size
        while end > 0:
            start = max(0, end - LINE_AT_MOST)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            end = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if end < self._size:
            os.ftruncate(self._fd, end)
            self._size = end

    def _write_part(self, stream: int, part: bytes) -> None:
        """In one write, unless the log has to be rotated in between; then in as many as it takes."""
        record = json_file.encode(part, self._middle[stream], self._now())
        if self._log.max_size and self._size + len(record) > self._log.max_size:
            half = part.find(b"\n", len(part) // 2, len(part) - 1) + 1 or part.find(b"\n", 0, len(part) - 1) + 1
            if half:
                self._write_part(stream, part[:half])
                self._write_part(stream, part[half:])
                return
        self._append([record], len(record))


def open_writer(log: Log, warn: Callable[[str], None] = lambda text: None) -> Writer | None:
    """The writer of the log's driver; None for the driver "none". OSError when the file cannot be opened."""
    if log.driver == "none":
        return None
    return LocalWriter(log, warn) if log.driver == "local" else JsonFileWriter(log, warn)


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


# A container's log as a whole: the file that is read by ``logs``, and where its lines are forwarded to.

Compose = Callable[[int, bytes, bool], bytes]


def open_log(log: Log, loop: Loop, warn: Callable[[str], None]) -> Sink | None:
    """None when nothing is kept. Raises OSError for the file, StartError when the log cannot be forwarded."""
    forwarder = _open_forwarder(log, loop) if log.forward is not None else None
    writer = open_writer(log, warn)
    if forwarder is not None and writer is not None:
        return _Both(writer, forwarder)
    return writer or forwarder


def _open_forwarder(log: Log, loop: Loop) -> "Forwarder":
    to = log.forward
    assert to is not None
    try:
        if isinstance(to, Syslog):
            dialer = Dialer(to)
            outlet = Outlet(
                loop,
                dialer.first(),
                dialer.connect,
                established=dialer.established,
                limit=log.buffer,
                patient=log.patient,
            )
            return Forwarder(outlet, syslog_composer(to))
        outlet = Outlet(loop, connect_journald(to), lambda: connect_journald(to), limit=log.buffer, patient=log.patient)
        return Forwarder(outlet, journald_composer(to))
    except OSError as error:
        raise StartError(
            f"failed to initialize logging driver: {to.address}: {error.strerror or error}", 128
        ) from error


class Forwarder:
    """A message a line, or a piece of a line of 16 KiB. What begins a line is held until it ends."""

    has_work = False

    def __init__(self, outlet: Outlet, compose: Compose) -> None:
        self._outlet = outlet
        self._compose = compose
        self._held = {1: b"", 2: b""}

    def write(self, stream: int, data: memoryview) -> None:
        block = self._held[stream] + data
        begun = len(block) - block.rfind(b"\n") - 1
        whole = len(block) - begun % LINE_AT_MOST
        self._held[stream] = block[whole:]
        self._forward(stream, block[:whole])

    def end(self, stream: int) -> None:
        held, self._held[stream] = self._held[stream], b""
        if held:
            self._outlet.send([self._compose(stream, held, False)])

    def work(self) -> None:
        """Nothing to be done between writes: the loop tells the outlet when there is."""

    def close(self) -> None:
        self.end(1)
        self.end(2)
        self._outlet.close()

    def _forward(self, stream: int, block: bytes) -> None:
        messages: list[bytes] = []
        for part in json_file.cut(block):
            *lines, piece = part.split(b"\n")
            messages += [self._compose(stream, line, False) for line in lines]
            if piece:
                messages.append(self._compose(stream, piece, True))
        self._outlet.send(message for message in messages if message)


class _Both:
    """The forwarder and the file beside it."""

    def __init__(self, writer: Sink, forwarder: Sink) -> None:
        self._sinks = (writer, forwarder)

    def write(self, stream: int, data: memoryview) -> None:
        for sink in self._sinks:
            sink.write(stream, data)

    def end(self, stream: int) -> None:
        for sink in self._sinks:
            sink.end(stream)

    @property
    def has_work(self) -> bool:
        return any(sink.has_work for sink in self._sinks)

    def work(self) -> None:
        for sink in self._sinks:
            if sink.has_work:
                sink.work()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
