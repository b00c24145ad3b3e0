"""Docker's log format, to and fro: one JSON object a line, ``{"log":"…\\n","stream":"stdout","time":"…"}``.

What was read at once from a container gets one time, so that all its lines have the same beginning and the same end.
Both ways live on that: the lines are made by a few replacements in the whole block, and read back as a single object.
"""

import functools
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

LINE_AT_MOST = 16 * 1024
"""Bytes; Docker's. Longer lines become several objects, the last of which ends with the newline."""

_NEWLINE = 10
_START = b'{"log":"'
_STREAM = b'","stream":"'  # where a text ends: in a text, a quote has a backslash before it
_CHUNK = 1 << 20
_NEAR = 4096  # bytes in which the next line with the same end is looked for at first

# What Go's encoder escapes: what JSON demands, and what HTML could misunderstand. The backslash is the first, since all
# others bring some with them; newlines are apart, since they are what lines are made of.
_ESCAPES = {
    b"\\": b"\\\\",
    b'"': b'\\"',
    b"\r": b"\\r",
    **{bytes((code,)): b"\\u%04x" % code for code in (*range(10), 11, 12, *range(14, 32), *b"<>&")},
}
_PLAIN = bytes(set(range(256)) - {code for escaped in _ESCAPES for code in escaped})
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_UNDECODABLE = re.compile("[\udc80-\udcff]")  # how Python's surrogateescape shows such bytes


class Record(NamedTuple):
    """``at`` in nanoseconds since the epoch."""

    stream: int
    at: int
    data: bytes


class Begun:
    """The line that each stream has begun, held until the rest of it comes: at most what can be an object."""

    def __init__(self) -> None:
        self._held = {1: b"", 2: b""}

    def complete(self, stream: int, data: memoryview) -> list[bytes | memoryview]:
        """What can be written now that ``data`` has come, in at most two pieces."""
        held = self._held[stream]
        if data[-1] == _NEWLINE and not held:
            return [data]
        end = bytes(data[-LINE_AT_MOST:])
        newline = end.rfind(b"\n")
        if newline < 0:
            end = bytes(data)
            newline = end.rfind(b"\n")
        begun = (len(held) + len(data) if newline < 0 else len(end) - newline - 1) % LINE_AT_MOST
        if begun > len(data):
            self._held[stream] = held + data
            return []
        whole = len(data) - begun
        self._held[stream] = bytes(data[whole:])
        return [part for part in (held, data[:whole]) if part]

    def rest(self, stream: int) -> bytes:
        """What is held, which is no longer."""
        held, self._held[stream] = self._held[stream], b""
        return held


def cut(block: bytes) -> Iterator[bytes]:
    """The block in parts none of whose lines is longer than LINE_AT_MOST, not counting its newline."""
    start = at = 0
    while len(block) - at > LINE_AT_MOST + 1:
        newline = block.rfind(b"\n", at, at + LINE_AT_MOST + 1)
        if newline >= 0:
            at = newline + 1
            continue
        if at > start:
            yield block[start:at]
        start = at = at + LINE_AT_MOST
        yield block[at - LINE_AT_MOST : at]
    if start < len(block):
        yield block[start:]


def encode(block: bytes, middle: bytes, at: int) -> bytes:
    """The lines of a block, of which the last may have no newline. ``middle`` is what ``middle_of`` makes."""
    end = b'%s"%s"}\n' % (middle, format_time(at, fixed=False).encode())
    lines = _escape(block.removesuffix(b"\n")).replace(b"\n", b"\\n" + end + _START)
    return b"".join((_START, lines, b"\\n" if block.endswith(b"\n") else b"", end))


def middle_of(stream: str, attrs: dict[str, str]) -> bytes:
    """What stands between a text and its time."""
    pairs = b",".join(b'"%s":"%s"' % (_escape_name(key), _escape_name(attrs[key])) for key in sorted(attrs))
    return b'","stream":"%s",%s"time":' % (stream.encode(), b'"attrs":{%s},' % pairs if attrs else b"")


def _escape_name(text: str) -> bytes:
    return _escape(text.encode(errors="surrogateescape")).replace(b"\n", b"\\n")


