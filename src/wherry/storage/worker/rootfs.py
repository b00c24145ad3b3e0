"""Inside the worker: a container's root is entered, and its files are read and written from within.

A root is the process id of a running container, whose mount namespace is joined, or the mounts of one that does not
run, which are made in a mount namespace of the worker's own. Either way "/" is the container's then, so a link resolves
as it does for the container, and leads nowhere else (CVE-2018-15664). Before that, everything is loaded, importing is
switched off, and the process is made undumpable (CVE-2019-14271, CVE-2019-5736).
"""

import errno
import os
import posixpath
import signal
import stat
import sys
from collections.abc import Callable, Sequence

from wherry.linux import files, mounts, namespaces, process, user_namespaces
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import SyscallError
from wherry.storage.tar import compression
from wherry.storage.tar.sources import StreamSource
from wherry.storage.tar.unpack import Unpacker
from wherry.storage.tar.writer import Packer
from wherry.storage.worker import jobs
from wherry.storage.worker.jobs import PathStat, Root, Running
from wherry.storage.worker.layer import Buffered, Report, Reported

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_PASSWD_AT_MOST = 16 << 20  # bytes that are read of /etc/passwd, which the container may have written
_TYPES_IN_GO = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}


def _join(pid: int, without: Sequence[str]) -> None:
    """Raises Reported when the process has just ended."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            joined = namespaces.other_than_own(pidfd, ("user", "mnt"))
            if joined & namespaces.CLONE_NEWUSER:
                user_namespaces.learn(pid)
            namespaces.join(pidfd, joined)
            if joined & namespaces.CLONE_NEWUSER:
                user_namespaces.become_root()
        finally:
            os.close(pidfd)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.ENOENT):
            raise
        raise Reported("the container has ended meanwhile: try again", "conflict") from None
    if without:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.make_private()
        for place in without:
            mounts.unmount(place, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)


def enter(root: Root, *, without_submounts: bool = False) -> int:
    """Makes ``root`` this process's "/"; a descriptor of it."""
    process.set_dumpable(False)
    sys.meta_path.clear()  # nothing can be imported any more, least of all from in there
    if isinstance(root, Running):
        _join(root.pid, root.without)
    else:
        _mount(root)
    if without_submounts:
        # A copy of the root's mount alone: neither /proc nor volumes hide what is below them.
        alone = mounts.clone("/")
        os.fchdir(alone)
        os.chroot(".")
        os.close(alone)
    os.chdir("/")
    return os.open("/", _DIRECTORY | os.O_CLOEXEC)


def _mount(wanted: Sequence[Mount]) -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.make_private()
    made = [make_mount(mount) for mount in wanted]  # all of them now: sources are paths of the host
    root = made[0]
    # Some place is needed for the root to be attached to, and this namespace's own "/" is as good as any.
    place = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.attach(root, place, "/")
    os.close(place)
    os.fchdir(root)
    os.chroot(".")
    for mount, source in zip(wanted[1:], made[1:], strict=True):
        if not mount.create:
            target = files.open_in(root, mount.target)
        elif stat.S_ISDIR(os.fstat(source).st_mode):
            target = files.make_directories(root, mount.target)
        else:
            target = files.make_file(root, mount.target)
        mounts.attach(source, target, mount.target)
        os.close(target)
    for fd in made:
        os.close(fd)


def make_mount(mount: Mount) -> int:
    """A mount that is attached nowhere yet, as a descriptor of its root."""
    if mount.type != "bind":
        made = mounts.make(mount.type, mount.source, mount.options)
        return mounts.part(made, mount) if mount.subpath else made
    options = mounts.parse_options(mount.options)
    made = mounts.pick_up(mount)
    mounts.apply(made, options)
    return made


# What can be asked for


def stat_path(report: Report, job: jobs.Stat) -> PathStat:
    """Docker's path stat: the last component of ``path`` is not followed, the others are."""
    return _stat(enter(job.root), job.path)


def get_archive(report: Report, job: jobs.Get) -> None:
    """The tar's names are below the path's last component."""
    inside = enter(job.root)
    report({"stat": _stat(inside, job.path)})
    directory, name, facts = _find(inside, job.path)
    base = os.fsencode(_base(job.path))
    output = Buffered(_writer(1))
    packer = Packer(output.write)
    if stat.S_ISDIR(facts.st_mode):
        packer.pack_tree(files.open_in(directory, name, _DIRECTORY | os.O_NOFOLLOW, files.RESOLVE_BENEATH), base)
    else:
        packer.pack_file(directory, os.fsencode(name), base)
    packer.close()
    output.flush()


def put_archive(report: Report, job: jobs.Put) -> None:
    start = _read_input(1 << 16)
    kind = compression.detect(start)
    compression.prepare(kind)
    inside = enter(job.root)
    target = _open(inside, job.path, os.O_PATH)
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        raise Reported("extraction point is not a directory", "system")  # as in Docker
    _check_writable(_resolve(inside, job.path), job.writable)
    # The archive's names resolve in the container's root, as they would for a process in there.
    directory = _open(inside, job.path, _DIRECTORY)
    source = StreamSource(compression.decompressor(kind, compression.resume(start, _read_input)))
    owner = _look_up(inside, job.user) if job.user else None
    Unpacker(directory, keep_kinds=job.keep_kinds, owner=owner).unpack(source)
    source.drain()


