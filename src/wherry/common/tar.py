"""Headers of tar, as they are written: ustar where that is enough, with a pax header where it is not.

The same entry gives the same bytes. The engine writes layers and archives with it, the clients what they copy and the
contexts of their builds.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"

_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777


class Entry:
    """One member. ``size`` is what the file has when it is there; ``stored`` is what the archive holds of it.

    Names are bytes, as the kernel has them. ``mode`` is the permission bits alone; times are in nanoseconds.
    ``sparse`` is the list of (offset, length) that hold data, or None for a file without holes.
    """

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "size",
        "sparse",
        "stored",
        "uid",
        "xattrs",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        kind: bytes,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime: int = 0,
        link: bytes = b"",
    ) -> None:
        self.name = name
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = self.stored = size
        self.mtime = mtime
        self.link = link
        self.major = self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


def header(entry: Entry) -> bytes:
    """The blocks in front of a member's contents."""
    records: list[tuple[bytes, bytes]] = []
    name = entry.name
    if entry.kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    prefix, short = _split(name)
    if short is None:
        records.append((b"path", name))
        short = name[:100]
    link = entry.link if entry.kind in (SYMLINK, HARD_LINK) else b""
    if len(link) > 100:
        records.append((b"linkpath", link))
        link = link[:100]
    size = entry.size if entry.kind == REGULAR else 0
    if size > _MAX_OCTAL_SIZE:
        records.append((b"size", b"%d" % size))
        size = 0
    uid, gid = entry.uid, entry.gid
    if uid > _MAX_OCTAL_ID:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _MAX_OCTAL_ID:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    seconds, fraction = divmod(entry.mtime, 1_000_000_000)
    if fraction or not 0 <= seconds <= _MAX_OCTAL_SIZE:
        records.append((b"mtime", _decimal(entry.mtime)))
        seconds = min(max(0, seconds), _MAX_OCTAL_SIZE)
    for key, value in sorted(entry.xattrs.items()):
        records.append((b"SCHILY.xattr." + key.encode("utf-8", "surrogateescape"), value))
    block = _block(short, entry.mode, uid, gid, size, seconds, entry.kind, link, prefix, entry.major, entry.minor)
    if not records:
        return block
    body = b"".join(_record(key, value) for key, value in records)
    base = name.rstrip(b"/").rpartition(b"/")[2][:80] or b"root"
    pax = _block(b"PaxHeaders.0/" + base, 0o644, 0, 0, len(body), 0, b"x", b"", b"", 0, 0)
    return pax + body + bytes(-len(body) % BLOCK) + block


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    prefix: bytes,
    major: int,
    minor: int,
) -> bytes:
    device = b"%07o\0%07o\0" % (major, minor) if kind in (CHARACTER_DEVICE, BLOCK_DEVICE) else b"0000000\0" * 2
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%b" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
        kind,
        link.ljust(100, b"\0"),
    )
    block = (block + b"ustar\x0000" + bytes(64) + device + prefix.ljust(155, b"\0")).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """``name`` as ustar's prefix and name, or (b"", None) when it does not fit."""
    if len(name) <= 100:
        return b"", name
    # Not on the slash that ends a directory's name, and with something on both sides.
    cut = name.find(b"/", max(1, len(name) - 101), len(name) - 1)
    if cut < 0 or cut > 155:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """ "<length> <key>=<value>\\n", in which the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _decimal(time: int) -> bytes:
    sign = "-" if time < 0 else ""
    seconds, fraction = divmod(abs(time), 1_000_000_000)
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".").encode()
