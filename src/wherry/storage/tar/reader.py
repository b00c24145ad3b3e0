"""Reads tar as every tool writes it: ustar, GNU and pax, with sparse files in all of their four encodings.

The reader is built for speed and for hostile input at once. It parses the common header with a handful of slices, and
it holds no more of an archive than one buffer: names, pax headers and sparse maps have limits, and the size that a
header declares is never believed further than the bytes that follow.

    reader = TarReader(FileSource(fd))
    for entry in reader:
        ...                      # entry.name, entry.kind, entry.size
            reader.copy(file.write)  # the contents, in any amount, or not at all
"""

import binascii
import re
from collections.abc import Callable, Iterator
from zlib import adler32

from wherry.common.tar import BLOCK, BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, Entry
from wherry.storage.tar.sources import Source, Truncated

_ZEROS = bytes(BLOCK)

_CONTIGUOUS = b"7"
_OLD_REGULAR = b"\0"
_GNU_SPARSE = b"S"
_GNU_LONG_NAME = b"L"
_GNU_LONG_LINK = b"K"
_GNU_VOLUME_LABEL = b"V"
_PAX = b"x"
_PAX_GLOBAL = b"g"
_SOLARIS_PAX = b"X"

# Their size field says nothing about bytes that follow; some tools fill it in nevertheless.
_WITHOUT_DATA = frozenset((HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO))
_KNOWN = _WITHOUT_DATA | {REGULAR}

# Go's archive/tar, which Docker reads with, has the same limit for one special header.
MAX_SPECIAL = 1 << 20
MAX_SPARSE_MAP = 4 << 20
# PATH_MAX is 4096 with its NUL: a longer name could be made in steps, but no tool writes one.
MAX_NAME = 4095
# setuid(2) has no way to say the last one, and no file has it.
_MAX_ID = 2**32 - 2
_MAX_SIZE = 2**63 - 1
_ADLER = 65521
_ENDS = b"\0 "  # what ends a number in a header


class TarError(ValueError):
    """What was read is not a tar archive, is cut off, or declares something that cannot be."""


