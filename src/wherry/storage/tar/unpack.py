"""Unpacks a tar into a directory that the tar cannot lead out of.

Names are taken relative to the root, absolute ones too, as Docker does; a name that climbs above the root by ".." is
refused. The directory that holds a member is opened with openat2(RESOLVE_IN_ROOT): a symlink on the way resolves as it
would for a process that is chrooted there, so "lib -> usr/lib" works and "out -> ../../.." stays inside. The last
component is made relative to that descriptor and never follows a link. The worker that runs this on behalf of the
engine is also chrooted into the directory, so that two walls would have to fall.

Whiteouts (the OCI image specification's ".wh." names) become overlayfs' own when a layer is made: a character device
0:0 for a name that is gone, and an xattr on a directory that hides what is below it.
"""

import contextlib
import os
import posixpath
import stat
from collections.abc import Callable

from wherry.common.tar import BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, Entry
from wherry.linux import files, user_namespaces
from wherry.linux.syscalls import SyscallError
from wherry.storage.staging import remove_tree
from wherry.storage.tar.contents import Contents, ContentsWriter, UnpackError, set_time, set_xattr
from wherry.storage.tar.reader import TarError, TarReader, shown
from wherry.storage.tar.sources import Source

WHITEOUT = b".wh."
_WHITEOUT_META = b".wh..wh."
OPAQUE = b".wh..wh..opq"
OVERLAY_OPAQUE = "trusted.overlay.opaque" if user_namespaces.is_initial() else "user.overlay.opaque"
"""As overlayfs is told with its option "userxattr", in a user namespace."""

_ATTEMPTS = 100  # at what another one makes again as soon as it is taken away
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IMPLIED_DIRECTORY_MODE = 0o755
_OPEN_DIRECTORIES = 64


class _Directory:
    """An open directory. ``setgid``: new files get its group, so that theirs has to be set."""

    __slots__ = ("fd", "setgid")

    def __init__(self, fd: int, setgid: bool) -> None:
        self.fd = fd
        self.setgid = setgid


_Make = Callable[[TarReader, Entry, bytes, _Directory, bytes], None]


class Limits:
    """``space`` is how many bytes may be written, ``members`` how many files may be made. None is no limit."""

    def __init__(self, space: int | None = None, members: int | None = None) -> None:
        self.space = space
        self.members = members

    @classmethod
    def of_file_system(cls, fd: int) -> "Limits":
        """What leaves a twentieth of the file system free: a bomb must not take the machine with it."""
        facts = os.fstatvfs(fd)
        reserve = facts.f_blocks // 20
        members = facts.f_favail - facts.f_files // 20 if facts.f_files else None
        return cls(max(0, facts.f_bavail - reserve) * facts.f_frsize, members)


class Unpacked:
    """What came out: members of the archive, and the bytes of its regular files as they appear (holes count)."""

    def __init__(self) -> None:
        self.members = 0
        self.size = 0


