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
from typing import Protocol

from wherry.runtime.ipc import Loop, StartError
from wherry.runtime.logging import json_file, local_file
from wherry.runtime.logging.json_file import LINE_AT_MOST
from wherry.runtime.logging.local_file import HEADER, OVERHEAD, TRAILER
from wherry.runtime.logging.remote import Dialer, Outlet, connect_journald, journald_composer, syslog_composer
from wherry.runtime.logging.rotation import Rotation
from wherry.runtime.spec import Log, Syslog


class Sink(Protocol):
    """Where a container's output goes, for good. ``Writer`` says what each of these does."""

    @property
    def has_work(self) -> bool: ...
    def write(self, stream: int, data: memoryview) -> None: ...
    def end(self, stream: int) -> None: ...
    def work(self) -> None: ...
    def close(self) -> None: ...


_ROOM = 64 << 10  # bytes that are free again on a disk that was full


class Writer:
    """A log that is being written. Errors of the disk (it is full, say) cost log lines, never the container; what they
    have cost is said in their place, as soon as something can be written again."""

    def __init__(self, log: Log, warn: Callable[[str], None] = lambda text: None) -> None:
        self._log = log
        self._warn = warn
        self._failure = ""  # why the last write failed
        self._lost = 0  # lines since the log has last said how many
        self._time = 0
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._mend()
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
    def has_work(self) -> bool:
        return self._rotation is not None and self._rotation.has_work

    def work(self) -> None:
        """Does a little of what there is to do: compresses a piece."""
        if self._rotation is not None:
            self._rotation.work()

    def close(self) -> None:
        """Writes what is held back and finishes what was begun."""
        self.end(1)
        self.end(2)
        if self._lost:
            self._tell_loss()
        if self._lost:
            self._warn(f"{self._lost} lines of output are missing in {self._log.path}")
        if self._rotation is not None:
            self._rotation.close()
        os.close(self._fd)

    def _write(self, stream: int, data: memoryview) -> None:
        raise NotImplementedError

    def _write_part(self, stream: int, part: bytes) -> None:
        """Writes what waits for nothing that comes after it."""
        raise NotImplementedError

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        """Those of a record."""
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
            if os.path.samestat(found, os.fstat(self._fd)):
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
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def _append(self, parts: list[bytes | memoryview], length: int, at: int) -> None:
        """Writes one record whole, or not at all. ``at`` is its time."""
        if self._rotation is not None and self._size and self._size + length > self._log.max_size:
            self._rotate(self._rotation)
        if self._lost and not self._has_room():
            self._lost += self._count_lines(parts)
            return
        try:
            written = os.writev(self._fd, parts)
            while written < length:
                written += os.write(self._fd, b"".join(parts)[written:])
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

    def _write_part(self, stream: int, part: bytes | memoryview) -> None:
        length, at = OVERHEAD + len(part), self._now()
        self._append([HEADER.pack(stream, len(part), at), part, TRAILER.pack(length)], length, at)

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        return max(1, bytes(parts[1]).count(b"\n"))

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
        self._held: dict[int, bytes] = {1: b"", 2: b""}
        self._middle = {1: json_file.middle_of("stdout", log.attrs), 2: json_file.middle_of("stderr", log.attrs)}

    def _write(self, stream: int, data: memoryview) -> None:
        block = self._held[stream] + data
        begun = len(block) - block.rfind(b"\n") - 1  # of the last line; what can be an object of its own is not held
        whole = len(block) - begun % LINE_AT_MOST
        self._held[stream] = block[whole:]
        for part in json_file.cut(block[:whole]):
            self._write_part(stream, part)

    def _count_lines(self, parts: list[bytes | memoryview]) -> int:
        return bytes(parts[0]).count(b"\n")

    def end(self, stream: int) -> None:
        if self._held[stream]:
            self._look()
            self._write_part(stream, self._held[stream])
            self._held[stream] = b""

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
        """In one write, unless the log has to be rotated in between; then in as many as it takes."""
        at = self._now()
        record = json_file.encode(part, self._middle[stream], at)
        if self._log.max_size and self._size + len(record) > self._log.max_size:
            half = part.find(b"\n", len(part) // 2, len(part) - 1) + 1 or part.find(b"\n", 0, len(part) - 1) + 1
            if half:
                self._write_part(stream, part[:half])
                self._write_part(stream, part[half:])
                return
        self._append([record], len(record), at)


def open_writer(log: Log, warn: Callable[[str], None] = lambda text: None) -> Writer | None:
    """The writer of the log's driver; None for the driver "none". OSError when the file cannot be opened."""
    if log.driver == "none":
        return None
    return LocalWriter(log, warn) if log.driver == "local" else JsonFileWriter(log, warn)


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