def export(report: Report, job: jobs.Export) -> None:
    """Without what is mounted in the root."""
    inside = enter(job.root, without_submounts=True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _pack_into(1, inside, job.prefix.encode())


def copy_out(report: Report, job: jobs.CopyOut) -> None:
    """It is how an empty volume gets what the image has in its place, metadata and all."""
    path = job.path
    outside = os.open(job.target, _DIRECTORY | os.O_CLOEXEC)
    if job.part:
        try:
            outside = files.open_in(outside, job.part, _DIRECTORY, files.BENEATH)
        except SyscallError as error:
            if error.errno == errno.EXDEV:
                text = f"failed to populate volume: {files.escapes(job.target, job.part)}"
                raise Reported(text, "invalid") from None
            return
        if os.listdir(outside):
            return
    inside = enter(job.root)
    try:
        directory = files.open_in(inside, path, _DIRECTORY)
    except SyscallError as error:
        if error.errno == errno.ENOTDIR:
            raise Reported(f"cannot mount volume over existing file, file exists {path}", "invalid") from None
        return
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            process.die_with_parent()
            os.close(reader)
            os.close(outside)
            _pack_into(writer, directory, b".")
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    source = StreamSource(lambda size: os.read(reader, size))
    Unpacker(outside).unpack(source)
    source.drain()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"reading {path} failed with status {status}")


def _check_writable(path: str, writable: dict[str, bool]) -> None:
    """Refuses in time what a running container's own mounts would refuse half-way."""
    over = [place for place in writable if path == place or path.startswith(place.rstrip("/") + "/")]
    place = max(over, key=len, default="/")
    if not writable.get(place, True):
        what = "container rootfs" if place == "/" else "mounted volume"
        raise Reported(f"{what} is marked read-only", "invalid")


def _look_up(inside: int, user: str) -> tuple[int, int]:
    """The uid and gid of a user, by the root's own /etc/passwd; a number that is not there is its own uid, gid 0."""
    name = user.partition(":")[0]
    for line in _lines(inside, "/etc/passwd"):
        known, _, uid, gid, *_ = [*line.split(":"), "", "", ""]
        if name in (known, uid) and uid.isdigit() and gid.isdigit():
            return int(uid), int(gid)
    if not name.isdigit():
        raise Reported(f"unable to find user {name}: no matching entries in passwd file", "invalid")
    return int(name), 0


def look_up_owner(inside: int, text: str) -> tuple[int, int]:
    """The uid and gid of "user", "user:group" or numbers, by the root's own files. A lone number is both."""
    user, colon, group = text.partition(":")
    if user.isdigit():
        uid = gid = int(user)
    else:
        uid, gid = _look_up(inside, user) if user else (0, 0)
    if colon and group:
        gid = int(group) if group.isdigit() else _look_up_group(inside, group)
    return uid, gid


def _look_up_group(inside: int, group: str) -> int:
    for line in _lines(inside, "/etc/group"):
        name, _, gid, *_ = [*line.split(":"), "", ""]
        if name == group and gid.isdigit():
            return int(gid)
    raise Reported(f"unable to find group {group}: no matching entries in group file", "invalid")


def _lines(inside: int, path: str) -> list[str]:
    try:
        with open(files.open_in(inside, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return file.read(_PASSWD_AT_MOST).decode(errors="replace").splitlines()
    except SyscallError:
        return []


# Paths


def _stat(inside: int, path: str) -> PathStat:
    _, _, facts = _find(inside, path)
    target = _resolve(inside, path) if stat.S_ISLNK(facts.st_mode) else ""
    return PathStat(_base(path), facts.st_size, go_mode(facts.st_mode), facts.st_mtime_ns, target)


def _find(inside: int, path: str) -> tuple[int, str, os.stat_result]:
    """The directory that holds the last component, that component's name, and what is known of it.

    A trailing "/" or "/." follows a last link, as everywhere.
    """
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/" or path.endswith(("/", "/.")):
        directory = _open(inside, clean, _DIRECTORY, path)
        return directory, ".", os.fstat(directory)
    parent, name = posixpath.split(clean)
    directory = _open(inside, parent, _DIRECTORY, path)
    try:
        return directory, name, os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        raise Reported(path, "missing") from None


def _open(inside: int, path: str, flags: int, shown: str = "") -> int:
    try:
        return files.open_in(inside, path, flags)
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            raise Reported(shown or path, "missing") from None
        if error.errno == errno.ENOTDIR:
            raise Reported(f"lstat {shown or path}: not a directory", "system") from None  # as in Docker
        raise


def _resolve(inside: int, path: str) -> str:
    """Where a link leads in the end, as a path of the container; "" when it leads nowhere."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    try:
        return posixpath.realpath(clean, strict=True)
    except OSError:
        return posixpath.realpath(clean)


def _base(path: str) -> str:
    """The last component as Go's filepath.Base has it: "." stays, and the root is "/"."""
    trimmed = path.rstrip("/")
    return posixpath.basename(trimmed) if trimmed else "/"


def go_mode(mode: int) -> int:
    """A mode as Go's os.FileMode, which the API shows."""
    found = stat.S_IMODE(mode) & 0o777 | _TYPES_IN_GO.get(stat.S_IFMT(mode), 0)
    if mode & stat.S_ISUID:
        found |= 1 << 23
    if mode & stat.S_ISGID:
        found |= 1 << 22
    if mode & stat.S_ISVTX:
        found |= 1 << 20
    return found


def _read_input(size: int) -> bytes:
    return os.read(0, size)


def _pack_into(fd: int, directory: int, prefix: bytes) -> None:
    output = Buffered(_writer(fd))
    packer = Packer(output.write)
    packer.pack_tree(directory, prefix)
    packer.close()
    output.flush()


def _writer(fd: int) -> Callable[[bytes | memoryview], None]:
    def write(data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    return write