class Unpacker:
    """Unpacks archives into ``root``, a descriptor of a directory.

    ``layer`` makes overlayfs whiteouts out of ".wh." names; otherwise these are names like any other. ``owner``
    replaces every owner. ``keep_kinds`` refuses to put a directory in the place of something else and the reverse,
    instead of replacing it. Raises TarError for what the archive does, OSError for what the file system says.
    """

    def __init__(
        self,
        root: int,
        *,
        layer: bool = False,
        owner: tuple[int, int] | None = None,
        keep_kinds: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._root = root
        self._layer = layer
        self._owner = (0, 0) if user_namespaces.has_one_id() else owner
        self._keep_kinds = keep_kinds
        self._limits = limits or Limits()
        self._ids = (os.geteuid(), os.getegid())
        self._directories: dict[bytes, _Directory] = {}
        self._times: dict[bytes, int] = {}
        self._written = 0
        self._make: dict[bytes, _Make] = {
            REGULAR: self._file,
            HARD_LINK: self._hard_link,
            SYMLINK: self._symlink,
            CHARACTER_DEVICE: self._node,
            BLOCK_DEVICE: self._node,
            FIFO: self._node,
        }

    def unpack(self, source: Source) -> Unpacked:
        umask = os.umask(0)  # modes are the archive's
        self._contents = ContentsWriter()
        try:
            return self._unpack(TarReader(source))
        finally:
            os.umask(umask)
            with contextlib.suppress(OSError):  # raised already, or of no interest beside what is being raised
                self._contents.close()
            for directory in self._directories.values():
                os.close(directory.fd)
            self._directories.clear()
            self._times.clear()

    def _unpack(self, reader: TarReader) -> Unpacked:
        result = Unpacked()
        for entry in reader:
            result.members += 1
            result.size += entry.size
            self._charge(entry)
            try:
                self._member(reader, entry)
            except OSError as error:
                if isinstance(error, UnpackError):
                    raise
                raise UnpackError(error.errno, entry.name) from error
        self._contents.close()
        self._set_directory_times()
        return result

    def _charge(self, entry: Entry) -> None:
        self._written += 1
        limits = self._limits
        if limits.members is not None and self._written > limits.members:
            raise TarError("the archive has more files than the file system has room for")
        if limits.space is not None:
            limits.space -= entry.stored
            if limits.space < 0:
                raise TarError(f"{shown(entry.name)}: the archive is larger than the file system has room for")

    def _member(self, reader: TarReader, entry: Entry) -> None:
        path = clean(entry.name)
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if not path:
            if entry.kind != DIRECTORY:
                raise TarError("the archive puts something that is not a directory in place of the root")
            self._describe(self._root, entry)
            self._times[b""] = entry.mtime
            return
        parent, _, base = path.rpartition(b"/")
        directory = self._directories.get(parent) or self._open(parent)
        if self._layer and base.startswith(WHITEOUT):
            self._whiteout(parent, directory, base)
        elif entry.kind == DIRECTORY:
            self._directory(entry, path, directory, base)
        else:
            make = self._make[entry.kind]
            try:
                make(reader, entry, path, directory, base)
            except FileExistsError:
                self._make_in_place(make, reader, entry, path, directory, base)

    def _make_in_place(
        self, make: _Make, reader: TarReader, entry: Entry, path: bytes, directory: _Directory, base: bytes
    ) -> None:
        """Somebody else may write here, too: the container, or another copy into it."""
        for attempt in range(_ATTEMPTS):
            self._replace(path, directory, base)
            try:
                return make(reader, entry, path, directory, base)
            except FileExistsError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    # What there is of each kind

    def _file(self, reader: TarReader, entry: Entry, path: bytes, directory: _Directory, base: bytes) -> None:
        fd = os.open(base, _CREATE, entry.mode, dir_fd=directory.fd)
        chown = (entry.uid, entry.gid) != self._ids or directory.setgid
        self._contents.begin(Contents(fd, entry, chown))
        if entry.sparse is not None:
            for offset, length in entry.sparse:
                self._contents.seek(offset)
                reader.copy(self._contents.write, length)
        elif entry.stored:
            reader.copy(self._contents.write)

    def _symlink(self, reader: TarReader, entry: Entry, path: bytes, directory: _Directory, base: bytes) -> None:
        if not entry.link:
            raise TarError(f"{shown(entry.name)}: a symbolic link to nothing")
        os.symlink(entry.link, base, dir_fd=directory.fd)
        self._describe_by_name(entry, directory, base)

    def _node(self, reader: TarReader, entry: Entry, path: bytes, directory: _Directory, base: bytes) -> None:
        kind = {CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}.get(entry.kind)
        if kind is None:
            os.mkfifo(base, entry.mode, dir_fd=directory.fd)
        else:
            if not (0 <= entry.major < 2**12 and 0 <= entry.minor < 2**20):
                raise TarError(f"{shown(entry.name)}: device {entry.major}:{entry.minor} is out of range")
            device = os.makedev(entry.major, entry.minor)
            try:
                os.mknod(base, kind | entry.mode, device, dir_fd=directory.fd)
            except PermissionError:
                if user_namespaces.is_initial():
                    raise
                return  # no devices are made in a user namespace, and as in Docker the layer does without
        self._describe_by_name(entry, directory, base)

    def _hard_link(self, reader: TarReader, entry: Entry, path: bytes, directory: _Directory, base: bytes) -> None:
        target = clean(entry.link)
        if target == path:
            return  # GNU tar writes this for a file that is given twice
        parent, _, name = target.rpartition(b"/")
        try:
            # Not _open: that would make what is missing, and a link to nothing is an error.
            source = _open_in(self._root, parent, os.O_PATH | os.O_DIRECTORY)
            try:
                os.link(name, base, src_dir_fd=source, dst_dir_fd=directory.fd, follow_symlinks=False)
            finally:
                os.close(source)
        except (FileNotFoundError, NotADirectoryError):
            raise TarError(f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which is not there") from None

    def _directory(self, entry: Entry, path: bytes, parent: _Directory, base: bytes) -> None:
        hidden = False
        try:
            os.mkdir(base, entry.mode, dir_fd=parent.fd)
        except FileExistsError:
            found = os.stat(base, dir_fd=parent.fd, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                # The layer removes the old one and brings a directory: what is below must not shine through.
                hidden = self._layer and stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
                self._replace(path, parent, base, by_directory=True)
                os.mkdir(base, entry.mode, dir_fd=parent.fd)
        known = self._directories.pop(path, None)
        fd = known.fd if known else os.open(base, _OPEN_DIRECTORY, dir_fd=parent.fd)
        self._remember(path, _Directory(fd, bool(entry.mode & stat.S_ISGID)))
        self._describe(fd, entry)
        if hidden:
            os.setxattr(fd, OVERLAY_OPAQUE, b"y")
        self._times[path] = entry.mtime

    def _whiteout(self, parent: bytes, directory: _Directory, base: bytes) -> None:
        if base == OPAQUE:
            os.setxattr(directory.fd, OVERLAY_OPAQUE, b"y")
            return
        if base.startswith(_WHITEOUT_META):
            return  # aufs' own bookkeeping, which old layers carry about
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise TarError(f"{shown(parent + b'/' + base)}: a whiteout of nothing")
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory.fd)
        except FileExistsError:
            # The same layer also brings a new one. A file hides the old one by itself; a directory has to be told.
            if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory.fd)
                try:
                    os.setxattr(fd, OVERLAY_OPAQUE, b"y")
                finally:
                    os.close(fd)

    # Owners, modes, attributes, times

    def _describe(self, fd: int, entry: Entry) -> None:
        """A directory's metadata, but for its time, which is set when nothing changes in it any more."""
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            set_xattr(fd, name, value)

    def _describe_by_name(self, entry: Entry, directory: _Directory, base: bytes) -> None:
        """The same for what cannot be opened. ``base`` was made just now, with O_EXCL's promise."""
        if (entry.uid, entry.gid) != self._ids or directory.setgid:
            os.chown(base, entry.uid, entry.gid, dir_fd=directory.fd, follow_symlinks=False)
            if entry.kind != SYMLINK:
                os.chmod(base, entry.mode, dir_fd=directory.fd)
        if entry.xattrs:
            self._xattrs_by_name(entry, directory, base)
        set_time(base, entry.mtime, directory.fd)

    def _xattrs_by_name(self, entry: Entry, directory: _Directory, base: bytes) -> None:
        # There is no lsetxattrat before Linux 6.13, so the directory has to be the current one.
        before = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            os.fchdir(directory.fd)
            for name, value in entry.xattrs.items():
                set_xattr(base, name, value)
        finally:
            os.fchdir(before)
            os.close(before)

    def _set_directory_times(self) -> None:
        for path, mtime in self._times.items():
            parent, _, base = path.rpartition(b"/")
            if path in self._directories:
                set_time(self._directories[path].fd, mtime)
            elif base:
                set_time(base, mtime, self._open(parent).fd)
            else:
                set_time(self._root, mtime)

    # Directories on the way

    def _open(self, path: bytes) -> _Directory:
        """The directory at ``path``, made with its parents when it is not there. It stays open for a while."""
        if known := self._directories.get(path):
            return known
        try:
            return self._keep(path, _open_in(self._root, path, os.O_RDONLY | os.O_DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            pass
        names = path.split(b"/")
        directory = self._directories.get(b"") or self._keep(b"", os.dup(self._root))
        for depth in range(len(names)):
            directory = self._step(directory, names[depth], b"/".join(names[: depth + 1]))
        return directory

    def _step(self, parent: _Directory, base: bytes, path: bytes) -> _Directory:
        """The directory ``base`` of ``parent``, made when it is not there."""
        if known := self._directories.get(path):
            return known
        try:
            return self._keep(path, _open_in(self._root, path, os.O_RDONLY | os.O_DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            pass
        try:
            os.mkdir(base, _IMPLIED_DIRECTORY_MODE, dir_fd=parent.fd)
        except FileExistsError:
            if stat.S_ISLNK(os.stat(base, dir_fd=parent.fd, follow_symlinks=False).st_mode):
                raise TarError(f"{shown(path)}: a directory that is a link to nothing") from None
            self._replace(path, parent, base, by_directory=True)
            os.mkdir(base, _IMPLIED_DIRECTORY_MODE, dir_fd=parent.fd)
        fd = os.open(base, _OPEN_DIRECTORY, dir_fd=parent.fd)
        if self._owner is not None:
            os.fchown(fd, *self._owner)
        return self._keep(path, fd)

    def _keep(self, path: bytes, fd: int) -> _Directory:
        directory = _Directory(fd, bool(os.fstat(fd).st_mode & stat.S_ISGID))
        self._remember(path, directory)
        return directory

    def _remember(self, path: bytes, directory: _Directory) -> None:
        if len(self._directories) >= _OPEN_DIRECTORIES:
            oldest = next(iter(self._directories))
            os.close(self._directories.pop(oldest).fd)
        self._directories[path] = directory

    def _replace(self, path: bytes, directory: _Directory, base: bytes, by_directory: bool = False) -> None:
        """Takes away what is in the way, of whatever kind, and forgets what was known about it and below it."""
        if self._keep_kinds and by_directory:
            raise TarError(f"cannot overwrite non-directory {_quoted(path)} with directory {_quoted(path)}")
        try:
            os.unlink(base, dir_fd=directory.fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if self._keep_kinds:
                text = f"cannot overwrite directory {_quoted(path)} with non-directory {_quoted(path)}"
                raise TarError(text) from None
            remove_tree(base, directory.fd)
        below = path + b"/"
        for known in [name for name in self._directories if name == path or name.startswith(below)]:
            os.close(self._directories.pop(known).fd)
        for known in [name for name in self._times if name == path or name.startswith(below)]:
            del self._times[known]


def clean(name: bytes) -> bytes:
    """``name`` relative to the root, without "." and ".."; the root is empty. Raises TarError if it climbs out."""
    if name[:2] == b"./":
        name = name[2:]
    if not (b".." in name or b"//" in name or b"/./" in name or name[:1] in (b"/", b".") or name[-2:] == b"/."):
        return name.rstrip(b"/")
    path = posixpath.normpath(name.lstrip(b"/") or b".")
    if path == b".." or path.startswith(b"../"):
        raise TarError(f"{shown(name)}: a name that leads out of the archive")
    return b"" if path == b"." else path


def _open_in(root: int, path: bytes, flags: int) -> int:
    try:
        return files.open_in(root, os.fsdecode(path), flags)
    except SyscallError as error:
        raise OSError(error.errno, error.strerror) from None  # as FileNotFoundError and its kin


def _quoted(name: bytes) -> str:
    return f'"/{shown(name)}"'
