"""Inside the worker: files of one tree are copied into another root, as COPY and ADD do it.

The worker has made the root its own "/" before anything is written, so that no link of the root leads out of it; what
is read comes through descriptors of the other tree (``selection``).
"""

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable

from wherry.common.tar import BLOCK
from wherry.storage.tar import compression, reader
from wherry.storage.tar.contents import set_xattr
from wherry.storage.tar.sources import StreamSource
from wherry.storage.tar.unpack import Unpacker
from wherry.storage.tar.writer import xattrs
from wherry.storage.worker.layer import Reported
from wherry.storage.worker.select import Entry, Found, Tree

Owner = tuple[int, int]
Mode = Callable[[int], int]

_CHUNK = 1 << 20
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")


class Copier:
    """Copies into this process's root. ``owner`` None keeps owners, ``mode`` None modes.

    ``unpack`` extracts sources that are archives instead of copying them, ``whole`` copies directories themselves, not
    what is in them, and ``time``, in nanoseconds, is given to all that is copied, if not negative.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        owner: Owner | None,
        mode: Mode | None = None,
        parents: bool = False,
        unpack: bool = False,
        whole: bool = False,
        time: int = -1,
    ) -> None:
        self._tree = tree
        self._owner = owner
        self._mode = mode
        self._parents = parents
        self._unpack = unpack
        self._whole = whole
        self._time = time
        self._links: dict[tuple[int, int], str] = {}
        self._times: list[tuple[str, int]] = []

    def copy(self, found: Found, destination: str) -> None:
        """One source to ``destination``, which is a directory when it ends with a slash, or is one already.

        Hard links are kept among the files of one source; of two sources each gets files of its own, as in BuildKit.
        """
        self._links.clear()
        inside = destination.endswith("/")
        place = os.path.realpath(destination)
        if self._parents:
            self._copy_with_parents(found, place)
        elif found.is_directory:
            if self._whole and found.path:
                place = self._place_for(found, place, inside)
                if self._make_directory(place):
                    self._describe(place, found.facts)
            self._copy_directory(found, place)
        elif stat.S_ISLNK(found.facts.st_mode):
            self._copy_link(self._tree.read_link(found), found.facts, self._place_for(found, place, inside))
        else:
            fd = self._tree.open(found)
            try:
                if self._unpack and (kind := _archive(fd)) is not None:
                    self._extract(fd, kind, place)
                    return
                self._copy_opened(fd, found.facts, self._place_for(found, place, inside))
            finally:
                os.close(fd)
        self._set_times()

    def _place_for(self, found: Found, place: str, inside: bool) -> str:
        """Where a source comes to be, in a directory or by a name of its own; what it lies in is made."""
        if inside or os.path.isdir(place):
            self._make_directories(place)
            return f"{place.rstrip('/')}/{posixpath.basename(found.path)}"
        self._make_directories(posixpath.dirname(place))
        return place

    def write(self, name: str, content: bytes, destination: str) -> None:
        """A file that stands in the Dockerfile itself."""
        place = os.path.realpath(destination)
        if destination.endswith("/") or os.path.isdir(place):
            self._make_directories(place)
            place = f"{place.rstrip('/')}/{name}"
        else:
            self._make_directories(posixpath.dirname(place))
        _make_way(place)
        fd = os.open(place, _CREATE, 0o600)
        try:
            _write(fd, content)
            os.fchown(fd, *(self._owner or (0, 0)))
            os.fchmod(fd, self._mode(0o644) if self._mode else 0o644)
        finally:
            os.close(fd)

    # Sources

    def _copy_directory(self, found: Found, place: str) -> None:
        """What is in a directory. The one that it goes to is not made like it, in Docker either."""
        self._make_directories(place)
        for entry in self._tree.walk(found):
            self._copy_entry(entry, f"{place.rstrip('/')}/{entry.path}")

    def _copy_with_parents(self, found: Found, place: str) -> None:
        done = found.path[: len(found.path) - len(found.inner)].rstrip("/")
        at = place
        self._make_directories(at)
        for name in found.inner.split("/")[:-1]:
            done, at = f"{done}/{name}".lstrip("/"), f"{at.rstrip('/')}/{name}"
            if self._make_directory(at):
                self._describe(at, self._tree.facts(done))
        if found.is_directory:
            self._copy_directory(found, f"{place.rstrip('/')}/{found.inner}".rstrip("/") or "/")
            return
        fd = self._tree.open(found)
        try:
            self._copy_opened(fd, found.facts, f"{place.rstrip('/')}/{found.inner}")
        finally:
            os.close(fd)

    def _copy_entry(self, entry: Entry, place: str) -> None:
        kind = stat.S_IFMT(entry.facts.st_mode)
        if kind == stat.S_IFDIR:
            self._make_directory(place)
            self._describe(place, entry.facts)
            return
        if self._is_linked(entry.facts, place):
            return
        if kind == stat.S_IFREG:
            fd = os.open(entry.name, _OPEN_FILE, dir_fd=entry.directory)
            try:
                self._copy_opened(fd, entry.facts, place)
            finally:
                os.close(fd)
            return
        if kind == stat.S_IFLNK:
            self._copy_link(os.readlink(entry.name, dir_fd=entry.directory), entry.facts, place)
            return
        _make_way(place)
        if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            os.mknod(place, entry.facts.st_mode, entry.facts.st_rdev)
            self._describe(place, entry.facts, later=False)

    def _copy_link(self, target: str, facts: os.stat_result, place: str) -> None:
        _make_way(place)
        os.symlink(target, place)
        os.lchown(place, *self._owner_of(facts))
        _set_time(place, self._time_of(facts))

    def _is_linked(self, facts: os.stat_result, place: str) -> bool:
        """Makes a hard link where this source has had the file by another name."""
        if facts.st_nlink < 2:
            return False
        first = self._links.setdefault((facts.st_dev, facts.st_ino), place)
        if first == place:
            return False
        _make_way(place)
        os.link(first, place, follow_symlinks=False)
        return True

    def _copy_opened(self, source: int, facts: os.stat_result, place: str) -> None:
        try:
            target = os.open(place, _CREATE, 0o600)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            _make_way(place)
            target = os.open(place, _CREATE, 0o600)
        try:
            _copy_contents(source, target, facts.st_size)
            os.fchown(target, *self._owner_of(facts))
            mode = stat.S_IMODE(facts.st_mode)
            os.fchmod(target, self._mode(mode) if self._mode else mode)
            for name, value in xattrs(source).items():
                set_xattr(target, name, value)
            os.utime(target, ns=(self._time_of(facts),) * 2)
        finally:
            os.close(target)

    def _extract(self, fd: int, kind: compression.Compression, place: str) -> None:
        self._make_directories(place)
        os.lseek(fd, 0, os.SEEK_SET)
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            plain = compression.decompressor(kind, lambda size: os.read(fd, size))
            # --chown does not reach into archives, in Docker either.
            Unpacker(directory).unpack(StreamSource(plain))
        finally:
            os.close(directory)

    # Directories

    def _make_directories(self, path: str) -> None:
        """A directory with its parents, which are the owner's where they are made here."""
        missing = []
        while path != "/" and not os.path.lexists(path):
            missing.append(path)
            path = posixpath.dirname(path)
        if not os.path.isdir(path):
            raise Reported(f"cannot copy to non-directory: {path}", "invalid")
        for each in reversed(missing):
            os.mkdir(each, 0o755)
            os.chown(each, *(self._owner or (0, 0)))

    def _make_directory(self, path: str) -> bool:
        """Whether it was made here. Raises Reported when something else is in its place."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Reported(f"cannot copy to non-directory: {path}", "invalid") from None
            return False
        return True

    def _describe(self, path: str, facts: os.stat_result, *, later: bool = True) -> None:
        os.chown(path, *self._owner_of(facts))
        mode = stat.S_IMODE(facts.st_mode)
        os.chmod(
            path,
            self._mode(mode) if self._mode else mode,
        )
        if later:
            self._times.append((path, self._time_of(facts)))
        else:
            _set_time(path, self._time_of(facts))

    def _time_of(self, facts: os.stat_result) -> int:
        return facts.st_mtime_ns if self._time < 0 else self._time

    def _owner_of(self, facts: os.stat_result) -> Owner:
        return self._owner or (facts.st_uid, facts.st_gid)

    def _set_times(self) -> None:
        """Sets the times of directories when nothing changes in them any more."""
        for path, mtime in reversed(self._times):
            _set_time(path, mtime)
        self._times.clear()


def parse_mode(text: str) -> Mode | None:
    """``--chmod``: octal, or symbolic as chmod(1) has it ("u=rwX,go-w"). None for "". Raises Reported."""
    if not text:
        return None
    if text.strip("01234567") == "" and len(text) <= 5 and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode: fixed
    clauses = [_SYMBOLIC.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise Reported(
            f'invalid chmod parameter: "{text}": expected an octal number below 7777 or one like u+x', "invalid"
        )

    def change(mode: int) -> int:
        for clause in clauses:
            assert clause is not None
            mode = _change(mode, clause[1] or "a", clause[2], clause[3])
        return mode

    return change


def _change(mode: int, who: str, operator: str, what: str) -> int:
    bits = 0
    for letter in what:
        bits |= {"r": 4, "w": 2, "x": 1}.get(letter, 0)
        if letter == "X" and mode & 0o111:
            bits |= 1
    value = mask = 0
    for each, shift, special in (("u", 6, 0o4000), ("g", 3, 0o2000), ("o", 0, 0)):
        if each in who or "a" in who:
            value |= bits << shift | (special if "s" in what else 0)
            mask |= 7 << shift | special
    if "t" in what:
        value |= 0o1000
    if operator == "+":
        return mode | value
    if operator == "-":
        return mode & ~value
    return mode & ~mask | value


def _archive(fd: int) -> compression.Compression | None:
    """What the archive in a file is compressed with; None when it is no archive."""
    start = os.pread(fd, 1 << 16, 0)
    kind = compression.detect(start)
    if kind:
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            start = compression.decompressor(kind, lambda size: os.read(fd, size))(BLOCK)
        except reader.TarError:
            return None
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
    return kind if reader.looks_like_tar(start) else None


def _copy_contents(source: int, target: int, size: int) -> None:
    if size <= _CHUNK:
        while data := os.read(source, _CHUNK):
            _write(target, data)
        return
    while os.sendfile(target, source, None, 1 << 30):
        pass


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_way(place: str) -> None:
    """Removes a file that is to be replaced. Raises Reported for a directory."""
    try:
        os.unlink(place)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.EPERM):
            raise Reported(f"cannot replace to directory {place} with file", "invalid") from None
        raise


def _set_time(path: str, mtime: int) -> None:
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
