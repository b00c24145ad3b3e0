"""Directories that travel over a session, by fsutil's protocol: only what changed since the last time is sent.

The sender tells of every path, in order (STAT), and ends with an empty STAT. The receiver asks for the contents of the
files it wants (REQ with the path's number), which come in pieces (DATA, an empty one at the end), and says when it has
all (FIN, which is answered in kind)::

    async with sources.receive(session, "context", exclude=rules) as directory:
        …

The client is not trusted: its paths are opened beneath the directory and never through a link, devices and sockets are
passed over, and more data than a file's STAT announced is an error.
"""

import asyncio
import contextlib
import hashlib
import os
import posixpath
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote_plus

import msgspec

from wherry.buildkit import messages
from wherry.buildkit.grpc import Call, Channel, RpcError
from wherry.common.errors import EngineError, InvalidParameter
from wherry.linux import files
from wherry.linux.syscalls import SyscallError

_STAT, _REQ, _DATA, _FIN, _ERR = range(5)  # types of packets

# Go's file modes: the type in the upper bits
_GO_DIRECTORY, _GO_LINK, _GO_SETUID, _GO_SETGID, _GO_STICKY = 1 << 31, 1 << 27, 1 << 23, 1 << 22, 1 << 20
_GO_OTHERS = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19  # devices, pipes, sockets, and what is none of these

_MOST_LINKS = 40  # the kernel's own MAXSYMLINKS
_BATCH = 1 << 20  # bytes that are written at once, in a thread
_MOST_REQUESTED = 256  # files that are asked for ahead
_PIECE = 32 << 10  # bytes of a file in one packet, as fsutil sends them
_INDEX = "index"
_KEPT = 32
_MOST_PATHS = 4_000_000
_DIFF_COPY = "/moby.filesync.v1.FileSync/DiffCopy"
_SEND = "/moby.filesync.v1.FileSend/DiffCopy"


class Session(Protocol):
    """What is needed of one: where its client can be asked, and what tells the same client again."""

    channel: Channel
    shared_key: str


