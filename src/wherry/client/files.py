"""A container's files, in and out: as bytes, as local files and folders, as tars."""

from __future__ import annotations

import os
import posixpath
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING, Any

from wherry.client.nouns import containers as nouns
from wherry.client.pack import pack
from wherry.client.process import pieces_of

if TYPE_CHECKING:
    from wherry.client.client import AsyncClient
    from wherry.client.process import Input

_IN_MEMORY = 1 << 22  # bytes that are held before they go to a file of the system's


async def read(client: AsyncClient, container: str, path: str) -> bytes:
    """See AsyncContainer.read."""
    found = await client.containers.stat_path(container, path)
    if found["mode"] & nouns.SYMLINK:
        path = posixpath.join(posixpath.dirname(path), found["linkTarget"])
    _, response = await client.containers.get_archive(container, path)
    with await _spooled(client, response.pieces()) as packed, tarfile.open(fileobj=packed) as archive:
        member = archive.next()
        content = archive.extractfile(member) if member is not None else None
        if content is None:
            raise IsADirectoryError(f"{path} is not a file of container {container[:12]}")
        return content.read()


async def write(client: AsyncClient, container: str, path: str, content: Input, mode: int) -> None:
    """See AsyncContainer.write."""
    directory, name = posixpath.split(path)
    with await _spooled(client, pieces_of(client.loop, content)) as spooled:
        size = spooled.seek(0, os.SEEK_END)
        spooled.seek(0)
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size, mode, int(time.time())

        async def packed() -> AsyncIterator[bytes]:
            yield header.tobuf()
            async for piece in pieces_of(client.loop, spooled):
                yield bytes(piece)
            yield bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)

        await client.containers.put_archive(container, directory or "/", packed())


async def copy_to(client: AsyncClient, container: str, source: str | os.PathLike[str], path: str) -> None:
    """See AsyncContainer.copy_to."""
    local = os.fspath(source)
    directory, name = posixpath.split(path.rstrip("/"))
    if path.endswith("/"):
        directory, name = path, posixpath.basename(local.rstrip("/"))
    await client.containers.put_archive(container, directory or "/", client.loop.iterate(pack(local, name)))


async def copy_from(client: AsyncClient, container: str, path: str, destination: str | os.PathLike[str]) -> None:
    """See AsyncContainer.copy_from."""
    _, response = await client.containers.get_archive(container, path)
    with await _spooled(client, response.pieces()) as packed:
        await client.loop.call(_unpack, packed, os.fspath(destination))


def _unpack(packed: IO[bytes], destination: str) -> None:
    """Written out, as Python 3.11.2, which Debian 12 has, knows no filters of tarfile's."""
    is_there = os.path.isdir(destination)
    directory, name = (destination, "") if is_there else os.path.split(os.path.abspath(destination))

    def renamed(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if name:
            member.name = _below(name, member.name)
            if member.islnk():
                member.linkname = _below(name, member.linkname)
        return member

    with tarfile.open(fileobj=packed) as archive:
        archive.extraction_filter = lambda member, place: member  # newer ones filter, or warn, by default
        archive.extractall(directory, (_harmless(renamed(member), directory) for member in archive))


def _harmless(member: tarfile.TarInfo, directory: str) -> tarfile.TarInfo:
    """A container's files are a stranger's: nothing leaves the directory, and no device or special bit comes along.

    To be called just before the member is extracted: it depends on the links that are there. Raises tarfile.TarError.
    """
    _check_inside(member.name, directory)
    if member.issym():
        if os.path.isabs(member.linkname):
            raise tarfile.TarError(f"{member.name} is a link to an absolute path, {member.linkname}")
        _check_inside(posixpath.join(posixpath.dirname(member.name), member.linkname), directory)
    elif member.islnk():
        _check_inside(member.linkname, directory)
    elif not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name} is a device or a pipe")
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    return member


def _check_inside(path: str, directory: str) -> None:
    root = os.path.realpath(directory)
    found = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath((root, found)) != root:
        raise tarfile.TarError(f"{path} would be outside of {directory}")


def _below(name: str, path: str) -> str:
    """A path of the archive with another name for its first part."""
    _, slash, rest = path.partition("/")
    return name + slash + rest


async def _spooled(client: AsyncClient, pieces: Any) -> IO[bytes]:
    """All of it, from its beginning: its size is to be known, or a program is to go back and forth in it."""
    spooled = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        async for piece in pieces:
            spooled.write(piece)
    except BaseException:
        spooled.close()
        raise
    spooled.seek(0)
    return spooled
