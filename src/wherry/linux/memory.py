"""Pages of this process's memory: which of them it writes to, and having them copied before it does.

After a fork all memory is shared, and a page is copied when one side writes to it: an exception that takes
5 microseconds on a virtual machine. The pages that are known beforehand can be copied in one go, which takes 1.

What is remembered of pages is bytes: the address and the length of each run of them, as 64-bit numbers. Objects would
have a count of references each, and a page of them be copied by whoever looks at it.
"""

import array
import mmap
import os
from collections.abc import Iterable, Iterator
from ctypes import c_int, c_size_t, c_void_p

from wherry.linux.syscalls import function

_MADV_POPULATE_WRITE = 23  # since Linux 5.14

_ENTRY = 8  # bytes for a page in /proc/self/pagemap: see Documentation/admin-guide/mm/pagemap.rst
_PRESENT = 1 << 63
_NUMBER = (1 << 55) - 1  # of the page of memory

_madvise = function("madvise", c_void_p, c_size_t, c_int)


class WrittenPages:
    """Those that are copied for this process from the making of this on."""

    def __init__(self) -> None:
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._mappings = tuple(_writable_mappings())
        self._before = self._read()

    def end(self) -> bytes:
        """They, in order. Reads no more from /proc than what is open already: that may be a container's by now."""
        after = self._read()
        os.close(self._pagemap)
        pages: list[int] = []
        for (start, _), old, new in zip(self._mappings, self._before, after, strict=True):
            entries = zip(array.array("Q", old), array.array("Q", new), strict=True)
            pages += (start + number * mmap.PAGESIZE for number, (a, b) in enumerate(entries) if _is_another(a, b))
        return array.array("Q", _runs(pages)).tobytes()

    def _read(self) -> list[bytes]:
        """As it comes: the memory that is needed to look at it would be counted."""
        return [
            os.pread(self._pagemap, (end - start) // mmap.PAGESIZE * _ENTRY, start // mmap.PAGESIZE * _ENTRY)
            for start, end in self._mappings
        ]


def write_ahead(pages: bytes) -> None:
    """Has them copied as if they were written to. What cannot be (an older kernel) is left for later."""
    numbers = iter(array.array("Q", pages))
    for start in numbers:
        _madvise(start, next(numbers), _MADV_POPULATE_WRITE)


def _writable_mappings() -> Iterator[tuple[int, int]]:
    """(start, end) of the private ones."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            addresses, modes = line.split(None, 2)[:2]
            if modes == "rw-p":
                start, _, end = addresses.partition("-")
                yield int(start, 16), int(end, 16)


def _is_another(before: int, after: int) -> bool:
    """Whether there is another page of memory behind an address now. Only the superuser is told which one."""
    return bool(after & _PRESENT) and before & (_PRESENT | _NUMBER) != after & (_PRESENT | _NUMBER)


def _runs(pages: Iterable[int]) -> Iterator[int]:
    """Address, length, address, length, …"""
    start = length = 0
    for page in pages:
        if page != start + length:
            if length:
                yield start
                yield length
            start, length = page, 0
        length += mmap.PAGESIZE
    if length:
        yield start
        yield length