Transferred = Callable[[int, bool], None]
"""Takes how many bytes have come, and whether they are all."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What a STAT says of a path, as far as it tells whether the file is another than before. ``mode`` is Go's."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    linkname: str

    @property
    def is_directory(self) -> bool:
        return bool(self.mode & _GO_DIRECTORY)

    @property
    def is_link(self) -> bool:
        return bool(self.mode & _GO_LINK)

    @property
    def is_hard_link(self) -> bool:
        return bool(self.linkname) and not self.is_link

    @property
    def is_file(self) -> bool:
        return not self.mode & (_GO_DIRECTORY | _GO_LINK | _GO_OTHERS)

    @property
    def permissions(self) -> int:
        special = (_GO_SETUID, stat.S_ISUID), (_GO_SETGID, stat.S_ISGID), (_GO_STICKY, stat.S_ISVTX)
        return self.mode & 0o777 | sum(bit for flag, bit in special if self.mode & flag)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Entry]).decode


class Sources:
    """The directories that were received, below ``root``: one a client and name, kept for the next build.

    The last ``_KEPT`` are; what is removed is only sent again.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(root, 0o710, exist_ok=True)
        for name in os.listdir(root):
            if "." in name:  # made for one build, by an engine that was killed
                shutil.rmtree(f"{root}/{name}", ignore_errors=True)
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}  # how many builds read a directory

    @contextlib.asynccontextmanager
    async def receive(
        self,
        session: Session,
        name: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow: Sequence[str] = (),
        tell: "Transferred" = lambda size, done: None,
    ) -> AsyncIterator[str]:
        """Brings a directory of the client's up to date; its place, which nobody changes inside the block.

        ``include`` and ``exclude`` are patterns as .dockerignore has them, ``follow`` the paths that are needed (all,
        where there are none). ``tell`` hears how many bytes have come.
        Raises EngineError.
        """
        key = hashlib.sha256(f"{session.shared_key}\0{name}\0{bool(follow)}".encode()).hexdigest()
        if not session.shared_key:
            key = os.urandom(16).hex()  # nobody can come back to it
        metadata = [("dir-name", name)]
        metadata += (
            _header("include-patterns", include) + _header("exclude-patterns", exclude) + _header("followpaths", follow)
        )
        place, lock = "", self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock, session.channel.call(_DIFF_COPY, metadata) as call:
                place = await self._update(call, key, tell)
                self._users[place] = self._users.get(place, 0) + 1
            await self._remove_oldest()
            yield f"{place}/files"
        finally:
            if place:
                self._users[place] -= 1
                if not self._users[place]:
                    del self._users[place]
                if not session.shared_key or os.path.basename(place) != key:
                    await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _update(self, call: Call, key: str, tell: "Transferred") -> str:
        told = await _paths(call)
        place = f"{self._root}/{key}"
        before = await asyncio.to_thread(_read_index, place)
        if told == before:
            await _finish(call)
            tell(call.received, True)
            os.utime(f"{place}/{_INDEX}")
            return place
        if self._users.get(place):
            place = f"{place}.{os.urandom(4).hex()}"  # another build still reads it as it was
            before = None
        receiver = _Receiver(place, before, told)
        await asyncio.to_thread(receiver.prepare)
        try:
            await receiver.fetch(call, tell)
            await asyncio.to_thread(receiver.complete)
        finally:
            receiver.close()
        await _finish(call)
        tell(call.received, True)
        return place

    async def _remove_oldest(self) -> None:
        """Removes the copies that were not brought up to date for longest."""
        ages = {}
        for name in os.listdir(self._root):
            with contextlib.suppress(OSError):
                ages[name] = os.stat(f"{self._root}/{name}/{_INDEX}").st_mtime
        await self._remove(sorted(ages, key=ages.__getitem__)[: max(len(ages) - _KEPT, 0)])

    async def _remove(self, names: list[str]) -> None:
        """Removes those that no build reads or brings up to date. Renamed first: a build that comes starts anew."""
        removed = []
        for name in names:
            lock = self._locks.get(name)
            if not self._users.get(f"{self._root}/{name}") and not (lock and lock.locked()) and "." not in name:
                removed.append(f"{self._root}/{name}.{os.urandom(4).hex()}")
                os.rename(f"{self._root}/{name}", removed[-1])
        for place in removed:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    def usage(self) -> int:
        """Bytes of all directories."""
        total = 0
        for directory, _, names in os.walk(self._root):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(f"{directory}/{name}").st_blocks * 512
        return total

    async def prune(self) -> int:
        """Removes those that no build uses; how many bytes that frees."""
        before = await asyncio.to_thread(self.usage)
        await self._remove(os.listdir(self._root))
        return before - await asyncio.to_thread(self.usage)