def _escape(text: bytes) -> bytes:
    """All but newlines. A byte that is no UTF-8 becomes the escaped replacement character, each one of its own."""
    if special := set(text.translate(None, _PLAIN)):
        for character, escaped in _ESCAPES.items():
            if character[0] in special:
                text = text.replace(character, escaped)
    if text.isascii():
        return text
    for character, escaped in _LINE_SEPARATORS:
        text = text.replace(character, escaped)
    try:
        text.decode()
    except UnicodeDecodeError:
        text = _UNDECODABLE.sub(r"\\ufffd", text.decode(errors="surrogateescape")).encode()
    return text


def records(read: Callable[[int, int], bytes], offset: int) -> Iterator[tuple[int, Record]]:
    """What stands in a file from an offset on, each with the offset after it. ``read`` takes an offset and a count."""
    want = _CHUNK
    while chunk := read(offset, want):
        whole = chunk.rfind(b"\n") + 1
        if whole == 0:
            if len(chunk) < want:
                return  # the rest of this line is not there yet
            want *= 2
            continue
        at = 0
        while at < whole:
            at, record = _read_block(chunk, at, whole)
            if record is not None:
                yield offset + at, record
        offset += whole
        want = _CHUNK


def _read_block(chunk: bytes, at: int, whole: int) -> tuple[int, Record | None]:
    """The lines from ``at`` on that were written at once, as one record, and where they end."""
    line_end = chunk.index(b"\n", at) + 1
    text_end = chunk.find(_STREAM, at, line_end)
    ending = chunk[text_end:line_end]
    block_end = _last_end(chunk, line_end, whole, ending) if text_end >= 0 else line_end
    if block_end > line_end and (record := _join(chunk[at:block_end], ending)) is not None:
        return block_end, record
    return line_end, decode(chunk[at:line_end])


def _last_end(chunk: bytes, at: int, whole: int, ending: bytes) -> int:
    """Where the last line is over that has this ending; ``at`` when none has it. Looks ever farther while some do."""
    near = _NEAR
    while (found := chunk.rfind(ending, at, min(at + near, whole))) >= 0:
        at = found + len(ending)
        near *= 2
    return at


def _join(block: bytes, ending: bytes) -> Record | None:
    """Lines that all have this ending, as one object with all their text. None when one has another."""
    joined = block.replace(ending + _START, b"")
    return decode(joined) if joined.find(b"\n") == len(joined) - 1 else None


def backwards(read: Callable[[int, int], bytes], end: int) -> Iterator[tuple[int, Record]]:
    """The objects before an offset, the last one first, each with the offset where its line begins."""
    rest, want = b"", _NEAR
    while end > 0:
        start, want = max(0, end - want), min(want * 4, _CHUNK)
        chunk = read(start, end - start) + rest
        whole = chunk.find(b"\n") + 1 if start else 0
        if start and whole == 0:  # not even one whole line
            rest, end = chunk, start
            continue
        position = start + len(chunk)
        for line in reversed(chunk[whole:].split(b"\n")):
            position -= len(line)
            record = decode(line) if line else None
            if record is not None:
                yield position, record
            position -= 1
        rest, end = chunk[:whole], start


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""


_decode_line = msgspec.json.Decoder(_Line).decode


def decode(line: bytes) -> Record | None:
    """None for a line that is none of ours: the end of one that was cut off, say."""
    try:
        found = _decode_line(line)
        return Record(2 if found.stream == "stderr" else 1, parse_time(found.time), found.log.encode())
    except ValueError:  # and msgspec's errors are such, too
        return None


_second = (-1, "")


def format_time(ns: int, *, fixed: bool = True) -> str:
    """RFC 3339 in UTC: nine digits of a fraction when ``fixed``, otherwise as few as say the same."""
    global _second
    seconds, fraction = divmod(ns, 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    digits = f".{fraction:09}"
    return f"{_second[1]}{digits if fixed else digits.rstrip('0').rstrip('.')}Z"


def parse_time(text: str) -> int:
    """RFC 3339 in UTC with up to nine digits of a fraction, in nanoseconds since the epoch. Raises ValueError."""
    fraction = text[20:-1] if text[19:20] == "." else ""
    return _seconds(text[:19]) * 1_000_000_000 + (int(fraction) * 10 ** (9 - len(fraction)) if fraction else 0)


@functools.lru_cache(maxsize=16)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())
