"""Files: opening paths of a root that somebody else controls, where no link leads out of it; locks, leases, watches."""

import errno
import fcntl
import functools
import os
import posixpath
import signal
import struct
from collections.abc import Iterator
from ctypes import Structure, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p, sizeof

from wherry.linux.syscalls import AT_FDCWD, SyscallError, check, function, last_errno, system_call

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

BENEATH = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS  # EXDEV for a link that is absolute or leads outside

_LINKS_AT_MOST = 40  # the kernel's own MAXSYMLINKS
_RACES_AT_MOST = 128


class _OpenHow(Structure):
    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


_openat2 = system_call("openat2", c_int, c_char_p, c_void_p, c_size_t)


def open_in(
    root: int, path: str, flags: int = os.O_PATH, resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode: int = 0
) -> int:
    """A descriptor of ``path`` as a process whose root directory is the descriptor ``root`` would see it.

    Symbolic links are followed inside the root; magic links (those of /proc) are refused. Close-on-exec.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path or "/") if resolve & RESOLVE_IN_ROOT else os.fsencode(path)
    for _ in range(_RACES_AT_MOST):
        fd = _openat2(root, name, byref(how), sizeof(how))
        if fd >= 0:
            return fd
        # EAGAIN: somebody renamed something while a ".." was resolved, so that the kernel cannot vouch for the result.
        if last_errno() != errno.EAGAIN:
            break
    raise SyscallError(last_errno(), "open", path)


_renameat2 = function("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
_RENAME_EXCHANGE = 2


def exchange(one: str, other: str) -> None:
    """Has two files or directories of one file system change places, at once."""
    check(_renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE), "exchange", one)


def escapes(base: str, path: str) -> str:
    """What to say of a path that ``BENEATH`` refuses; in Docker's words."""
    return f"path concatenation escapes the base directory, base: {base}, subpath: {path}"


def make_directories(root: int, path: str, mode: int = 0o755, owner: tuple[int, int] | None = None) -> int:
    """A descriptor (O_PATH) of the directory ``path`` inside the root, made with its parents where missing.

    A dangling link is followed to where it points, inside the root, and that is made. ``owner`` (uid, gid) is given to
    each directory made here. Raises SyscallError, ENOTDIR when something on the way is not a directory.
    """
    try:
        return open_in(root, path, os.O_PATH | os.O_DIRECTORY)
    except SyscallError as error:
        if error.errno != errno.ENOENT:
            raise
    names = [name for name in posixpath.normpath(path).split("/") if name]
    links = 0
    done = ""
    parent = open_in(root, "/", os.O_PATH | os.O_DIRECTORY)
    while names:
        name = names.pop(0)
        here = f"{done}/{name}"
        try:
            child = open_in(root, here, os.O_PATH | os.O_DIRECTORY)
        except SyscallError as error:
            if error.errno != errno.ENOENT:
                os.close(parent)
                raise
            target = _read_link(parent, name)
            if target is None:
                child = _make_directory(parent, name, here, mode, owner)
            else:
                links += 1
                if links > _LINKS_AT_MOST:
                    os.close(parent)
                    raise SyscallError(errno.ELOOP, "make directory", path) from None
                pointed = posixpath.normpath(posixpath.join("/", done, target))
                names = [part for part in pointed.split("/") if part] + names
                done = ""
                os.close(parent)
                parent = open_in(root, "/", os.O_PATH | os.O_DIRECTORY)
                continue
        os.close(parent)
        parent, done = child, here
    return parent


def make_file(root: int, path: str, mode: int = 0o644) -> int:
    """A descriptor (O_PATH) of ``path`` inside the root; where it is missing, an empty file is made."""
    try:
        return open_in(root, path)
    except SyscallError as error:
        if error.errno != errno.ENOENT:
            raise
    directory, name = posixpath.split(posixpath.normpath(path))
    parent = make_directories(root, directory)
    try:
        target = _read_link(parent, name)
        if target is not None:
            return make_file(root, posixpath.normpath(posixpath.join("/", directory, target)), mode)
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, mode, dir_fd=parent)
        os.close(fd)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        raise SyscallError(error.errno or errno.EIO, "make file", path) from error
    finally:
        os.close(parent)


def _make_directory(parent: int, name: str, path: str, mode: int, owner: tuple[int, int] | None) -> int:
    try:
        os.mkdir(name, mode, dir_fd=parent)
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        if owner is not None:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        os.close(parent)
        raise SyscallError(error.errno or errno.EIO, "make directory", path) from error
    return fd


