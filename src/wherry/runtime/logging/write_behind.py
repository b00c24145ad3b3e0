"""The log of the driver json-file without a limit, which containers have unless they ask for another.

Docker's format takes several times as long to write and to read as the local one, and few ever open its file. So what
the container prints goes to a local log, which ``logs`` reads, and json-file's file, which log shippers read, is
written behind: a line now and then at once, a burst piece by piece, and all of it when somebody opens the file. There
is a lease on the file while it is behind, so that the kernel tells of that, and lets whoever opens it wait. While
others have it open there can be none, and what is printed is in the file a hundredth of a second later.

The local log begins with a record of the stream 0, which says how far the other file is::

    inode of json-file's file u64, its size u64, offset in the local log u64

When the file is shorter than that, or another, then somebody has cut it (truncate, logrotate): what had been written to
it is dropped here, too.
"""

import contextlib
import os
import select
import struct
import time
from collections.abc import Callable

from wherry.linux.files import lease_breaks, lock, release_lease, take_lease, unlock
from wherry.runtime.ipc import READ, Loop
from wherry.runtime.logging import json_file, local_file
from wherry.runtime.logging.local_file import HEADER, OVERHEAD, TRAILER, Read
from wherry.runtime.logging.writer import LocalWriter
from wherry.runtime.spec import Log

_STATE = struct.Struct(">QQQ")
_FIRST = OVERHEAD + _STATE.size  # where the record after that one is
_PIECE = 1 << 20  # bytes of the local log that are written at once
_BETWEEN = 0.01  # seconds between two writes to a file that others have open, or that is not behind
_QUIET = 0.1  # seconds without output until one that nobody has open is written, piece by piece
_PAUSE = 0.02  # between those pieces
_AT_LEAST = 1.0  # seconds until a piece of it is written in any case: some tell by its size whether to open it
_AGAIN = 1.0  # after an error