class TarReader:
    """Iterates over the members of ``source``. What was not read of one is skipped before the next.

    Raises TarError, and what the source raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of the current member that were not read yet
        self._padding = 0
        self._globals: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next member, or None at the end of the archive."""
        try:
            return self._next()
        except Truncated:
            raise TarError("the archive is cut off") from None

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes of the current member as they are stored; everything when it is negative."""
        size = self._left if size < 0 else min(size, self._left)
        try:
            data = self._source.take(size)
        except Truncated:
            raise TarError("the archive is cut off") from None
        self._left -= size
        return data

    def copy(self, write: Callable[[memoryview], None], size: int | None = None) -> None:
        """Hands the next ``size`` bytes of the current member, or all that is left of it, to ``write`` in pieces."""
        size = self._left if size is None else min(size, self._left)
        try:
            self._source.copy(write, size)
        except Truncated:
            raise TarError("the archive is cut off") from None
        self._left -= size

    def _next(self) -> Entry | None:
        source = self._source
        long_name = long_link = None
        pax: dict[str, bytes] = dict(self._globals) if self._globals else {}
        pax_sparse: list[tuple[bytes, bytes]] = []
        while True:
            if self._left or self._padding:
                source.skip(self._left + self._padding)
                self._left = self._padding = 0
            if not source.more():
                if long_name or long_link or len(pax) > len(self._globals):
                    raise Truncated
                return None
            block = source.take(BLOCK)
            if block == _ZEROS:
                return None
            _check(block)
            kind = block[156:157]
            if kind in (_GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _SOLARIS_PAX, _PAX_GLOBAL):
                size = _number(block[124:136], "size")
                if not 0 <= size <= MAX_SPECIAL:
                    raise TarError(f"an extended header of {size} bytes, more than {MAX_SPECIAL}")
                data = source.take(size)
                source.skip(-size % BLOCK)
                if kind == _GNU_LONG_NAME:
                    long_name = data.split(b"\0", 1)[0]
                elif kind == _GNU_LONG_LINK:
                    long_link = data.split(b"\0", 1)[0]
                elif kind == _PAX_GLOBAL:
                    self._globals.update(_global_records(data))
                    pax = dict(self._globals)
                else:
                    for key, value in _pax_records(data):
                        if key.startswith("GNU.sparse."):
                            pax_sparse.append((key.encode(), value))
                        pax[key] = value
                continue
            if kind == _GNU_VOLUME_LABEL:
                self._left = _number(block[124:136], "size")
                self._padding = -self._left % BLOCK
                continue
            entry = self._entry(block, kind, long_name, long_link, pax)
            if pax_sparse:
                self._pax_sparse(entry, pax, pax_sparse)
            _validate(entry)
            return entry

    def _entry(
        self, block: bytes, kind: bytes, long_name: bytes | None, long_link: bytes | None, pax: dict[str, bytes]
    ) -> Entry:
        name = block[:100].split(b"\0", 1)[0] if block[99] == 0 else block[:100]
        magic = block[257:263]
        if magic == b"ustar\0" and block[345] and block[156:157] != _GNU_SPARSE:
            name = block[345:500].split(b"\0", 1)[0] + b"/" + name
        if long_name is not None:
            name = long_name
        if kind in (_OLD_REGULAR, _CONTIGUOUS):
            kind = REGULAR
        entry = Entry(
            name,
            kind,
            _number(block[100:108], "mode") & 0o7777,
            _number(block[108:116], "uid"),
            _number(block[116:124], "gid"),
            _number(block[124:136], "size"),
            _number(block[136:148], "time") * 1_000_000_000,
        )
        if kind in _WITHOUT_DATA:
            if kind in (HARD_LINK, SYMLINK):
                entry.link = block[157:257].split(b"\0", 1)[0] if long_link is None else long_link
            elif kind in (CHARACTER_DEVICE, BLOCK_DEVICE):
                entry.major = _number(block[329:337], "device number")
                entry.minor = _number(block[337:345], "device number")
        if pax:
            _apply_pax(entry, pax)
        if kind == REGULAR and entry.name.endswith(b"/"):
            # How tar said "directory" before ustar; such a member has no contents either.
            entry.kind = kind = DIRECTORY
        if kind in _WITHOUT_DATA:
            entry.size = entry.stored = 0
            return entry
        if not 0 <= entry.size <= _MAX_SIZE:
            raise TarError(f"{shown(entry.name)}: a size of {entry.size}")
        entry.stored = self._left = entry.size
        self._padding = -entry.size % BLOCK
        if kind == _GNU_SPARSE:
            entry.kind = REGULAR
            self._old_sparse(entry, block)
        return entry

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's first format: the map is in the header, and in blocks that follow it."""
        numbers = [_number(block[at : at + 12], "sparse map") for at in range(386, 482, 12) if block[at]]
        more, limit = block[482], MAX_SPARSE_MAP // BLOCK
        entry.size = _number(block[483:495], "size")
        while more:
            limit -= 1
            if limit < 0:
                raise TarError(f"{shown(entry.name)}: a sparse map of more than {MAX_SPARSE_MAP} bytes")
            block = self._source.take(BLOCK)
            numbers += [_number(block[at : at + 12], "sparse map") for at in range(0, 504, 12) if block[at]]
            more = block[504]
        self._set_sparse(entry, numbers)

    def _pax_sparse(self, entry: Entry, pax: dict[str, bytes], records: list[tuple[bytes, bytes]]) -> None:
        """GNU's three formats inside pax: 0.0 repeats two keys, 0.1 has one list, 1.0 keeps the map before the data."""
        if name := pax.get("GNU.sparse.name"):
            entry.name = name
        if pax.get("GNU.sparse.major") == b"1":
            entry.size = _decimal(pax.get("GNU.sparse.realsize", b""), "sparse size")
            numbers = self._map_in_data(entry)
        elif "GNU.sparse.map" in pax:
            entry.size = _decimal(pax.get("GNU.sparse.size", b""), "sparse size")
            numbers = [_decimal(text, "sparse map") for text in pax["GNU.sparse.map"].split(b",") if text]
        elif "GNU.sparse.size" in pax:
            entry.size = _decimal(pax["GNU.sparse.size"], "sparse size")
            wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
            numbers = [_decimal(value, "sparse map") for key, value in records if key in wanted]
        else:
            return
        self._set_sparse(entry, numbers)

    def _map_in_data(self, entry: Entry) -> list[int]:
        numbers: list[int] = []
        wanted, rest, taken = None, b"", 0
        while wanted is None or len(numbers) < wanted:
            taken += BLOCK
            if taken > MAX_SPARSE_MAP or taken > self._left:
                raise TarError(f"{shown(entry.name)}: a sparse map that does not end")
            *lines, rest = (rest + self._source.take(BLOCK)).split(b"\n")
            if len(rest.rstrip(b"\0")) > 20:
                raise TarError(f"{shown(entry.name)}: a sparse map that is not made of numbers")
            for line in lines:
                if wanted is None:
                    wanted = 2 * _decimal(line, "sparse map")
                elif len(numbers) < wanted:
                    numbers.append(_decimal(line, "sparse map"))
        self._left -= taken
        entry.stored -= taken
        return numbers

    def _set_sparse(self, entry: Entry, numbers: list[int]) -> None:
        segments = list(zip(numbers[::2], numbers[1::2], strict=False))
        end = 0
        for offset, length in segments:
            if offset < end or length < 0:
                raise TarError(f"{shown(entry.name)}: a sparse map that is out of order")
            end = offset + length
        fits = end <= entry.size <= _MAX_SIZE and sum(length for _, length in segments) == entry.stored
        if len(numbers) % 2 or not fits:
            raise TarError(f"{shown(entry.name)}: a sparse map that does not fit its file")
        entry.sparse = [segment for segment in segments if segment[1]]