def _read_link(directory: int, name: str) -> str | None:
    """Where the link points, or None when there is nothing of that name, or no link."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


# Calls that concern the disk and that Python does not have: syncfs(2), and fallocate(2) with its modes.

_KEEP_SIZE = 1

_syncfs = function("syncfs", c_int)
_fallocate = function("fallocate", c_int, c_int, c_int64, c_int64)


def sync_file_system(fd: int) -> None:
    """Waits until everything that was written to the file system of ``fd`` is on its disk."""
    check(_syncfs(fd), "syncfs")


def reserve(fd: int, size: int) -> None:
    """Gives a file the room for ``size`` bytes, and leaves its length as it is. ENOSPC when there is no room."""
    check(_fallocate(fd, _KEEP_SIZE, 0, size), "fallocate")


# Flags of files that only some file systems have: chattr(1)'s.

# From linux/fs.h. The kernel takes and gives an int, whatever the name of the ioctl says.
_GETFLAGS = 0x80086601
_SETFLAGS = 0x40086602
_TOPDIR = 0x00020000


_MFD_EXEC = 0x10  # since Linux 6.3, where vm.memfd_noexec may ask for it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed(name: str, content: bytes) -> int:
    """A program in memory that nobody can write to: the descriptor to execute it by."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(name, flags)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.fchmod(fd, 0o555)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def spread_children(path: str) -> None:
    """Tells ext4 that the directories in this one have nothing to do with each other (chattr +T).

    It then puts each into a part of the disk that has room, instead of near its parent. Inodes that were deleted less
    than a minute ago are passed over one by one when new ones are looked for, so that unpacking next to a tree that has
    just been removed takes ten times as long (4 to 9 s instead of 0.6 s, measured on Linux 6.18). Other file systems
    do not have the flag, and nothing happens.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GETFLAGS, bytes(4)))
        if not flags & _TOPDIR:
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("i", flags | _TOPDIR))
    except OSError:
        pass  # it is about speed alone
    finally:
        os.close(fd)


# File leases: to be told before anybody else opens or cuts a file, and to let him wait until one is ready for it.
#
# The kernel lets nobody wait for longer than /proc/sys/fs/lease-break-time, 45 seconds.


def take_lease(fd: int) -> bool:
    """Whether this process has the lease now: nobody else has the file open, and the file system knows leases.

    ``lease_breaks()`` tells when somebody comes.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    return True


def release_lease(fd: int) -> None:
    """Lets in who waits."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@functools.cache
def lease_breaks() -> int:
    """A descriptor that becomes readable when somebody wants to open a file on which there is a lease.

    To be called before one is taken, which is told by a signal that would end the process, and in the main thread.
    """
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGIO, lambda *_: None)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    return reads


# Locks on ranges of a file that belong to its open description: gone when that is closed, or its last process killed.
#
# They also work on directories, for reading, since that is how a directory can be opened.

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of the 64-bit architectures


def lock(fd: int, start: int = 0, length: int = 0, *, shared: bool = False, wait: bool = False) -> None:
    """A ``length`` of 0 is up to the end of all files. Raises BlockingIOError when another has it; or ``wait``s."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    fcntl.fcntl(fd, command, _pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length))


def unlock(fd: int, start: int = 0, length: int = 0) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(fcntl.F_UNLCK, start, length))


def is_locked(fd: int, start: int = 0, length: int = 0) -> bool:
    """Whether another has a lock there."""
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(fcntl.F_WRLCK, start, length))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _pack(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)


# inotify: to be told when files change. The descriptor can be watched by any event loop.

IN_MODIFY = 0x002
IN_CLOSE = 0x018
IN_MOVED_TO = 0x080
IN_CREATE = 0x100

_HEADER = struct.Struct("iIII")

_inotify_init1 = function("inotify_init1", c_int)
_inotify_add_watch = function("inotify_add_watch", c_int, c_char_p, c_uint32)


class Inotify:
    """A set of watches. ``fileno()`` becomes readable when there are events."""

    def __init__(self) -> None:
        self._fd = check(_inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: str, mask: int) -> int:
        """Watches a file or the entries of a directory; answers the watch's number."""
        return check(_inotify_add_watch(self._fd, os.fsencode(path), mask), "watch", path)

    def events(self) -> Iterator[tuple[int, int, str]]:
        """(watch, mask, name of the directory's entry or "") of all that happened since; nothing when nothing did."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            yield watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
