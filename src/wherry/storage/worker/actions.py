"""Inside the worker: single files are made and removed in a root, and looked at in a tree, as graphs of builds ask.

The root is the process's own "/" when it is changed, so ".." and links lead nowhere else. What is only looked at is
read by descriptors that cannot leave the tree.
"""

import errno
import os
import posixpath
import shutil
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping

from wherry.linux import files
from wherry.linux.syscalls import SyscallError
from wherry.storage.worker import jobs
from wherry.storage.worker.layer import Report, Reported
from wherry.storage.worker.rootfs import enter, go_mode, look_up_owner, make_mount
from wherry.storage.worker.select import Tree, translate

_LARGEST = 16 << 20  # bytes that are read of a file at once


def change(report: Report, job: jobs.ChangeFiles) -> None:
    inside = enter(job.root)
    os.umask(0)
    for action in job.actions:
        kind, path = str(action.pop("kind")), _clean(str(action.pop("path")))
        try:
            _ACTIONS[kind](inside, path, **action)
        except OSError as error:
            raise Reported(f"{kind} {path}: {os.strerror(error.errno or 0).lower()}", "invalid") from None


def _make_directory(inside: int, path: str, *, mode: int, parents: bool, owner: str, time: int) -> None:
    """One that is there already stays as it is."""
    missing = []
    while path != "/" and not os.path.lexists(path):
        missing.append(path)
        path = posixpath.dirname(path)
    if len(missing) > 1 and not parents:
        raise FileNotFoundError(errno.ENOENT, "")
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "")
    for each in reversed(missing):
        os.mkdir(each)
        _describe(inside, each, mode, owner)
    for each in missing:
        _set_time(each, time)


def _make_file(inside: int, path: str, *, mode: int, data: str, owner: str, time: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    with open(fd, "wb") as file:
        file.write(b64decode(data))
    _describe(inside, path, mode, owner)
    _set_time(path, time)


def _make_link(inside: int, path: str, *, target: str, owner: str, time: int) -> None:
    os.symlink(target, path)
    os.lchown(path, *(look_up_owner(inside, owner) if owner else (0, 0)))
    _set_time(path, time)


def _remove(inside: int, path: str, *, wildcard: bool, optional: bool) -> None:
    found = [f"/{each}" for each in Tree(inside).match(path)] if wildcard else [path]
    found = [each for each in found if os.path.lexists(each)]
    if path == "/" or "/" in found:
        raise Reported("rm /: the root directory cannot be removed", "invalid")
    if not found and not optional:
        raise FileNotFoundError(errno.ENOENT, "")
    for each in found:
        if stat.S_ISDIR(os.lstat(each).st_mode):
            shutil.rmtree(each)
        else:
            os.unlink(each)


_ACTIONS: Mapping[str, Callable[..., None]] = {
    "mkdir": _make_directory,
    "mkfile": _make_file,
    "symlink": _make_link,
    "rm": _remove,
}


def _describe(inside: int, path: str, mode: int, owner: str) -> None:
    os.chown(path, *(look_up_owner(inside, owner) if owner else (0, 0)))
    os.chmod(path, mode & 0o7777)


def _set_time(path: str, time: int) -> None:
    """``time`` in nanoseconds; a negative one is now."""
    if time >= 0:
        os.utime(path, ns=(time, time), follow_symlinks=False)


def _clean(path: str) -> str:
    """Absolute; ".." does not lead above the root, whatever links are on the way."""
    return posixpath.normpath("/" + path.lstrip("/"))


# Looking


def read(report: Report, job: jobs.ReadFile) -> str:
    fd = _open(make_mount(job.mount), job.path, os.O_RDONLY | os.O_NONBLOCK)
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        raise Reported(f"read {job.path}: not a regular file", "invalid")
    wanted = job.length or max(facts.st_size - job.offset, 0)
    if wanted > _LARGEST:
        reason = f"{wanted} bytes are more than can be read at once: expected {_LARGEST}"
        raise Reported(f"read {job.path}: {reason}", "invalid")
    return b64encode(os.pread(fd, wanted, max(job.offset, 0))).decode()


def list_directory(report: Report, job: jobs.ListDirectory) -> list[jobs.FileInfo]:
    fd = _open(make_mount(job.mount), job.path, os.O_RDONLY | os.O_DIRECTORY)
    expression = translate(job.pattern or "*")
    return [_look(fd, name) for name in sorted(os.listdir(fd)) if expression.fullmatch(name)]


def look_at(report: Report, job: jobs.LookAt) -> jobs.FileInfo:
    fd = _open(make_mount(job.mount), job.path, os.O_PATH)
    return _facts(posixpath.basename(_clean(job.path)) or "/", os.fstat(fd), "")


def _open(root: int, path: str, flags: int) -> int:
    try:
        return files.open_in(root, _clean(path), flags)
    except SyscallError as error:
        kind = "missing" if error.errno == errno.ENOENT else "invalid"
        raise Reported(f"open {path}: {os.strerror(error.errno or 0).lower()}", kind) from None


def _look(directory: int, name: str) -> jobs.FileInfo:
    facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
    target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(facts.st_mode) else ""
    return _facts(name, facts, target)


def _facts(name: str, facts: os.stat_result, target: str) -> jobs.FileInfo:
    device = facts.st_rdev if stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode) else 0
    return jobs.FileInfo(
        name,
        go_mode(facts.st_mode),
        facts.st_uid,
        facts.st_gid,
        facts.st_size,
        facts.st_mtime_ns,
        target,
        os.major(device),
        os.minor(device),
    )
