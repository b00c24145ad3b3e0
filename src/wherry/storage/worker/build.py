"""Inside the worker: what a build wants done with files.

Contexts are received, sources found and digested, files copied into a step's root, and snapshots packed, set back
in time or made one. What the root holds is its builder's business; nothing in it is run, and no link leads out of it.
"""

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable

from wherry.common.ignore import PatternMatcher
from wherry.common.tar import BLOCK
from wherry.linux.files import make_directories
from wherry.storage.tar import compression
from wherry.storage.tar.reader import looks_like_tar
from wherry.storage.tar.sources import StreamSource
from wherry.storage.tar.unpack import OVERLAY_OPAQUE, Limits, Unpacker
from wherry.storage.tar.writer import Packer
from wherry.storage.worker import jobs
from wherry.storage.worker.copy import Copier, Owner, parse_mode
from wherry.storage.worker.jobs import StagedLayer
from wherry.storage.worker.layer import Buffered, Report, Reported, lock_in
from wherry.storage.worker.rootfs import enter, look_up_owner, make_mount
from wherry.storage.worker.select import Tree

# Inside the worker: a context is mounted without what .dockerignore leaves out.
#
# Its files stay where they are. A directory of whiteouts lies above the context in an overlay, with those directories
# that hold a whiteout, which look like the context's own.

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Of a directory: the names that are hidden wholly (None), and the directories that are so in part.
Hidden = dict[str, "Hidden | None"]


def ignore_overlay(report: Report, job: jobs.IgnoreOverlay) -> bool:
    root = os.open(job.directory, _OPEN_DIRECTORY)
    try:
        hidden, _ = _find_hidden(root, job.path, PatternMatcher(job.ignored))
        if hidden:
            _make(root, os.open(job.place, _OPEN_DIRECTORY), hidden)
    finally:
        os.close(root)
    return bool(hidden)


def _find_hidden(directory: int, path: str, rules: PatternMatcher) -> tuple[Hidden, bool]:
    """What of a directory is left out, and whether anything else is in it."""
    hidden: Hidden = {}
    keeps = False
    with os.scandir(directory) as scanned:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in scanned]
    for name, is_directory in entries:
        whole = f"{path}/{name}" if path else name
        left_out = rules.matches(whole)
        if not is_directory or (left_out and rules.matches_below(whole)):
            if left_out:
                hidden[name] = None
            keeps = keeps or not left_out
            continue
        child = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            below, keeps_below = _find_hidden(child, whole, rules)
        finally:
            os.close(child)
        if left_out and not keeps_below:
            hidden[name] = None
            continue
        keeps = True
        if below:
            hidden[name] = below
    return hidden, keeps


def _make(source: int, target: int, hidden: Hidden) -> None:
    """Fills ``target``, which it closes, and makes it look like ``source``."""
    for name, below in hidden.items():
        if below is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=target)
            continue
        os.mkdir(name, 0o700, dir_fd=target)
        child = os.open(name, _OPEN_DIRECTORY, dir_fd=source)
        try:
            _make(child, os.open(name, _OPEN_DIRECTORY, dir_fd=target), below)
        finally:
            os.close(child)
    facts = os.fstat(source)
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.close(target)


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PEEK = 1 << 10


def receive_context(report: Report, job: jobs.ReceiveContext) -> jobs.Context:
    start = _read_some(_PEEK)
    kind = compression.detect(start)
    compression.prepare(kind)
    root = os.open(job.directory, _DIRECTORY)
    os.fchdir(root)
    lock_in()
    plain = compression.decompressor(kind, compression.resume(start, lambda size: os.read(0, size)))
    head = b""
    while len(head) < BLOCK and (data := plain(BLOCK - len(head))):
        head += data
    read = compression.resume(head, plain)
    if not looks_like_tar(head):
        _keep_text(read)
        return jobs.Context(tar=False)
    source = StreamSource(_ended(read))
    # Owners do not count in a context, and files are the engine's own to read.
    Unpacker(root, owner=(os.geteuid(), os.getegid()), limits=Limits.of_file_system(root)).unpack(source)
    source.drain()
    return jobs.Context(tar=True)


