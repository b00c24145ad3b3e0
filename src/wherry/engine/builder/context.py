"""Where a build's own files are, and its Dockerfile: however they came, they are a directory in the end."""

import asyncio
import contextlib
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from wherry.common.errors import EngineError, Forbidden, InvalidParameter, NotFound
from wherry.common.ignore import PatternMatcher, Rule
from wherry.common.ports import split_address
from wherry.common.tls import client_context
from wherry.engine.builder import git
from wherry.linux import files
from wherry.linux.syscalls import SyscallError
from wherry.registry.errors import printable
from wherry.storage.build_cache import Known
from wherry.storage.build_snapshots import Workspace
from wherry.storage.worker import client, jobs

if TYPE_CHECKING:
    import aiohttp

# Files that come by their URL.

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 18
_TIMEOUT = 60  # seconds without a byte
_SAID = 1024  # bytes of what a server says that has nothing


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


class Download(msgspec.Struct, frozen=True):
    """A file that has arrived: its place, its name, its digest, when it was last changed (ns, 0 for not known).

    ``path`` is "" for one that is as it was, and has not been fetched again. ``etag`` is the server's word for it.
    """

    path: str
    name: str
    digest: str
    mtime: int = 0
    etag: str = ""


async def download(url: str, directory: str, *, checksum: str = "", known: Known | None = None) -> Download:
    """Fetches ``url`` into ``directory``, unless the server says that it is as it was.

    Raises EngineError, InvalidParameter for another content than promised.
    """
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidParameter(f'invalid checksum "{checksum}": expected sha256: and 64 hexadecimal digits')
    name = posixpath.basename(unquote(split_address(url).path)) or "download"
    path = f"{directory}/{name}"
    total = hashlib.sha256()
    if known is not None and checksum and known.digest != checksum:
        known = None
    async with _get(url, {"If-None-Match": known.etag} if known else {}) as answer:
        if known is not None and answer.status == 304:
            return Download("", known.name, known.digest)
        etag = answer.headers.get("ETag", "")
        changed = answer.headers.get("Last-Modified", "")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            async for chunk in answer.content.iter_chunked(_CHUNK):
                total.update(chunk)
                file.write(chunk)
    digest = f"sha256:{total.hexdigest()}"
    if checksum and checksum != digest:
        raise InvalidParameter(f"digest mismatch {digest}: {checksum}")
    mtime = _moment(changed)
    if mtime:
        os.utime(path, ns=(mtime, mtime))
    return Download(path, name, digest, mtime, etag)


async def stream_url(url: str) -> AsyncIterator[bytes]:
    """What is behind ``url``, as it comes. Raises EngineError."""
    async with _get(url) as answer:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            yield chunk


@contextlib.asynccontextmanager
async def _get(url: str, headers: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator["aiohttp.ClientResponse"]:
    """The answer of a server that has it. What goes wrong, also while it is read, is an EngineError."""
    import aiohttp  # its client is 3 MB that few need

    if not is_url(url):
        scheme, _, _ = url.partition("://")
        raise EngineError(f'Get "{url}": unsupported protocol scheme "{scheme}"')
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT, sock_read=_TIMEOUT)
    try:
        async with (
            aiohttp.TCPConnector(ssl=client_context()) as connector,
            aiohttp.ClientSession(
                connector=connector, trust_env=True, timeout=timeout, auto_decompress=False
            ) as session,
            session.get(url, headers={"Accept-Encoding": "identity", **headers}) as answer,
        ):
            if answer.status >= 400:
                said = printable((await answer.content.read(_SAID)).decode(errors="replace").strip())
                kind = {400: InvalidParameter, 403: Forbidden, 404: NotFound}.get(answer.status, EngineError)
                text = f"failed to GET {url} with status {answer.status} {answer.reason}"
                raise kind(f"{text}: {said}" if said else text)
            yield answer
    except aiohttp.ClientConnectorError as error:
        reason = f"dial tcp {error.host}:{error.port}: connect: {_reason(error.os_error)}"
        raise EngineError(f'Get "{url}": {reason}') from None
    except aiohttp.InvalidURL:
        raise EngineError(f'Get "{url}": not an address') from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise EngineError(f"failed to GET {url}: {error or type(error).__name__}") from None


