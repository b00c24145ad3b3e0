"""What can be asked of a worker, and what it answers: the structs that ``client`` sends and ``server`` takes.

``Answer`` is what a job's last message carries. Paths are the host's where they do not say otherwise.
"""

from typing import Any, ClassVar

from msgspec import Struct

from wherry.common.ignore import Rule
from wherry.linux.mounts import Mount
from wherry.storage.tar.compression import Compression


class Running(Struct, frozen=True):
    """``pid`` is the container's init. What is mounted ``without`` stays out of sight: what lies below it is seen."""

    pid: int
    without: tuple[str, ...] = ()


Root = Running | tuple[Mount, ...]
"""That of a running container, or the mounts of one that does not run."""

Source = str | Mount
"""Where COPY takes files from: a directory, or what is to be mounted for it."""


class Job(Struct, kw_only=True, tag_field="kind", omit_defaults=True):
    Answer: ClassVar[Any] = None


class Unpacked(Struct, frozen=True):
    """A layer in ``layer``/diff. ``diff_id`` is "" for a blob that is a plain tar: its own digest."""

    layer: str
    compression: Compression
    diff_id: str
    size: int
    members: int


class StagedLayer(Struct):
    """What a worker has made and the store has not taken over yet. Paths are in the staging area."""

    digest: str  # of the blob
    diff_id: str
    size: int
    blob: str = ""
    blob_size: int = 0
    layer: str = ""
    compression: Compression = ""
    members: int = 0


class PathStat(Struct, rename={"link_target": "linkTarget"}):
    """What the archive API says about a path. ``mode`` is Go's os.FileMode, ``mtime`` nanoseconds since the epoch.

    ``link_target`` is where a symbolic link leads in the end, as a path of the container.
    """

    name: str
    size: int
    mode: int
    mtime: int
    link_target: str = ""


class Context(Struct, frozen=True):
    """``tar``: whether it was one, and not the text of a Dockerfile."""

    tar: bool


# Layers


class ReceiveLayer(Job, tag="receive layer"):
    """One tar on standard input, compressed or not, becomes one layer."""

    Answer = StagedLayer
    staging: str


class ReceiveArchive(Job, tag="receive archive"):
    """An archive of images on standard input; ``known`` are the digests of blobs that are there already."""

    staging: str
    known: tuple[str, ...]


class Commit(Job, tag="commit"):
    """What an upper directory has becomes a layer."""

    Answer = StagedLayer
    staging: str
    upper: str


class Unpack(Job, tag="unpack"):
    """A blob becomes a layer. While it is ``growing``, standard input tells how much of it is there."""

    Answer = Unpacked
    staging: str
    blob: str
    compression: Compression
    growing: bool = False


class Packed(Struct, frozen=True):
    """What came of packing a blob."""

    digest: str
    size: int


class Pack(Job, tag="pack"):
    """Packs the blob ``source`` in another way, into the file ``target``; without one only what comes of it is told."""

    Answer = Packed
    source: str
    was: Compression
    target: str
    packing: Compression
    level: int | None = None


# Roots of containers


class Stat(Job, tag="stat"):
    Answer = PathStat
    root: Root
    path: str


class Get(Job, tag="get"):
    """Reports {"stat": …}; then a tar of ``path`` comes on standard output."""

    root: Root
    path: str


class Put(Job, tag="put"):
    """Unpacks the tar on standard input: see ``Files.put``."""

    root: Root
    path: str
    keep_kinds: bool = False
    user: str = ""
    writable: dict[str, bool] = {}


class Export(Job, tag="export"):
    """A tar of the whole root comes on standard output, its names behind ``prefix``."""

    root: Root
    prefix: str = ""


class CopyOut(Job, tag="copy out"):
    """Copies what is in the directory ``path`` of the root, if there is one, into the host's directory ``target``.

    Or into ``part`` of it, if that is an empty directory.
    """

    root: Root
    path: str
    target: str
    part: str = ""


# Builds


class ReceiveContext(Job, tag="receive context"):
    """Unpacks the tar on standard input, compressed or not. What is no tar is kept as the file "Dockerfile"."""

    Answer = Context
    directory: str