def _ended(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A ``read`` of a tar with an end: the docker CLI sends none when it has put the Dockerfile in by itself."""
    length = 0
    at_end = False

    def read_on(size: int) -> bytes:
        nonlocal length, at_end
        data = b"" if at_end else read(size)
        length += len(data)
        if data or at_end:
            return data
        at_end = True
        return bytes(-length % BLOCK + 2 * BLOCK)

    return read_on


def _keep_text(read: Callable[[int], bytes]) -> None:
    with open("Dockerfile", "xb") as file:
        while data := read(1 << 16):
            file.write(data)
            if file.tell() > 8 << 20:
                raise Reported("the context is neither a tar archive nor a Dockerfile", "invalid")


def digest(report: Report, job: jobs.Digest) -> str:
    root = _open_source(job.source)
    try:
        tree = Tree(root, job.ignored, job.excluded, parents=job.parents, follow=job.follow)
        return tree.digest(job.patterns, owners=job.owners)
    finally:
        os.close(root)


def copy(report: Report, job: jobs.CopyFiles) -> None:
    for kind in ("gzip", "zstd") if job.unpack else ():
        compression.prepare(kind)
    source = _open_source(job.source) if job.source is not None else None
    tree = None
    if source is not None:
        tree = Tree(source, job.ignored, job.excluded, parents=job.parents, follow=job.follow)
    found = [each for pattern in job.patterns for each in tree.find(pattern)] if tree else []
    if not found and not job.files and not job.optional:
        raise Reported(f'"{", ".join(job.patterns)}": not found', "missing")
    inside = enter(job.root)
    os.umask(0)
    if not job.make_parents and not os.path.isdir(posixpath.dirname(job.destination.rstrip("/")) or "/"):
        raise Reported(f"copy to {job.destination}: no such file or directory", "invalid")
    owner: Owner | None = look_up_owner(inside, job.chown) if job.chown else None if job.keep_owners else (0, 0)
    count, destination = len(found) + len(job.files), job.destination
    is_place = job.parents or job.unpack or destination.endswith("/") or os.path.isdir(destination)
    if count > 1 and not is_place:
        reason = "the destination must be a directory and end with a /"
        raise Reported(f"with more than one source file, {reason}: {count} are meant", "invalid")
    mode = parse_mode(job.chmod)
    if tree:
        copier = Copier(
            tree, owner=owner, mode=mode, parents=job.parents, unpack=job.unpack, whole=job.whole, time=job.time
        )
        for each in found:
            copier.copy(each, destination)
    if job.files:
        # Their owner is root, not the owner that unpacking keeps: they come from no archive.
        writer = Copier(tree or Tree(inside), owner=owner or (0, 0), mode=mode)
        for name, content in job.files:
            writer.write(name, content.encode("utf-8", "surrogateescape"), destination)


def make_directory(report: Report, job: jobs.MakeDirectory) -> None:
    inside = enter(job.root)
    os.umask(0)
    owner = look_up_owner(inside, job.user) if job.user else None
    os.close(make_directories(inside, job.path, 0o755, owner))


def seal(report: Report, job: jobs.Seal) -> StagedLayer:
    root = os.open(job.upper, _DIRECTORY)
    os.fchdir(root)
    file = os.open(job.blob, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    total = hashlib.sha256()
    lock_in()

    def write(data: bytes | memoryview) -> None:
        total.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    output = Buffered(write)
    packer = Packer(output.write, layer=True, placeholders=True)
    packer.pack_tree(root)
    packer.close()
    output.flush()
    found = f"sha256:{total.hexdigest()}"
    return StagedLayer(found, found, packer.size, job.blob)


def clamp(report: Report, job: jobs.Clamp) -> None:
    root = os.open(job.directory, _DIRECTORY)
    os.fchdir(root)
    lock_in()
    _clamp(root, job.latest)


def _clamp(fd: int, latest: int) -> None:
    with os.scandir(fd) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                child = os.open(entry.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    _clamp(child, latest)
                finally:
                    os.close(child)
            if facts.st_mtime_ns > latest:
                os.utime(entry.name, ns=(latest, latest), dir_fd=fd, follow_symlinks=False)


def flatten(report: Report, job: jobs.Flatten) -> None:
    target = os.open(job.directory, _DIRECTORY)
    _flatten([os.open(folder, _DIRECTORY) for folder in job.folders], target)


def _flatten(folders: list[int], target: int) -> None:
    done: set[str] = set()
    for number, folder in enumerate(folders):
        for name in os.listdir(folder):
            if name in done:
                continue
            done.add(name)
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(facts.st_mode):
                os.link(name, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
                continue
            os.mkdir(name, 0o700, dir_fd=target)
            below = _merged(name, folders[number:])
            made = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=target)
            _flatten(below, made)
            os.fchown(made, facts.st_uid, facts.st_gid)
            os.fchmod(made, stat.S_IMODE(facts.st_mode))
            if any(_is_opaque(each) for each in below) or _hides(name, folders[number:], len(below)):
                os.setxattr(made, OVERLAY_OPAQUE, b"y")
            os.utime(made, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
            for each in (*below, made):
                os.close(each)


def _merged(name: str, folders: list[int]) -> list[int]:
    """The directories of this name that shine through one another."""
    found = []
    for folder in folders:
        try:
            fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            break
        except OSError:
            break  # a link
        found.append(fd)
        if _is_opaque(fd):
            break
    return found


def _hides(name: str, folders: list[int], merged: int) -> bool:
    """Whether something else, which lies below the last of the merged directories, is hidden for good."""
    seen = 0
    for folder in folders:
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(facts.st_mode):
            return seen == merged
        seen += 1
    return False


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False


def _open_source(source: jobs.Source) -> int:
    """A descriptor of the tree that files come from."""
    return os.open(source, _DIRECTORY) if isinstance(source, str) else make_mount(source)


def _read_some(size: int) -> bytes:
    """Reads that many bytes of standard input, or all there are."""
    start = b""
    while len(start) < size and (data := os.read(0, size - len(start))):
        start += data
    return start
