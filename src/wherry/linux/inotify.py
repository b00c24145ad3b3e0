"""inotify: to be told when files change. The descriptor can be watched by any event loop."""

import os
import struct
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_uint32

from wherry.linux.syscalls import check, function

IN_MODIFY = 0x002
IN_CLOSE = 0x018
IN_MOVED_TO = 0x080
IN_CREATE = 0x100

_HEADER = struct.Struct("iIII")

_inotify_init1 = function("inotify_init1", c_int)
_inotify_add_watch = function("inotify_add_watch", c_int, c_char_p, c_uint32)


class Inotify:
    """A set of watches. ``fileno()`` becomes readable when there are events."""

    def __init__(self) -> None:
        self._fd = check(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: str, mask: int) -> int:
        """Watches a file or the entries of a directory; answers the watch's number."""
        return check(_inotify_add_watch(self._fd, os.fsencode(path), mask), "watch", path)

    def events(self) -> Iterator[tuple[int, int, str]]:
        """(watch, mask, name of the directory's entry or "") of all that happened since; nothing when nothing did."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            yield watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
