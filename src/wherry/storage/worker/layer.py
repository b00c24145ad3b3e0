"""Inside the worker: streams become blobs and layers, upper directories become blobs and layers.

A layer is made in one pass. One process writes the blob as it comes in, and hashes it; a second one, forked for each
layer and locked into the layer's directory, unpacks the same file as it grows. It is told through a pipe how far the
blob has got, so it never reads ahead of what is there, and it learns from the pipe's end when the writer has died.

Everything is made in a staging directory under names of our own. What an archive calls its files is reported, and never
becomes a path here.
"""

import errno
import fcntl
import hashlib
import json
import os
import posixpath
import sys
from collections.abc import Callable
from typing import Any

from wherry.common.tar import BLOCK, HARD_LINK, REGULAR, SYMLINK
from wherry.linux import process
from wherry.linux.syscalls import SyscallError
from wherry.storage.tar import compression
from wherry.storage.tar.compression import Compression, Read
from wherry.storage.tar.contents import UnpackError
from wherry.storage.tar.reader import TarError, TarReader, looks_like_tar, shown
from wherry.storage.tar.sources import (
    Feed,
    Feeder,
    FileSource,
    ReadAhead,
    Source,
    StreamSource,
    TrailingData,
    Truncated,
)
from wherry.storage.tar.unpack import Limits, Unpacker
from wherry.storage.tar.writer import Packer, PackError
from wherry.storage.worker import jobs

# What the file system says to names, links and sizes that it cannot have.
_UNFIT = (errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EOVERFLOW)

Report = Callable[[dict[str, Any]], None]

_CHUNK = 1 << 20
_REPORT_EVERY = 8 << 20
# What an archive's manifests and configurations may have; Docker's own limit for a configuration is the same.
MAX_DOCUMENT = 8 << 20
_DESCRIPTIONS = ("manifest.json", "index.json")
# What is neither a layer nor a description of one: Docker's old archives have three for each layer, and links.
_OTHERS_AT_MOST = 10_000
_OTHERS_A_LAYER = 8
_LAYERS_AT_MOST = 5_000
_OTHER_BYTES_AT_MOST = 64 << 20
_BLOBS = "blobs/sha256/"
# Unpackers side by side. There are rarely more processors free than that, and each needs memory.
_UNPACKERS = 4


class Layer:
    """A layer being made: ``write`` its blob, ``finish``, and the facts come out of ``result``."""

    def __init__(self, staging: str, number: int, kind: Compression, *, unpack: bool = True) -> None:
        self.path = f"{staging}/blob-{number}"
        self.directory = f"{staging}/layer-{number}"
        self.size = 0
        self._kind = kind
        self._hash = hashlib.sha256()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._unpacking: Unpacking | None = None
        self._feeder: Feeder | None = None
        if unpack:
            news, told = _pipe()
            self._unpacking = Unpacking(self._fd, news, told, self.directory, kind)
            os.close(news)
            self._feeder = Feeder(told)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(data)
        self.size += len(data)
        if self._feeder:
            self._feeder.tell(self.size)

    @property
    def has_failed(self) -> bool:
        """Whether the unpacker has given up, and ``result`` raises why: the rest need not be written."""
        return self._feeder is not None and self._feeder.is_closed

    def finish(self) -> None:
        """The blob is whole. Unpacking may go on for a while."""
        if self._feeder:
            self._feeder.tell(self.size, whole=True)
            self._feeder.close()
        os.close(self._fd)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def result(self) -> dict[str, Any]:
        """Waits for the unpacker; the fields of a ``StagedLayer``, of one that is not unpacked those of its blob.

        Raises what the unpacker raised.
        """
        found = {"blob": self.path, "digest": self.digest, "blob_size": self.size, "compression": self._kind}
        if self._unpacking is not None:
            found["layer"] = self.directory
            found |= self._unpacking.wait()
            found["diff_id"] = found["diff_id"] or self.digest
        return found


