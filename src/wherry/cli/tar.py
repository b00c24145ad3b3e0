"""A tar becomes local files: everything below one directory, whatever the archive says.

The archive comes from a container, which nobody needs to trust: names are resolved a component at a time from a
descriptor of the directory, and never through a link. What is copied is the user's, as docker does it, unless owners
are to be kept and the user is root: nobody else may give files away.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tarfile

from wherry.cli.copy_paths import rename
from wherry.cli.session import CommandError, reason
from wherry.client.pack import CAPABILITIES, PIECE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Source = Callable[[], memoryview]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Body:
    """The archive as it comes, for tarfile to read headers from, and for files' content to be written from."""

    def __init__(self, source: Source) -> None:
        """`source` gives the next bytes, as many as there are, none at the end; they are good until the next call."""
        self._source = source
        self._piece = memoryview(b"")
        self._position = 0

    def take(self, limit: int) -> memoryview:
        """Up to that many bytes, none at the end."""
        if not self._piece:
            self._piece = self._source()
        taken, self._piece = self._piece[:limit], self._piece[limit:]
        self._position += len(taken)
        return taken

    def read(self, size: int) -> bytes:
        parts = []
        while size and (part := self.take(size)):
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Forward only."""
        while self._position < position and self.take(min(position - self._position, PIECE)):
            pass
        return self._position


class Unpacker:
    """`old` and `new`: what the top name in the archive is replaced by."""

    def __init__(self, directory: str, old: str = "", new: str = "", *, keep_owners: bool = False) -> None:
        self._old, self._new = old, new
        self._keep_owners = keep_owners and os.geteuid() == 0
        try:
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CommandError(f"open {directory}: {reason(error)}") from None
        self._path = directory.rstrip("/") or "/"
        self._times: list[tuple[str, int, int]] = []

    def unpack(self, source: Source) -> None:
        """Raises CommandError for what cannot be written, and for what is no tar."""
        body = Body(source)
        try:
            archive = tarfile.TarFile(fileobj=body, mode="r", errors="surrogateescape")  # type: ignore[arg-type]  # reads
            while (member := archive.next()) is not None:
                self._member(body, member)
                archive.members = []  # type: ignore[attr-defined]  # it would remember them all
            self._set_times()
        except (tarfile.TarError, OverflowError) as error:  # which an owner can be, or a time
            raise CommandError(f"the archive that the engine sent cannot be read: {error}") from None
        except OSError as error:
            raise CommandError(f"{self._path}: {error.filename or ''}: {reason(error)}") from None
        finally:
            os.close(self._root)

    def _name(self, name: str) -> str:
        """A member's name in the directory; "" for the directory itself. Raises CommandError when it leads out."""
        parts = [part for part in rename(name, self._old, self._new).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise CommandError(f"the archive has a name that leads out of it: {name}")
        return "/".join(parts)

    def _member(self, body: Body, member: tarfile.TarInfo) -> None:
        name = self._name(member.name)
        if not name:
            return
        parent_name, _, last = name.rpartition("/")
        parent = self._open(parent_name)
        try:
            self._make_way(parent, last, name, member)
            if member.isdir():
                self._directory(parent, last, name, member)
            elif member.isreg():
                self._file(parent, last, body, member)
            elif member.issym():
                os.symlink(member.linkname, last, dir_fd=parent)
            elif member.islnk():
                self._hard_link(parent, last, member)
            elif member.isfifo():
                os.mkfifo(last, member.mode, dir_fd=parent)
            else:
                kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
                os.mknod(last, kind | member.mode, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
            if self._keep_owners and not (member.isdir() or member.isreg() or member.islnk()):
                os.chown(last, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            if not member.isdir() and not member.islnk():
                moment = int(member.mtime)
                os.utime(last, (moment, moment), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def _open(self, name: str) -> int:
        """A descriptor of a directory, made with its parents when it is not there."""
        found = os.dup(self._root)
        for part in name.split("/") if name else ():
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=found)
            try:
                below = os.open(part, _DIRECTORY, dir_fd=found)
            finally:
                os.close(found)
            found = below
        return found

    def _make_way(self, parent: int, last: str, name: str, member: tarfile.TarInfo) -> None:
        """Removes a file that is to be replaced; a directory never becomes something else, nor the reverse."""
        try:
            is_directory = stat.S_ISDIR(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        place = f'"{self._path}/{name}"'
        if is_directory and not member.isdir():
            raise CommandError(f"cannot overwrite directory {place} with non-directory {place}")
        if not is_directory and member.isdir():
            raise CommandError(f"cannot overwrite non-directory {place} with directory {place}")
        if not is_directory:
            os.unlink(last, dir_fd=parent)

    def _directory(self, parent: int, last: str, name: str, member: tarfile.TarInfo) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(last, 0o700, dir_fd=parent)
        made = os.open(last, _DIRECTORY, dir_fd=parent)
        try:
            self._give(made, member)
            # What comes below it must be possible until all is there.
            os.fchmod(made, member.mode | 0o700)
        finally:
            os.close(made)
        self._times.append((name, int(member.mtime), member.mode))

    def _file(self, parent: int, last: str, body: Body, member: tarfile.TarInfo) -> None:
        descriptor = os.open(last, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            sparse: list[tuple[int, int]] | None = member.sparse  # type: ignore[assignment]  # typeshed has another type
            for offset, length in [(0, member.size)] if sparse is None else sparse:
                os.lseek(descriptor, offset, os.SEEK_SET)
                _copy(body, descriptor, length)
            if sparse is not None:
                os.ftruncate(descriptor, member.size)
            self._give(descriptor, member)
            os.fchmod(descriptor, member.mode)
            capabilities = member.pax_headers.get(f"SCHILY.xattr.{CAPABILITIES}")
            if capabilities and sys.platform == "linux":
                _set_capabilities(descriptor, capabilities)
        finally:
            os.close(descriptor)

    def _give(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Before modes and capabilities, of which the kernel takes some away from what is given to somebody."""
        if self._keep_owners:
            os.fchown(descriptor, member.uid, member.gid)

    def _hard_link(self, parent: int, last: str, member: tarfile.TarInfo) -> None:
        directory, _, target = self._name(member.linkname).rpartition("/")
        source = self._open(directory)
        try:
            os.link(target, last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _set_times(self) -> None:
        """Sets directories' times when nothing changes in them any more, the lowest first; and modes without write."""
        for name, moment, mode in reversed(self._times):
            made = self._open(name)
            try:
                os.utime(made, (moment, moment))
                if mode & 0o700 != 0o700:
                    os.fchmod(made, mode)
            finally:
                os.close(made)


def _copy(body: Body, descriptor: int, size: int) -> None:
    while size:
        piece = body.take(size)
        if not piece:
            raise CommandError("the archive that the engine sent ends too early")
        size -= len(piece)
        while piece:
            piece = piece[os.write(descriptor, piece) :]


def _set_capabilities(descriptor: int, value: str) -> None:
    with contextlib.suppress(OSError):  # who may not give a file capabilities gets it without, as from docker
        os.setxattr(descriptor, CAPABILITIES, value.encode("utf-8", "surrogateescape"))