def looks_like_tar(start: bytes) -> bool:
    """Whether ``start``, the first 512 bytes or more, is a tar's beginning. An archive of nothing is zeros."""
    block = start[:BLOCK]
    if len(block) < BLOCK:
        return False
    if block == _ZEROS:
        return True
    try:
        _check(block)
    except TarError:
        return False
    return True


def shown(name: bytes | str) -> str:
    """A name as an error message can have it: not too long, and nothing in it that a terminal would obey."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    text = text if len(text) <= 100 else text[:100] + "…"
    # By hand: a codec would have to be loaded, and the worker that this runs in loads nothing any more.
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _check(block: bytes) -> None:
    """The header's checksum, with its own field as spaces. Old tools summed signed bytes; both are right.

    The low half of adler32 is one more than the sum of the bytes, modulo 65521: the same answer twenty times faster.
    """
    try:
        wanted = int(block[148:156].split(b"\0", 1)[0] or b"-1", 8)
    except ValueError:
        wanted = -1
    rest = block[:148] + b"        " + block[156:]
    if wanted >= 0 and wanted % _ADLER == ((adler32(rest) & 0xFFFF) - 1) % _ADLER:
        return
    if wanted != sum(rest) - 256 * sum(byte > 127 for byte in rest):
        raise TarError("not a tar archive: a header's checksum is wrong")


def _number(text: bytes, what: str) -> int:
    """A header's number: octal, or GNU's base-256 when the first bit is set."""
    if text[-1] in _ENDS:
        try:
            return int(text[:-1], 8)
        except ValueError:
            pass
    if text[0] & 0x80:
        value = int.from_bytes(text, "big")
        bits = 8 * len(text)
        return value - (1 << bits) if text[0] & 0x40 else value - (1 << (bits - 1))
    digits = text.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    try:
        return int(digits, 8)
    except ValueError:
        raise TarError(f"not a tar archive: the {what} in a header is not a number") from None


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError(f"not a number in a pax header: {what} {shown(text)!r}")
    return int(text)


_PERCENT = re.compile("%([0-9a-fA-F]{2})")
_PAX_TIME = re.compile(rb"(-?)(\d{1,15})(?:\.(\d*))?")


def _time(text: bytes) -> int:
    """Decimal seconds to nanoseconds, towards the past as the kernel's own time stamps do."""
    match = _PAX_TIME.fullmatch(text)
    if not match:
        raise TarError(f"not a time in a pax header: {shown(text)!r}")
    value = int(match[2]) * 1_000_000_000 + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -value if match[1] else value


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The "<length> <key>=<value>\\n" records. Values may hold anything, so the lengths are what counts."""
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + 8)
        if space < 0 or not data[at:space].isdigit():
            if not data[at:].strip(b"\0"):
                return  # some writers pad with NULs and count them
            raise TarError("a pax header without a length")
        stop = at + int(data[at:space])
        equals = data.find(b"=", space, stop)
        if equals < 0 or stop > end or data[stop - 1 : stop] != b"\n":
            raise TarError("a pax header that is out of shape")
        yield data[space + 1 : equals].decode("utf-8", "surrogateescape"), data[equals + 1 : stop - 1]
        at = stop


def _global_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The records of a global header that can be meant for every member: nobody means one name or size for all."""
    for key, value in _pax_records(data):
        if key in ("uid", "gid", "mtime") or key.startswith(("SCHILY.xattr.", "LIBARCHIVE.xattr.")):
            yield key, value


def _apply_pax(entry: Entry, pax: dict[str, bytes]) -> None:
    for key, value in pax.items():
        if key == "path":
            entry.name = value
        elif key == "linkpath":
            entry.link = value
        elif key == "mtime":
            entry.mtime = _time(value) if value else entry.mtime
        elif key == "size":
            entry.size = _decimal(value, key)
        elif key == "uid":
            entry.uid = _decimal(value, key)
        elif key == "gid":
            entry.gid = _decimal(value, key)
        elif key.startswith("SCHILY.xattr."):
            entry.xattrs[key[13:]] = value
        elif key.startswith("LIBARCHIVE.xattr."):
            name = _unquoted(key[17:])
            if name not in entry.xattrs:
                try:
                    entry.xattrs[name] = binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
                except ValueError:
                    raise TarError(f"{shown(entry.name)}: an extended attribute that is not base64") from None


def _unquoted(text: str) -> str:
    return _PERCENT.sub(lambda match: chr(int(match[1], 16)), text)


def _validate(entry: Entry) -> None:
    name, link = entry.name, entry.link
    if entry.kind not in _KNOWN:
        raise TarError(f"{shown(name)}: a kind of member that cannot be unpacked: {entry.kind!r}")
    if not name or len(name) > MAX_NAME or b"\0" in name:
        raise TarError(f"a name that no file can have: {shown(name)!r}")
    if link and (len(link) > MAX_NAME or b"\0" in link):
        raise TarError(f"{shown(name)}: a link that no file system can hold")
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise TarError(f"{shown(name)}: owner {entry.uid}:{entry.gid} is out of range")