def _reason(error: OSError) -> str:
    """The reason in the system's own words: asyncio names its functions."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _moment(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0


IGNORE_FILE = ".dockerignore"
_DEFAULT = "Dockerfile"
_LARGEST = 16 << 20  # bytes of a Dockerfile or a .dockerignore


class Context(msgspec.Struct, frozen=True):
    """``directory`` holds the files; ``ignored`` says which of them are as if not there, see ``PatternMatcher``.

    ``dockerfile`` is the text, ``name`` what errors call it; ``left_out`` says what was never in the directory.
    """

    directory: str
    ignored: list[Rule]
    dockerfile: bytes
    name: str
    left_out: PatternMatcher | None = None


async def receive(
    workspace: Workspace,
    stream: AsyncIterable[bytes],
    dockerfile: str,
    outside: str = "",
    *,
    text: bytes | None = None,
) -> Context:
    """A tar from a client, or a Dockerfile alone. Raises InvalidParameter.

    ``outside``: the Dockerfile is no part of the context, and this is its name. ``text`` is one from elsewhere.
    """
    directory = workspace.directory("context")
    answer = await client.run(jobs.ReceiveContext(directory=directory), input=stream)
    found = _open(directory, dockerfile if answer.tar else _DEFAULT, filtered=True, text=text)
    if not outside:
        return found
    added = PatternMatcher.of((dockerfile, f"{dockerfile}{IGNORE_FILE}")).rules
    return msgspec.structs.replace(found, name=outside, ignored=[*found.ignored, *added])


async def fetch(
    workspace: Workspace, address: str, dockerfile: str, *, keep_git: bool | None = None, text: bytes | None = None
) -> Context:
    """A git repository, a tar behind a URL, or a Dockerfile behind one. ``text`` is a Dockerfile from elsewhere.

    Raises EngineError, InvalidParameter.
    """
    if git.is_address(address):
        parsed = git.parse(address)
        clone = workspace.directory("git")
        await git.clone(parsed, clone, keep_git=keep_git)
        return _open(inside(clone, parsed.directory), dockerfile, filtered=True, text=text)
    if not is_url(address):
        raise InvalidParameter(f"remote {address}: expected a URL or the address of a git repository")
    got = await download(address, workspace.directory("download"))
    return await receive(workspace, _read(got.path), dockerfile, text=text)


async def fetch_files(workspace: Workspace, address: str) -> str:
    """A directory with the files of a git repository, or of a tar behind a URL. Raises EngineError."""
    if git.is_address(address):
        parsed = git.parse(address)
        clone = workspace.directory("git")
        await git.clone(parsed, clone)
        return inside(clone, parsed.directory)
    if not is_url(address):
        raise InvalidParameter(f"context {address}: expected a URL or the address of a git repository")
    got = await download(address, workspace.directory("download"))
    directory = workspace.directory("context")
    context: jobs.Context = await client.run(jobs.ReceiveContext(directory=directory), input=_read(got.path))
    return directory if context.tar else os.path.dirname(got.path)


def on_this_machine(directory: str, dockerfile: str, text: bytes | None, ignore: bytes | None) -> Context:
    """A directory that is read where it lies. ``text`` is a Dockerfile from elsewhere, ``ignore`` what is beside it."""
    return _open(directory, dockerfile, filtered=False, text=text, ignore=ignore)


def read_file(directory: str, path: str) -> bytes | None:
    """A small file of a directory, which no link leads out of; None when it is not there."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = files.open_in(root, "/" + path, os.O_RDONLY | os.O_NONBLOCK)
    except SyscallError:
        return None
    finally:
        os.close(root)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    with open(fd, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InvalidParameter(f"{path} is larger than {_LARGEST >> 20} MiB")
    return data


def _open(
    directory: str, dockerfile: str, *, filtered: bool, text: bytes | None = None, ignore: bytes | None = None
) -> Context:
    """``filtered``: the client has left out what .dockerignore names, but for the files that the engine needs."""
    name = dockerfile or _DEFAULT
    if text is None:
        text = read_file(directory, name)
        if text is None and not dockerfile:
            name = name.lower()
            text = read_file(directory, name)
        if text is None:
            raise InvalidParameter(f"Cannot locate specified Dockerfile: {dockerfile or _DEFAULT}")
    rules = _ignore_rules(directory, name) if ignore is None else PatternMatcher.parse(ignore, f"{name}{IGNORE_FILE}")
    if not filtered:
        return Context(directory, rules.rules, text, name)
    own = [own for own in (name, IGNORE_FILE) if rules.matches(own)]
    return Context(directory, PatternMatcher.of(own).rules if own else [], text, name, rules)


def _ignore_rules(directory: str, dockerfile: str) -> PatternMatcher:
    for name in (f"{dockerfile}{IGNORE_FILE}", IGNORE_FILE):
        text = read_file(directory, name)
        if text is not None:
            return PatternMatcher.parse(text, name)
    return PatternMatcher()


def inside(directory: str, path: str) -> str:
    """A directory below another one, with links resolved inside of that. Raises InvalidParameter."""
    place = resolve(directory, path)
    if place is None:
        raise InvalidParameter(f"the repository has no directory {path}")
    return place.path


class Place(msgspec.Struct, frozen=True):
    """Where something of a directory really lies, on this machine and in the directory."""

    path: str
    inner: str
    is_directory: bool


def resolve(directory: str, path: str) -> Place | None:
    """The place of ``path``, its links resolved inside of the directory; None when it is not there."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = files.open_in(root, "/" + path)
        try:
            found, above = (os.readlink(f"/proc/self/fd/{each}") for each in (fd, root))
            inner = os.path.relpath(found, above)
            return Place(found, "" if inner == "." else inner, stat.S_ISDIR(os.fstat(fd).st_mode))
        finally:
            os.close(fd)
    except SyscallError:
        return None
    finally:
        os.close(root)


async def _read(path: str) -> AsyncIterable[bytes]:
    file = await asyncio.to_thread(open, path, "rb")
    with file:
        while data := file.read(1 << 18):
            yield data
