"""A tar of a local file or tree, piece by piece as it is read."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections.abc import Iterator

from wherry.cli.command import CommandError
from wherry.cli.output_file import reason

PIECE = 1 << 20
CAPABILITIES = "security.capability"  # the one attribute that docker takes along
_RECORD = tarfile.RECORDSIZE

Pieces = Iterator[bytes | memoryview]


def pack(path: str, name: str) -> Pieces:
    """`path` and all below it; its names begin with `name`. Raises CommandError for what cannot be read."""
    packer = _Packer()
    try:
        yield from packer.tree(path, name)
    except OSError as error:
        raise CommandError(f"{error.filename or path}: {reason(error)}") from None
    end = packer.written + 2 * tarfile.BLOCKSIZE
    yield bytes(2 * tarfile.BLOCKSIZE + -end % _RECORD)


class _Packer:
    def __init__(self) -> None:
        self.written = 0
        self._linked: dict[tuple[int, int], str] = {}
        self._buffer = bytearray(PIECE)

    def tree(self, path: str, name: str) -> Pieces:
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode):
            return  # nothing that a copy of would be of use
        header = self._describe(path, name, found)
        yield self._counted(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        if header.isreg() and found.st_size:
            yield from self._content(path, found.st_size)
        if header.isdir():
            with os.scandir(path) as entries:
                below = sorted(entry.name for entry in entries)
            for each in below:
                yield from self.tree(f"{path.rstrip('/')}/{each}", f"{name.rstrip('/')}/{each}")

    def _describe(self, path: str, name: str, found: os.stat_result) -> tarfile.TarInfo:
        header = tarfile.TarInfo(name)
        header.mode = stat.S_IMODE(found.st_mode)
        header.uid, header.gid, header.mtime = found.st_uid, found.st_gid, int(found.st_mtime)
        if stat.S_ISDIR(found.st_mode):
            header.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(found.st_mode):
            header.type, header.linkname = tarfile.SYMTYPE, os.readlink(path)
        elif known := self._known(found, name):
            header.type, header.linkname = tarfile.LNKTYPE, known
        elif stat.S_ISREG(found.st_mode):
            header.size = found.st_size
            header.pax_headers = _capabilities(path)
        elif stat.S_ISFIFO(found.st_mode):
            header.type = tarfile.FIFOTYPE
        else:
            header.type = tarfile.CHRTYPE if stat.S_ISCHR(found.st_mode) else tarfile.BLKTYPE
            header.devmajor, header.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        return header

    def _known(self, found: os.stat_result, name: str) -> str:
        """The name under which a file with several names is in the archive already."""
        if found.st_nlink < 2:
            return ""
        known = self._linked.setdefault((found.st_dev, found.st_ino), name)
        return known if known != name else ""

    def _content(self, path: str, size: int) -> Pieces:
        """Exactly as much as was announced: what is appended meanwhile is left out."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        view = memoryview(self._buffer)
        left = size
        try:
            while left:
                count = os.readv(descriptor, [view[: min(left, PIECE)]])
                if not count:
                    raise CommandError(f"{path}: became shorter while it was read")
                left -= count
                yield self._counted(view[:count])
        finally:
            os.close(descriptor)
        yield self._counted(bytes(-size % tarfile.BLOCKSIZE))

    def _counted(self, piece: bytes | memoryview) -> bytes | memoryview:
        self.written += len(piece)
        return piece


def _capabilities(path: str) -> dict[str, str]:
    """A file's capabilities as a PAX record, if it has any."""
    if sys.platform != "linux":
        return {}
    try:
        value = os.getxattr(path, CAPABILITIES, follow_symlinks=False)
    except OSError:
        return {}
    return {f"SCHILY.xattr.{CAPABILITIES}": value.decode("utf-8", "surrogateescape")}