class Unpacking:
    """A process that unpacks one blob into ``directory``/diff, and reports when it is asked."""

    def __init__(self, blob: int, news: int | None, told: int, directory: str, kind: Compression) -> None:
        os.mkdir(directory, 0o700)
        os.mkdir(f"{directory}/diff", 0o755)
        compression.prepare(kind)
        answer, tell = os.pipe2(os.O_CLOEXEC)
        self._answer = answer
        self._pid = os.fork()
        if self._pid == 0:
            os.close(answer)
            if told >= 0:
                os.close(told)  # or the pipe would never end for this reader
            _run_and_exit(tell, lambda: unpack_layer(blob, news, f"{directory}/diff", kind))
        os.close(tell)

    def wait(self) -> dict[str, Any]:
        with open(self._answer, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(self._pid, 0)
        if not answer:
            raise RuntimeError(f"the unpacking process ended with status {status}")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise Reported(found["error"], found["kind"])
        return found


class Reported(Exception):
    """An error of another process: its text, and its kind as in ``describe``."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def describe(error: BaseException) -> dict[str, Any]:
    """An error for the engine: "invalid" is the input's fault, "full" the disk's, "missing" a path's,
    "conflict" of what has changed meanwhile, "system" ours."""
    if isinstance(error, Reported):
        return {"error": str(error), "kind": error.kind}
    if isinstance(error, (TarError, PackError, TrailingData)):
        return {"error": str(error), "kind": "invalid"}
    if isinstance(error, Truncated):
        return {"error": "the data ended too early", "kind": "invalid"}
    if isinstance(error, OSError):
        kind = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system"
        if error.errno in _UNFIT:
            kind = "invalid"
        return {"error": _reason(error), "kind": kind}
    return {"error": f"{type(error).__name__}: {error}", "kind": "system"}


def _reason(error: OSError) -> str:
    if isinstance(error, SyscallError | UnpackError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _run_and_exit(tell: int, work: Callable[[], dict[str, Any]]) -> None:
    """The whole life of a forked child."""
    status = 1
    try:
        process.die_with_parent()
        try:
            answer = work()
            status = 0
        except Exception as error:  # whatever it is, the parent gets to know it
            answer = describe(error)
        os.write(tell, json.dumps(answer).encode())
    finally:
        os._exit(status)


def lock_in() -> None:
    """Makes the current directory this process's root, where it may; nothing that lies there is ever run."""
    sys.meta_path.clear()  # nothing can be imported any more
    if os.geteuid() == 0:
        os.chroot(".")


def unpack_layer(blob: int, news: int | None, directory: str, kind: Compression) -> dict[str, Any]:
    """Locks this process into ``directory`` and unpacks there. ``diff_id`` is "" for a plain tar: the blob's digest."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    lock_in()
    limits = Limits.of_file_system(root)
    file = FileSource(blob, Feed(news) if news is not None else None)
    digest = hashlib.sha256()
    source: Source = file
    if kind:
        source = StreamSource(ReadAhead(compression.decompressor(kind, file.read), digest).read)
    found = Unpacker(root, layer=True, limits=limits).unpack(source)
    source.drain()
    diff_id = f"sha256:{digest.hexdigest()}" if kind else ""
    return {"diff_id": diff_id, "size": found.size, "members": found.members}


def receive_layer(read: Read, staging: str, report: Report) -> dict[str, Any]:
    """One tar, compressed or not, becomes one layer. What has no media type of its own is kept uncompressed."""
    start, read = _peek(read)
    kind = compression.detect(start)
    if kind in ("bzip2", "xz"):
        start, read = _peek(compression.decompressor(kind, read))
        kind = compression.detect(start)
    if not kind and not looks_like_tar(start):
        raise TarError("not a tar archive, nor one that is compressed with gzip, zstd, bzip2 or xz")
    layer = Layer(staging, 0, kind)
    reported = 0
    while data := read(_CHUNK):
        layer.write(data)
        if layer.has_failed:
            break
        if layer.size - reported >= _REPORT_EVERY:
            reported = layer.size
            report({"progress": layer.size})
    layer.finish()
    return layer.result()


def receive_archive(read: Read, staging: str, known: frozenset[str], report: Report) -> None:
    """An archive of images: every member that looks like a layer becomes one, small documents are reported whole.

    Which of them matter is in documents that may come last, so all are made, but no more than archives of images have;
    blobs in ``known`` are there already and are only checked. Reports {"member": name, …} for each, and {"link": name,
    "target": name} for links.
    """
    start, read = _peek(read)
    outer = compression.detect(start)
    source = StreamSource(compression.decompressor(outer, read))
    reader = TarReader(source)
    layers: list[tuple[str, Layer]] = []
    count = 0  # of layers
    documents = others = 0  # bytes
    is_described = False

    def settle(name: str, layer: Layer) -> None:
        try:
            report({"member": name, **layer.result()})
        except (Reported, RuntimeError) as error:
            if not name.startswith(_BLOBS):  # where there may be other things that begin as a layer does
                raise Reported(f"invalid archive: {shown(name)}: {error}", "invalid") from error
            report({"member": name, "digest": layer.digest, "broken": str(error)})

    for number, entry in enumerate(reader):
        if number - count >= _OTHERS_AT_MOST + _OTHERS_A_LAYER * count or count > _LAYERS_AT_MOST:
            raise TarError(f"not an archive of images: it has {number} members and goes on")
        name = posixpath.normpath(os.fsdecode(entry.name).lstrip("/") or ".")
        is_described = is_described or name in _DESCRIPTIONS
        if entry.kind in (SYMLINK, HARD_LINK):
            target = os.fsdecode(entry.link)
            if entry.kind == SYMLINK:
                target = posixpath.join(posixpath.dirname(name), target)
            report({"link": name, "target": posixpath.normpath(target.lstrip("/"))})
        if entry.kind != REGULAR or entry.sparse is not None:
            continue
        start = reader.read(BLOCK)
        kind = compression.detect(start)
        if not kind and not looks_like_tar(start):
            if entry.size <= MAX_DOCUMENT and documents < 8 * MAX_DOCUMENT:
                data = start + reader.read()
                documents += len(data)
                digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
                report({"member": name, "document": data.decode("utf-8", "surrogateescape"), "digest": digest})
            elif not name.startswith(_BLOBS):
                others += entry.size
                if others > _OTHER_BYTES_AT_MOST:
                    raise TarError(
                        f"not an archive of images: {shown(name)} is neither a layer nor a description of one"
                    )
            continue
        there = name.startswith(_BLOBS) and "sha256:" + name.removeprefix(_BLOBS) in known
        layer = Layer(staging, number, kind, unpack=not there)
        count += 1
        layer.write(start)
        while True:
            reader.copy(layer.write, _REPORT_EVERY)
            report({"progress": layer.size, "total": entry.size, "member": name})
            if layer.size >= entry.size or layer.has_failed:
                break
        layer.finish()
        layers.append((name, layer))
        while len(layers) >= _UNPACKERS or (layers and layer.has_failed):
            settle(*layers.pop(0))
    if is_described:  # otherwise it is refused, whatever follows
        source.drain()
    for name, layer in layers:
        settle(name, layer)


def commit_upper(upper: str, staging: str) -> dict[str, Any]:
    """Packs an upper directory into a blob, and unpacks that into a layer at the same time."""
    root = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    layer = Layer(staging, 0, "")
    os.fchdir(root)
    lock_in()
    output = Buffered(layer.write)
    packer = Packer(output.write, layer=True)
    packer.pack_tree(root)
    packer.close()
    output.flush()
    layer.finish()
    return layer.result()


def unpack_blob(path: str, staging: str, kind: Compression, news: int | None) -> dict[str, Any]:
    """A blob that is there, or that the engine is still writing (``news``), becomes a layer. It is hashed if plain."""
    blob = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    directory = f"{staging}/layer-0"
    unpacking = Unpacking(blob, news, -1, directory, kind)
    return {"layer": directory, "compression": kind} | unpacking.wait()


def pack_blob(job: jobs.Pack) -> jobs.Packed:
    target, was = job.target, job.was
    blob = os.open(job.source, os.O_RDONLY | os.O_CLOEXEC)
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600) if target else -1
    compression.prepare(was)
    packed = compression.Compressor(job.packing, job.level)
    os.chdir(os.path.dirname(job.source))
    lock_in()
    read = compression.decompressor(was, lambda size: os.read(blob, size))
    whole = b""
    while data := read(_CHUNK - len(whole)):
        whole += data  # pieces of one size, whatever the decompressor gives: others would be packed otherwise
        if len(whole) == _CHUNK:
            _write_all(file, packed.pack(whole))
            whole = b""
    _write_all(file, packed.pack(whole))
    _write_all(file, packed.finish())
    return jobs.Packed(packed.digest, packed.size)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data if fd >= 0 else b"")
    while view:
        view = view[os.write(fd, view) :]


class Buffered:
    """Collects small writes into large ones."""

    def __init__(self, write: Callable[[bytes | memoryview], None]) -> None:
        self._write = write
        self._buffer = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        if len(data) >= _CHUNK // 4:
            self.flush()
            self._write(data)
            return
        self._buffer += data
        if len(self._buffer) >= _CHUNK // 4:
            self.flush()

    def flush(self) -> None:
        if self._buffer:
            self._write(memoryview(self._buffer))
            self._buffer = bytearray()


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _CHUNK)
    return reader, writer


def _peek(read: Read) -> tuple[bytes, Read]:
    """The first block of a stream, and a ``read`` that still begins with it."""
    start = b""
    while len(start) < BLOCK and (data := read(_CHUNK)):
        start += data
    return start[:BLOCK], compression.resume(start, read)
