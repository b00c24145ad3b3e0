"""Packs a directory, or what an overlay's upper directory changed, into a tar.

The tree may belong to a container that runs and is hostile: every directory is opened relative to its parent's
descriptor without following links, a file is opened only after lstat said that it is a regular one, and what was opened
is looked at again. A file that changes its size meanwhile is cut, or filled up with zeros, to what its header says.

Names come in the order of their bytes, and times are whole seconds, as in Docker's layers; so one tree gives one tar.
"""

import errno
import os
import stat
from collections.abc import Callable

from wherry.storage import placeholders, tar_reader
from wherry.storage.tar_reader import MAX_NAME, Entry, shown
from wherry.storage.tar_writer import TarWriter
from wherry.storage.unpack import OPAQUE, OVERLAY_OPAQUE, WHITEOUT

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should the file have become a FIFO in the meantime, opening it must not wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_ROOT_MODE = 0o755

_KINDS = {
    stat.S_IFREG: tar_reader.REGULAR,
    stat.S_IFDIR: tar_reader.DIRECTORY,
    stat.S_IFLNK: tar_reader.SYMLINK,
    stat.S_IFCHR: tar_reader.CHARACTER_DEVICE,
    stat.S_IFBLK: tar_reader.BLOCK_DEVICE,
    stat.S_IFIFO: tar_reader.FIFO,
}


class PackError(Exception):
    """The tree has something that no tar can say."""


class _Level:
    """A directory that is being packed."""

    __slots__ = ("fd", "names", "prefix")

    def __init__(self, fd: int, prefix: bytes) -> None:
        self.fd = fd
        self.prefix = prefix
        self.names = iter(sorted(os.fsencode(name) for name in os.listdir(fd)))


class Packer:
    """``layer`` turns overlayfs' whiteouts and opaque directories into ".wh." names. Sockets are left out.

    A layer is also without the empty names that containers have things mounted on, unless ``placeholders`` says that
    they are somebody's own.
    """

    def __init__(
        self, write: Callable[[bytes | memoryview], None], *, layer: bool = False, placeholders: bool = False
    ) -> None:
        self._tar = TarWriter(write)
        self._layer = layer
        self._without_placeholders = layer and not placeholders
        self._links: dict[tuple[int, int], bytes] = {}
        self._buffer = memoryview(bytearray(_CHUNK))
        self.size = 0  # bytes of regular files, hard links once

    def pack_tree(self, root: int, prefix: bytes = b"") -> None:
        """All that is below the directory ``root``; itself when it has a ``prefix``, or is not as roots usually are."""
        facts = os.fstat(root)
        unusual = stat.S_IMODE(facts.st_mode) != _ROOT_MODE or facts.st_uid or facts.st_gid
        if prefix or unusual:
            self._add(root, b".", prefix or b"./", facts)
        if prefix and not prefix.endswith(b"/"):
            prefix += b"/"
        levels = [_Level(os.dup(root), prefix)]
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    os.close(levels.pop().fd)
                elif (fd := self._member(level, name)) is not None:
                    levels.append(_Level(fd, level.prefix + name + b"/"))
        finally:
            for level in levels:
                os.close(level.fd)

    def pack_file(self, directory: int, name: bytes, archive_name: bytes) -> None:
        """One file that is not a directory."""
        self._add(directory, name, archive_name, os.stat(name, dir_fd=directory, follow_symlinks=False))

    def close(self) -> None:
        self._tar.close()

    def _member(self, level: _Level, name: bytes) -> int | None:
        """Packs one name; the descriptor of a directory that is to be entered."""
        try:
            facts = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None  # the container has just removed it
        path = level.prefix + name
        if not stat.S_ISDIR(facts.st_mode):
            if self._layer and stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
                self._mark(level.prefix + WHITEOUT + name, facts)
            elif not (self._without_placeholders and placeholders.is_file(os.fsdecode(path), facts)):
                self._add(level.fd, name, path, facts)
            return None
        try:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=level.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None  # replaced since lstat
            raise
        if self._without_placeholders and placeholders.is_directory(os.fsdecode(path), fd):
            os.close(fd)
            return None
        self._add(fd, b".", path, os.fstat(fd))
        if self._layer and _xattr(fd, OVERLAY_OPAQUE) == b"y":
            self._mark(path + b"/" + OPAQUE, facts)
        return fd

    def _mark(self, path: bytes, facts: os.stat_result) -> None:
        """A whiteout: an empty file whose name says it all."""
        mtime = int(facts.st_mtime) * 1_000_000_000
        self._tar.add(Entry(path, tar_reader.REGULAR, 0o600, mtime=mtime))

    def _add(self, directory: int, name: bytes, path: bytes, facts: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode))
        if kind is None:
            return
        if len(path) > MAX_NAME:
            raise PackError(f"{shown(path)}: the path is longer than {MAX_NAME} bytes")
        mtime = facts.st_mtime_ns // 1_000_000_000 * 1_000_000_000
        entry = Entry(path, kind, stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, mtime=mtime)
        if facts.st_nlink > 1 and kind != tar_reader.DIRECTORY:
            identity = (facts.st_dev, facts.st_ino)
            if first := self._links.get(identity):
                entry.kind, entry.link = tar_reader.HARD_LINK, first
                self._tar.add(entry)
                return
            self._links[identity] = path
        if kind == tar_reader.REGULAR:
            self._add_file(directory, name, entry)
            return
        if kind == tar_reader.DIRECTORY:
            entry.xattrs = xattrs(directory)
        elif kind == tar_reader.SYMLINK:
            entry.link = os.readlink(name, dir_fd=directory)
        elif kind in (tar_reader.CHARACTER_DEVICE, tar_reader.BLOCK_DEVICE):
            entry.major, entry.minor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        self._tar.add(entry)

    def _add_file(self, directory: int, name: bytes, entry: Entry) -> None:
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                return  # gone, or replaced by a link or a socket
            raise
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return
            entry.size = entry.stored = facts.st_size
            entry.xattrs = xattrs(fd)
            self._tar.add(entry)
            self.size += entry.size
            left = entry.size
            while left:
                count = os.readv(fd, [self._buffer[: min(left, _CHUNK)]])
                if not count:
                    break
                self._tar.write(self._buffer[:count])
                left -= count
            while left:  # the file was cut while it was read
                self._tar.write(bytes(min(left, _CHUNK)))
                left -= min(left, _CHUNK)
        finally:
            os.close(fd)


def xattrs(fd: int) -> dict[str, bytes]:
    """The extended attributes that belong to a file wherever it goes: not the labels of this machine's security."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    found = {}
    for name in names:
        travels = name == "security.capability" or name.startswith(("user.", "trusted.", "system.posix_acl_"))
        if travels and not name.startswith(("trusted.overlay.", "user.overlay.")):
            value = _xattr(fd, name)
            if value is not None:
                found[name] = value
    return found


def _xattr(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