class WriteBehind(LocalWriter):
    """Both files. One process at a time writes to them: it has a lock on the local one.

    ``settle`` gives the lock up: from then on another run of the container may have it. What is still to be written is
    written with the lock taken for each piece, until that other run has it.
    """

    def __init__(
        self, log: Log, warn: Callable[[str], None] = lambda text: None, loop: Loop | None = None, *, wait: bool = True
    ) -> None:
        """Without ``loop`` no lease is taken. Raises BlockingIOError when another has the lock, unless it ``wait``s."""
        self._loop = loop
        self._wait = wait
        self._begun = json_file.Begun()
        self._middle = {1: json_file.middle_of("stdout", log.attrs), 2: json_file.middle_of("stderr", log.attrs)}
        self._settled = False
        self._leased = self._awaited = False
        self._due: float | None = None
        self._written = 0.0  # when the last piece was
        self._json, self._json_file, self._json_size = -1, (0, 0), 0
        self._json_failed = False
        super().__init__(log, warn)
        inode, self._json_size, self._done = _STATE.unpack(os.pread(self._fd, _STATE.size, HEADER.size))
        self._done = min(self._done, self._size)
        self._open_json()
        if inode == 0:
            self._json_size = os.fstat(self._json).st_size
            self._save()
        elif inode != self._json_file[1]:
            self._drop_written()
        elif os.fstat(self._json).st_size > self._json_size:  # of a write that was not recorded any more
            os.ftruncate(self._json, self._json_size)

    @property
    def delay(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    @property
    def _is_unseen(self) -> bool:
        """Whether nobody has json-file's file open, or waits for it."""
        return self._leased and not self._awaited

    @property
    def is_behind(self) -> bool:
        return bool(self._done < self._size)

    def end(self, stream: int) -> None:
        if rest := self._begun.rest(stream):
            self._write_part(stream, rest)

    def work(self) -> None:
        """Writes a piece to json-file's file."""
        done = self._advance()
        if self.is_behind and done:
            self._due = time.monotonic() + (_PAUSE if self._is_unseen else 0)
            return
        self._release()
        self._due = time.monotonic() + _AGAIN if self.is_behind and not self._settled else None

    def settle(self) -> None:
        if self._settled:
            return
        super().settle()
        while self.is_behind and self._loop is not None and not self._leased and self._advance():
            continue
        self._settled = True
        unlock(self._fd)

    def close(self) -> None:
        self.settle()
        if self.is_behind and self._is_unseen:
            select.select((lease_breaks(),), (), (), _QUIET)  # the container may be about to be removed
        while self.is_behind and os.fstat(self._json).st_nlink and self._advance():
            continue
        if self._loop is not None and self._leased:
            self._loop.forget(lease_breaks())
        os.close(self._json)
        os.close(self._fd)

    def _look(self) -> None:
        """Looks once a piece, which is enough: nobody else knows of the local log."""

    def _write(self, stream: int, data: memoryview) -> None:
        if parts := self._begun.complete(stream, data):
            self._write_part(stream, *parts)

    def _write_part(self, stream: int, *parts: bytes | memoryview) -> None:
        was_behind = self.is_behind
        super()._write_part(stream, *parts)
        now = time.monotonic()
        if self._due is not None:
            if self._is_unseen:
                self._due = min(now + _QUIET, self._written + _AT_LEAST)
            return
        if not was_behind and now - self._written >= _BETWEEN:
            self._advance()
        if self.is_behind:
            self._due = now + (_QUIET if self._take_lease() else _BETWEEN)

    def _mend(self) -> None:
        if self._size < _FIRST:  # it is new
            self._begin(self._fd, self._now())
            self._size = self._done = _FIRST
        super()._mend()

    def _open(self) -> int:
        """Not to append, since the first record changes."""
        fd = os.open(self._log.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        lock(fd, wait=self._wait)
        return fd

    def _begin(self, fd: int, at: int) -> None:
        """Writes the first record."""
        state = _STATE.pack(self._json_file[1], self._json_size, _FIRST)
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"".join((HEADER.pack(0, len(state), at), state, TRAILER.pack(_FIRST))), 0)

    def _save(self) -> None:
        os.pwrite(self._fd, _STATE.pack(self._json_file[1], self._json_size, self._done), HEADER.size)

    # json-file's file

    def _open_json(self) -> None:
        fd = os.open(self._log.json_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        if self._json >= 0:
            self._release()
            os.close(self._json)
        self._json = fd
        found = os.fstat(fd)
        self._json_file = (found.st_dev, found.st_ino)

    def _advance(self) -> bool:
        """Writes a piece, if it is still this process that writes. Whether it did."""
        if self._settled:
            try:
                lock(self._fd)
            except BlockingIOError:
                return False
        try:
            super()._look()
            self._find_json()
            self._write_piece()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._json, self._json_size)
            if not self._json_failed:
                self._json_failed = True
                self._warn(f"output is not logged to {self._log.json_path}: {error.strerror}")
            return False
        finally:
            if self._settled:
                unlock(self._fd)
        self._written = time.monotonic()
        self._json_failed = False
        return True

    def _write_piece(self) -> None:
        lines: list[bytes] = []
        end = self._done
        for end, record in local_file.records(self._read, self._done):
            middle = self._middle[record.stream]
            lines += (json_file.encode(part, middle, record.at) for part in json_file.cut(record.data))
            if end - self._done >= _PIECE:
                break
        block = memoryview(b"".join(lines))
        size = len(block)
        while block:
            block = block[os.write(self._json, block) :]
        self._json_size += size
        self._done = end
        self._save()

    def _find_json(self) -> None:
        """Finds it as others have left it."""
        found: os.stat_result | None = None
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._log.json_path)
        if found is None or (found.st_dev, found.st_ino) != self._json_file:
            self._open_json()
            self._drop_written()
        elif found.st_size < self._json_size:
            self._drop_written()
        else:
            self._json_size = found.st_size

    def _drop_written(self) -> None:
        """Begins the local log anew, with what is not in json-file's file yet."""
        self._json_size = os.fstat(self._json).st_size
        header = os.pread(self._fd, HEADER.size, self._done)
        at = HEADER.unpack(header)[2] - 1 if len(header) == HEADER.size else self._now()
        beside = f"{self._log.path}.new"
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        lock(fd)
        self._begin(fd, at)
        to = _FIRST
        while rest := self._read(self._done, min(_PIECE, self._size - self._done)):
            self._done += len(rest)
            to += os.pwrite(fd, rest, to)
        os.rename(beside, self._log.path)
        os.close(self._fd)
        self._use(fd)
        self._done = _FIRST

    def _take_lease(self) -> bool:
        if self._loop is not None and not self._leased and not self._settled:
            breaks = lease_breaks()
            self._leased = take_lease(self._json)
            if self._leased:
                self._loop.watch(breaks, READ, lambda events: self._hurry(breaks))
        return self._leased

    def _hurry(self, breaks: int) -> None:
        """Somebody waits for the file."""
        os.read(breaks, 4096)
        self._awaited = True
        self._due = time.monotonic()

    def _release(self) -> None:
        if self._leased and self._loop is not None:
            self._loop.forget(lease_breaks())
            release_lease(self._json)
        self._leased = self._awaited = False


def beginning(log: Log, read: Read) -> int:
    """Where what is to be read begins in the local log: after what others have cut from json-file's file."""
    state = read(HEADER.size, _STATE.size)
    if len(state) < _STATE.size:
        return 0
    inode, size, done = _STATE.unpack(state)
    try:
        found = os.stat(log.json_path)
    except FileNotFoundError:
        return int(done) if inode else _FIRST
    return _FIRST if inode in (0, found.st_ino) and found.st_size >= size else int(done)


def catch_up(log: Log) -> None:
    """Writes what a monitor that was killed has left to be written, unless another one writes it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        with open(log.path, "rb") as file:
            state = file.read(_FIRST)[HEADER.size : HEADER.size + _STATE.size]
            if len(state) < _STATE.size or _STATE.unpack(state)[2] >= os.fstat(file.fileno()).st_size:
                return
        WriteBehind(log, wait=False).close()
