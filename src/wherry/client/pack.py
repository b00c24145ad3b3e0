"""Local files as members of a tar, piece by piece as they are read: what `cp` sends, and the context of a build."""

from __future__ import annotations

import os
import stat
import sys

from wherry.client.transport import ClientError
from wherry.common import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Pieces = Iterator[bytes | memoryview]

PIECE = 1 << 20
CAPABILITIES = "security.capability"  # the one attribute that docker takes along
_SECOND = 10**9
_RECORD = 20 * tar.BLOCK  # what tar(1) fills an archive up to

_KINDS = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER_DEVICE,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


def pack(path: str, name: str) -> Pieces:
    """`path` and all below it; its names begin with `name`. Raises ClientError for what cannot be read."""
    packer = Packer(owners=True)
    try:
        yield from packer.tree(path, name)
    except OSError as error:
        raise ClientError(f"{error.filename or path}: {(error.strerror or '').lower()}") from None
    yield packer.end()


class Packer:
    """Files with several names are in the archive once. `owners`: with owners, capabilities and devices."""

    def __init__(self, *, owners: bool = False) -> None:
        self._owners = owners
        self._linked: dict[tuple[int, int], bytes] = {}
        self._buffer = bytearray(PIECE)
        self._written = 0

    def tree(self, path: str, name: str) -> Pieces:
        """`path` and all below it; its names begin with `name`. Raises OSError, and as `member` does."""
        facts = os.lstat(path)
        yield from self.member(path, name, facts)
        if stat.S_ISDIR(facts.st_mode):
            for below in sorted(os.listdir(path)):
                yield from self.tree(f"{path.rstrip('/')}/{below}", f"{name.rstrip('/')}/{below}")

    def member(self, path: str, name: str, facts: os.stat_result) -> Pieces:
        """Raises OSError, and ClientError for a file that changes meanwhile. Sockets are left out."""
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode))
        if kind is None or (kind in (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE) and not self._owners):
            return
        entry = tar.Entry(os.fsencode(name), kind, stat.S_IMODE(facts.st_mode), mtime=int(facts.st_mtime) * _SECOND)
        if self._owners:
            entry.uid, entry.gid = facts.st_uid, facts.st_gid
            entry.major, entry.minor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        if kind == tar.SYMLINK:
            entry.link = os.fsencode(os.readlink(path))
        elif kind != tar.DIRECTORY and facts.st_nlink > 1:
            first = self._linked.setdefault((facts.st_dev, facts.st_ino), entry.name)
            if first != entry.name:
                entry.kind, entry.link = tar.HARD_LINK, first
        if entry.kind == tar.REGULAR:
            entry.size = facts.st_size
            entry.xattrs = _capabilities(path) if self._owners else {}
        yield self._counted(tar.header(entry))
        if entry.size:
            yield from self._content(path, entry.size)

    def _content(self, path: str, size: int) -> Pieces:
        """Exactly as much as was announced: what is appended meanwhile is left out."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        view = memoryview(self._buffer)
        left = size
        try:
            while left:
                count = os.readv(descriptor, [view[: min(left, PIECE)]])
                if not count:
                    raise ClientError(f"{path}: became shorter while it was read")
                left -= count
                yield self._counted(view[:count])
        finally:
            os.close(descriptor)
        yield self._counted(bytes(-size % tar.BLOCK))

    def text(self, name: str, content: bytes) -> Pieces:
        """A file that is no file of this machine."""
        yield self._counted(tar.header(tar.Entry(os.fsencode(name), tar.REGULAR, size=len(content))))
        yield self._counted(content + bytes(-len(content) % tar.BLOCK))

    def end(self) -> bytes:
        return tar.END + bytes(-(self._written + len(tar.END)) % _RECORD)

    def _counted(self, piece: bytes | memoryview) -> bytes | memoryview:
        self._written += len(piece)
        return piece


def _capabilities(path: str) -> dict[str, bytes]:
    """A file's capabilities, if it has any."""
    if sys.platform != "linux":
        return {}
    try:
        return {CAPABILITIES: os.getxattr(path, CAPABILITIES, follow_symlinks=False)}
    except OSError:
        return {}