async def read_files(session: Session, name: str, paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of small files of a client's directory; those that are not there are left out."""
    async with session.channel.call(_DIFF_COPY, [("dir-name", name), *_header("followpaths", paths)]) as call:
        told = await _paths(call)
        wanted = {number: path for number, path in enumerate(told) if told[path].is_file}
        for number, path in wanted.items():
            if told[path].size > _BATCH * 16:
                raise InvalidParameter(f"{path} is larger than 16 MiB")
            await call.send(messages.Packet(type=_REQ, id=number))
        contents: dict[int, bytearray] = {number: bytearray() for number in wanted}
        open_ones = set(wanted)
        while open_ones:
            packet = await _next_data(call)
            if packet.id not in open_ones:
                raise RpcError(3, f"invalid file request {packet.id}")
            if not packet.data:
                open_ones.discard(packet.id)
            contents[packet.id] += packet.data
            if len(contents[packet.id]) > _BATCH * 16:
                raise InvalidParameter(f"{wanted[packet.id]} is larger than 16 MiB")
        await _finish(call)
        found = {wanted[number]: bytes(content) for number, content in contents.items()}
        ends = {path: _end_of(path, told) for path in paths}
        return {path: found[end] for path, end in ends.items() if end in found}


def _end_of(path: str, told: Mapping[str, Entry]) -> str:
    """Where the links in a path lead to, of which the client has sent those that it needs; "" for nowhere."""
    path = posixpath.normpath(path)
    for _ in range(_MOST_LINKS):
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        link = next((each for each in above if each in told and told[each].is_link), "")
        if not link:
            return path
        target = posixpath.join("/", posixpath.dirname(link), told[link].linkname)
        path = posixpath.normpath(target + path.removeprefix(link)).lstrip("/")
    return ""


async def send_directory(session: Session, directory: str, metadata: list[tuple[str, str]]) -> None:
    """Sends the files of a directory to the client: ``--output type=local``. Raises EngineError."""
    async with session.channel.call(_SEND, metadata) as call:
        entries = await asyncio.to_thread(lambda: list(_walk(directory)))
        for _, entry in entries:
            await call.send(messages.Packet(type=_STAT, stat=entry))
        await call.send(messages.Packet(type=_STAT))
        while (packet := await call.receive(messages.Packet)) is not None:
            if packet.type == _REQ:
                if packet.id >= len(entries):
                    raise RpcError(3, f"invalid file request {packet.id}")
                await _send_file(call, packet.id, entries[packet.id][0])
            elif packet.type == _ERR:
                raise EngineError(f"error from receiver: {packet.data.decode(errors='replace')}")
            elif packet.type == _FIN:
                await call.send(messages.Packet(type=_FIN), end=True)
                await call.finish()
                return


async def _send_file(call: Call, number: int, path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        while data := await asyncio.to_thread(os.read, fd, _BATCH):
            for at in range(0, len(data), _PIECE):
                await call.send(messages.Packet(type=_DATA, id=number, data=data[at : at + _PIECE]))
    finally:
        os.close(fd)
    await call.send(messages.Packet(type=_DATA, id=number))


def _walk(directory: str, below: str = "", seen: dict[tuple[int, int], str] | None = None) -> Iterator[tuple[str, Any]]:
    """Paths and their STATs, in the order that fsutil wants: a directory before what is in it, names as bytes.

    ``seen`` are the files with several names that came already: the others are links to the first.
    """
    seen = {} if seen is None else seen
    for name in sorted(os.listdir(f"{directory}/{below}"), key=os.fsencode):
        path = f"{below}/{name}" if below else name
        full = f"{directory}/{path}"
        facts = os.lstat(full)
        mode, linkname = stat.S_IMODE(facts.st_mode) & 0o777, ""
        special = (stat.S_ISUID, _GO_SETUID), (stat.S_ISGID, _GO_SETGID), (stat.S_ISVTX, _GO_STICKY)
        mode |= sum(flag for bit, flag in special if facts.st_mode & bit)
        if stat.S_ISDIR(facts.st_mode):
            mode |= _GO_DIRECTORY
        elif stat.S_ISLNK(facts.st_mode):
            mode, linkname = mode | _GO_LINK, os.readlink(full)
        elif not stat.S_ISREG(facts.st_mode):
            continue
        elif facts.st_nlink > 1:
            first = seen.setdefault((facts.st_dev, facts.st_ino), path)
            linkname = "" if first == path else first
        size = facts.st_size if stat.S_ISREG(facts.st_mode) and not linkname else 0
        yield (
            full,
            messages.Stat(
                path=path,
                mode=mode,
                uid=facts.st_uid,
                gid=facts.st_gid,
                size=size,
                mtime=facts.st_mtime_ns,
                linkname=linkname,
            ),
        )
        if mode & _GO_DIRECTORY:
            yield from _walk(directory, path, seen)


def _header(name: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """A list as metadata; text beyond ASCII is quoted, and said to be."""
    if all(value.isascii() for value in values):
        return [(name, value) for value in values]
    return [*((name, quote_plus(value)) for value in values), (f"{name}-encoded", "1")]


async def _paths(call: Call) -> dict[str, Entry]:
    """All that the sender tells of. Raises EngineError for what no honest one sends."""
    told: dict[str, Entry] = {}
    while (packet := await call.receive(messages.Packet)) is not None:
        if packet.type == _ERR:
            raise EngineError(f"error from sender: {packet.data.decode(errors='replace')}")
        if packet.type != _STAT:
            raise RpcError(3, "expected the paths of the files first")
        if not packet.HasField("stat"):
            return told
        found = packet.stat
        _check_path(found.path)
        if found.path in told or len(told) >= _MOST_PATHS or found.size < 0:
            raise RpcError(3, f"invalid path {found.path!r}: sent twice, too many, or of no size")
        told[found.path] = Entry(found.mode, found.uid, found.gid, found.size, found.mtime, found.linkname)
    raise RpcError(3, "the paths of the files are cut off")


def _check_path(path: str) -> None:
    if (
        not path
        or path.startswith("/")
        or "\0" in path
        or posixpath.normpath(path) != path
        or path.split("/")[0] == ".."
    ):
        raise RpcError(3, f"invalid path {path!r}")


async def _next_data(call: Call) -> Any:
    packet = await call.receive(messages.Packet)
    if packet is None:
        raise RpcError(14, "the client stopped sending files")
    if packet.type == _ERR:
        raise EngineError(f"error from sender: {packet.data.decode(errors='replace')}")
    if packet.type != _DATA:
        raise RpcError(3, "expected the content of a file")
    return packet


async def _finish(call: Call) -> None:
    await call.send(messages.Packet(type=_FIN))
    while (packet := await call.receive(messages.Packet)) is not None and packet.type != _FIN:
        if packet.type == _ERR:
            raise EngineError(f"error from sender: {packet.data.decode(errors='replace')}")
    await call.send_end()
    while await call.receive(messages.Packet) is not None:
        pass


def _read_index(place: str) -> dict[str, Entry] | None:
    """What the directory holds; None when that is not known, since it was being changed when the engine died."""
    try:
        with open(f"{place}/{_INDEX}", "rb") as file:
            return _decode(file.read())
    except (OSError, msgspec.DecodeError):
        return None


class _Receiver:
    """Turns what is there (``before``) into what was told."""

    def __init__(self, place: str, before: dict[str, Entry] | None, told: dict[str, Entry]) -> None:
        self._place = place
        self._told = told
        self._before = before
        self._root = -1
        self._wanted: dict[int, str] = {}
        self._links: list[tuple[str, str]] = []
        self._open: dict[int, tuple[int, int]] = {}  # descriptors, and how many bytes are still to come

    def prepare(self) -> None:
        """Removes what is gone or is another, makes directories, links and empty files."""
        if self._before is None:
            shutil.rmtree(self._place, ignore_errors=True)
            os.makedirs(f"{self._place}/files", 0o700)
            os.chmod(f"{self._place}/files", 0o755)
        else:
            os.unlink(f"{self._place}/{_INDEX}")
        before = self._before or {}
        self._root = os.open(f"{self._place}/files", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for path in reversed(before):  # what is in a directory before the directory
            if path not in self._told or self._is_other_kind(before[path], self._told[path]):
                self._remove(path, before[path])
        for number, (path, entry) in enumerate(self._told.items()):
            if before.get(path) != entry or entry.is_hard_link:
                self._make(number, path, entry)

    @staticmethod
    def _is_other_kind(before: Entry, now: Entry) -> bool:
        """Whether it cannot be changed in place: files are always written anew."""
        return (before != now or now.is_hard_link) and not (before.is_directory and now.is_directory)

    def _parent(self, path: str) -> tuple[int, str]:
        directory, name = posixpath.split(path)
        flags = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS
        try:
            return files.open_in(self._root, directory or ".", os.O_RDONLY | os.O_DIRECTORY, flags), name
        except SyscallError:
            raise RpcError(3, f"invalid path {path!r}: what it is in was not sent as a directory") from None

    def _remove(self, path: str, entry: Entry) -> None:
        if entry.mode & _GO_OTHERS:
            return
        parent, name = self._parent(path)
        try:
            (os.rmdir if entry.is_directory else os.unlink)(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        finally:
            os.close(parent)

    def _make(self, number: int, path: str, entry: Entry) -> None:
        if entry.mode & _GO_OTHERS:
            return
        parent, name = self._parent(path)
        try:
            if entry.is_directory:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
            elif entry.is_link:
                os.symlink(entry.linkname, name, dir_fd=parent)
                self._set_facts(parent, name, entry)
            elif entry.is_hard_link:
                self._links.append((path, entry.linkname))
            else:
                self._wanted[number] = path
        except OSError as error:
            raise EngineError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            os.close(parent)

    async def fetch(self, call: Call, tell: Transferred) -> None:
        """Asks for the contents, many at a time, and writes them as they come."""
        waiting = iter(self._wanted)
        asked: set[int] = set()
        batch: list[tuple[int, bytes]] = []
        size = 0
        while True:
            while len(asked) < _MOST_REQUESTED and (number := next(waiting, -1)) >= 0:
                asked.add(number)
                await call.send(messages.Packet(type=_REQ, id=number))
            if not asked:
                break
            packet = await _next_data(call)
            if packet.id not in asked:
                raise RpcError(3, f"invalid file request {packet.id}")
            if not packet.data:
                asked.discard(packet.id)
            batch.append((packet.id, packet.data))
            size += len(packet.data) + 256
            if size > _BATCH or not asked:
                await asyncio.to_thread(self._write, batch)
                tell(call.received, False)
                batch, size = [], 0
        if batch:
            await asyncio.to_thread(self._write, batch)

    def _write(self, batch: list[tuple[int, bytes]]) -> None:
        for number, data in batch:
            path = self._wanted[number]
            entry = self._told[path]
            if number not in self._open:
                self._open[number] = self._create(path), entry.size
            fd, left = self._open[number]
            if len(data) > left:
                raise RpcError(3, f"{path} has more content than was announced")
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            except OSError as error:
                raise EngineError(f"write {path}: {os.strerror(error.errno or 0).lower()}") from None
            self._open[number] = fd, left - len(data)
            if not data:
                os.close(fd)
                del self._open[number]
                parent, name = self._parent(path)
                self._set_facts(parent, name, entry)
                os.close(parent)
                if left:  # it became shorter meanwhile: what is there is asked for again the next time
                    self._told[path] = msgspec.structs.replace(entry, size=entry.size - left)

    def _create(self, path: str) -> int:
        parent, name = self._parent(path)
        try:
            return os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
        except OSError as error:
            raise EngineError(f"create {path}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            os.close(parent)

    def complete(self) -> None:
        """Hard links, and the times of directories, which the files in them have changed; then the index."""
        for path, target in self._links:
            _check_path(target)
            (source, old), (parent, name) = self._parent(target), self._parent(path)
            try:
                os.link(old, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                raise EngineError(f"link {path}: {os.strerror(error.errno or 0).lower()}") from None
            finally:
                os.close(source)
                os.close(parent)
        for path, entry in reversed(self._told.items()):
            if entry.is_directory:
                parent, name = self._parent(path)
                self._set_facts(parent, name, entry)
                os.close(parent)
        with open(f"{self._place}/{_INDEX}.new", "wb") as file:
            file.write(_encode(self._told))
        os.rename(f"{self._place}/{_INDEX}.new", f"{self._place}/{_INDEX}")

    def _set_facts(self, parent: int, name: str, entry: Entry) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if not entry.is_link:
            os.chmod(name, entry.permissions, dir_fd=parent)
        os.utime(name, ns=(max(entry.mtime, 0),) * 2, dir_fd=parent, follow_symlinks=False)

    def close(self) -> None:
        for fd, _ in self._open.values():
            os.close(fd)
        if self._root >= 0:
            os.close(self._root)
