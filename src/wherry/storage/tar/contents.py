"""Fills the files that an unpacker makes, in a thread of its own.

Making a name and filling it take the kernel about the same time, and neither needs the other: one thread reads headers
and makes directories, links and empty files, this one writes their contents and then their metadata. The system calls
release the GIL, so two processors are busy. Work is handed over in batches, since a thread's wake-up costs more than a
small file.
"""

import errno
import os
import queue
import threading

from wherry.common.tar import Entry
from wherry.linux import user_namespaces
from wherry.storage.tar.reader import shown

# What overlayfs itself believes. A layer that could set them would redirect its files into other layers.
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")
# time_t is signed 64 bits, but what a file system can keep ends long before; Docker also takes such times as 0.
_MAX_TIME = 2**34 * 1_000_000_000

# Together they bound the descriptors (files in 4 batches) and the memory (of a stream's pieces) that wait.
_BATCH_FILES = 64
_BATCH_BYTES = 2 << 20
_BATCHES = 3


class UnpackError(OSError):
    """What the file system said about one member."""

    def __init__(self, number: int | None, name: bytes) -> None:
        super().__init__(number, os.strerror(number or 0))
        self._name = name

    def __str__(self) -> str:
        return f"unpack {shown(self._name)}: {self.strerror}"


class Contents:
    """An empty file and what is to be in it: pieces and where they go. ``chown``: its owner is not right yet."""

    __slots__ = ("chown", "complete", "entry", "fd", "offset", "pieces")

    def __init__(self, fd: int, entry: Entry, chown: bool, offset: int = 0) -> None:
        self.fd = fd
        self.entry = entry
        self.chown = chown
        self.offset = offset
        self.pieces: list[tuple[int, memoryview]] = []
        self.complete = False


class ContentsWriter:
    """``begin`` a file, ``write`` its pieces; the next ``begin``, or ``close``, ends it.

    What goes wrong in the thread is raised by a later call, as UnpackError.
    """

    def __init__(self) -> None:
        self._current: Contents | None = None
        self._batch: list[Contents] = []
        self._bytes = 0
        self._queue: queue.Queue[list[Contents] | None] = queue.Queue(_BATCHES)
        self._error: UnpackError | None = None
        self._thread = threading.Thread(target=self._run, name="contents", daemon=True)
        self._thread.start()

    def begin(self, contents: Contents) -> None:
        self._end()
        self._current = contents
        if len(self._batch) >= _BATCH_FILES:
            self._flush()

    def seek(self, offset: int) -> None:
        assert self._current is not None
        self._current.offset = offset

    def write(self, piece: memoryview) -> None:
        current = self._current
        assert current is not None
        current.pieces.append((current.offset, piece))
        current.offset += len(piece)
        self._bytes += len(piece)
        if self._bytes >= _BATCH_BYTES:
            # The rest of this file comes in another batch, with the same descriptor.
            rest = Contents(current.fd, current.entry, current.chown, offset=current.offset)
            self._batch.append(current)
            self._current = rest
            self._flush()

    def close(self) -> None:
        """Waits until everything is on its place. Safe to call again, and after an error."""
        if self._thread.is_alive():
            self._end()
            self._queue.put(self._batch)
            self._batch = []
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._current is not None:
            self._current.complete = True
            self._batch.append(self._current)
            self._current = None

    def _flush(self) -> None:
        self._queue.put(self._batch)
        self._batch, self._bytes = [], 0
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            for contents in batch:
                try:
                    if self._error is None:
                        _fill(contents)
                except OSError as error:
                    self._error = UnpackError(error.errno, contents.entry.name)
                finally:
                    if contents.complete:
                        os.close(contents.fd)


def _fill(contents: Contents) -> None:
    fd, entry = contents.fd, contents.entry
    for offset, piece in contents.pieces:
        written = os.pwrite(fd, piece, offset)
        while written < len(piece):
            written += os.pwrite(fd, piece[written:], offset + written)
    if not contents.complete:
        return
    if entry.sparse is not None:
        os.ftruncate(fd, entry.size)
    # Writing drops file capabilities, and a new owner drops them and the setuid bit: hence the order.
    if contents.chown:
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
    elif entry.mode & 0o7000:
        os.fchmod(fd, entry.mode)
    for name, value in entry.xattrs.items():
        set_xattr(fd, name, value)
    set_time(fd, entry.mtime)


def set_xattr(target: int | bytes, name: str, value: bytes) -> None:
    """On a descriptor, or on a name in the current directory that is not followed."""
    if name.startswith(_OVERLAY_XATTRS):
        return
    try:
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
    except OSError as error:
        # As Docker: an attribute that this file system or this kind of file cannot have is left out; and in a user
        # namespace those that the machine's root alone may set.
        beyond = name.startswith("trusted.") and not user_namespaces.is_initial()
        unfit = error.errno == errno.EPERM and (name.startswith("user.") or beyond)
        if error.errno != errno.ENOTSUP and not unfit:
            raise


def set_time(target: int | bytes, mtime: int, directory: int | None = None) -> None:
    """Both times, on a descriptor or on a name in ``directory``."""
    time = mtime if -_MAX_TIME < mtime < _MAX_TIME else 0
    if directory is None:
        os.utime(target, ns=(time, time))
    else:
        os.utime(target, ns=(time, time), dir_fd=directory, follow_symlinks=False)
