"""wherry's own log format: a record a chunk as it was read from the container, so that writing it looks at no line.

    stream u8 (1 stdout, 2 stderr), 3 zero bytes, length u32, time u64 (ns since the epoch), data, record length u32

all big-endian. The length at the end is that of the whole record, so that the file can be read backwards. A record of
the stream 0 is none of the container's: see ``write_behind``.
"""

import struct
from collections.abc import Callable, Iterator

from wherry.runtime.logging.json_file import Record

HEADER = struct.Struct(">B3xIQ")
TRAILER = struct.Struct(">I")
OVERHEAD = HEADER.size + TRAILER.size

_CHUNK = 1 << 20
_STREAMS = (0, 1, 2)

Read = Callable[[int, int], bytes]
"""Takes an offset and a count, and answers fewer bytes only at the end of the file."""


def records(read: Read, offset: int) -> Iterator[tuple[int, Record]]:
    """The whole records from an offset on, each with the offset after it."""
    want = _CHUNK
    while len(chunk := read(offset, want)) >= OVERHEAD:
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


def backwards(read: Read, end: int) -> Iterator[tuple[int, Record]]:
    """The records before an offset, the last one first, each with the offset where it begins."""
    window, window_at = b"", end
    while end >= OVERHEAD:
        if end - TRAILER.size < window_at:
            window_at = max(0, end - _CHUNK)
            window = read(window_at, end - window_at)
        (length,) = TRAILER.unpack_from(window, end - TRAILER.size - window_at)
        start = end - length
        if length < OVERHEAD or start < 0:
            return
        if start < window_at:
            window_at = max(0, end - max(length, _CHUNK))
            window = read(window_at, end - window_at)
        at = start - window_at
        stream, size, time = HEADER.unpack_from(window, at)
        yield start, Record(stream, time, window[at + HEADER.size : at + HEADER.size + size])
        end = start


def ends_whole(read: Read, size: int) -> int | None:
    """The time of the last record; None when what is at the end is none, since it was cut off."""
    trailer = read(max(0, size - TRAILER.size), TRAILER.size)
    if len(trailer) < TRAILER.size:
        return None
    (length,) = TRAILER.unpack(trailer)
    start = size - length
    if length < OVERHEAD or start < 0:
        return None
    stream, data_length, at = HEADER.unpack(read(start, HEADER.size))
    return at if stream in _STREAMS and data_length == length - OVERHEAD else None


def whole_length(read: Read, size: int) -> tuple[int, int]:
    """Where the last whole record ends, and its time (0 when there is none)."""
    position = last = 0
    while len(header := read(position, HEADER.size)) == HEADER.size:
        stream, length, at = HEADER.unpack(header)
        end = position + OVERHEAD + length
        if stream not in _STREAMS or end > size:
            break
        position, last = end, at
    return position, last