class Digest(Job, tag="digest"):
    """Asks for the digest of what COPY's sources stand for: see ``select.Tree.digest``. Another job can follow."""

    Answer = str
    source: Source
    patterns: tuple[str, ...]
    ignored: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    parents: bool
    owners: bool
    follow: bool = True


class CopyFiles(Job, tag="copy files"):
    """Copies what ``patterns`` mean in a source, or ``files`` (name, content), into a root.

    ``whole``: a directory itself, not what is in it. ``follow``: a source that is a link means what it leads to.
    ``optional``: a pattern may match nothing. ``make_parents``: the destination's parents are made. ``time``, in
    nanoseconds, is given to all that is copied, if not negative.
    """

    root: tuple[Mount, ...]
    destination: str
    chown: str
    chmod: str
    parents: bool
    excluded: tuple[Rule, ...]
    source: Source | None = None
    patterns: tuple[str, ...] = ()
    ignored: tuple[Rule, ...] = ()
    keep_owners: bool = False
    unpack: bool = False
    files: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    follow: bool = True
    optional: bool = True
    make_parents: bool = True
    time: int = -1


class MakeDirectory(Job, tag="make directory"):
    """WORKDIR's: made with its parents when it is not there, and given to ``user``."""

    root: tuple[Mount, ...]
    path: str
    user: str = ""


class Seal(Job, tag="seal"):
    """Packs an upper directory into a blob."""

    Answer = StagedLayer
    upper: str
    blob: str


class Clamp(Job, tag="clamp"):
    """Sets back to ``latest`` (ns) every time below a directory that is later."""

    directory: str
    latest: int


class Flatten(Job, tag="flatten"):
    """Makes one layer of several, the highest first: files become links to the same files."""

    folders: tuple[str, ...]
    directory: str


class Packages(Struct, frozen=True):
    """What an image's files tell of: each package by its ``type`` as in package URLs, ``name``, ``version`` and what
    else is known; and /etc/os-release."""

    packages: list[dict[str, str]]
    release: dict[str, str]


class ScanPackages(Job, tag="scan packages"):
    """Looks for what package managers have left in a root."""

    Answer = Packages
    root: tuple[Mount, ...]


class IgnoreOverlay(Job, tag="ignore overlay"):
    """Makes the whiteouts for a context's ``directory`` in the empty directory ``place``; False when nothing is hidden.

    ``path`` is the directory's own path in the context, which the rules are about. Another job can follow.
    """

    Answer = bool
    directory: str
    path: str
    ignored: tuple[Rule, ...]
    place: str


class ChangeFiles(Job, tag="change files"):
    """Carries out actions of graphs in a root, each with its ``kind``: mkdir, mkfile, symlink, rm."""

    root: tuple[Mount, ...]
    actions: tuple[dict[str, str | int | bool], ...]


class ReadFile(Job, tag="read file"):
    """A file's content from ``offset`` on, base64; ``length`` 0 is all of it."""

    Answer = str
    mount: Mount
    path: str
    offset: int = 0
    length: int = 0


class FileInfo(Struct, frozen=True):
    """What is known of a file, as fsutil's Stat has it."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    linkname: str
    devmajor: int
    devminor: int


class ListDirectory(Job, tag="list directory"):
    """The entries of a directory whose names the pattern matches ("" is all)."""

    Answer = list[FileInfo]
    mount: Mount
    path: str
    pattern: str = ""


class LookAt(Job, tag="look at"):
    """What is known of a path, whose links are followed."""

    Answer = FileInfo
    mount: Mount
    path: str


FOLLOWED = (Digest, IgnoreOverlay)
"""Those that leave the worker as it was. A build with many COPYs would otherwise start a process for each."""

AnyJob = (
    ReceiveLayer | ReceiveArchive | Commit | Unpack | Pack
    | Stat | Get | Put | Export | CopyOut
    | ReceiveContext | Digest | CopyFiles | MakeDirectory | Seal | Clamp | Flatten | IgnoreOverlay | ScanPackages
    | ChangeFiles | ReadFile | ListDirectory | LookAt
)  # fmt: skip
