"""What comes over the network: files by URL, and git repositories by the git program, where there is one."""

import asyncio
import contextlib
import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from wherry.model.errors import EngineError, InvalidParameter, NotSupported

if TYPE_CHECKING:
    import aiohttp

_GIT = re.compile(r"(?:git://|git@|ssh://|(?:https?://)?github\.com/|https?://[^#?]+\.git(?:[#?]|$))")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 18
_TIMEOUT = 60  # seconds without a byte


class GitAddress(msgspec.Struct, frozen=True):
    """``https://host/path.git#ref:directory``"""

    url: str
    ref: str = ""
    directory: str = ""


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    return bool(_GIT.match(text))


def parse_git(text: str) -> GitAddress:
    """Raises InvalidParameter for what git must not be given."""
    url, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or ref.startswith("-"):
        raise InvalidParameter(f"invalid git address: {text}")
    return GitAddress(url, ref, directory)


async def clone(address: GitAddress, target: str, *, keep_git: bool = False, commit: str = "") -> None:
    """Checks out one commit with its submodules into the empty directory ``target``.

    Raises EngineError, and InvalidParameter when it is another one than ``commit``, its beginning.
    """
    if shutil.which("git") is None:
        raise NotSupported(f"{address.url}: the git program is not installed on the engine's machine")
    await _git(target, "init", "--quiet")
    await _git(target, "fetch", "--quiet", "--depth", "1", "--", address.url, address.ref or "HEAD")
    await _git(target, "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD")
    found = (await _git(target, "rev-parse", "HEAD")).strip()
    if commit and not found.startswith(commit):
        raise InvalidParameter(f"expected checksum to match {commit}, got {found}")
    if ".gitmodules" in os.listdir(target):
        await _git(target, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1")
    if not keep_git:
        await asyncio.to_thread(shutil.rmtree, f"{target}/.git")


async def _git(directory: str, *arguments: str) -> str:
    """What it printed."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        # No settings but the repository's own: some are commands, and those in its files are somebody else's.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    process = await asyncio.create_subprocess_exec(
        *("git", "-C", directory, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        printed, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise EngineError(f"git {arguments[0]} failed: {errors.decode(errors='replace').strip()}")
    return printed.decode(errors="replace")


class Download(msgspec.Struct, frozen=True):
    """A file that has arrived: its place, its name, its digest, when it was last changed (ns, 0 for not known)."""

    path: str
    name: str
    digest: str
    mtime: int


async def download(url: str, directory: str, *, checksum: str = "") -> Download:
    """Fetches ``url`` into ``directory``. Raises EngineError, InvalidParameter for another content than promised."""
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidParameter(f'invalid checksum "{checksum}": expected sha256: and 64 hexadecimal digits')
    name = posixpath.basename(unquote(urlsplit(url).path)) or "download"
    path = f"{directory}/{name}"
    total = hashlib.sha256()
    async with _get(url) as answer:
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
    return Download(path, name, digest, mtime)


async def content(url: str) -> AsyncIterator[bytes]:
    """What is behind ``url``, as it comes. Raises EngineError."""
    async with _get(url) as answer:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            yield chunk


@contextlib.asynccontextmanager
async def _get(url: str) -> AsyncIterator["aiohttp.ClientResponse"]:
    """The answer of a server that has it. What goes wrong, also while it is read, is an EngineError."""
    import aiohttp  # its client is 3 MB that few need

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT, sock_read=_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(trust_env=True, timeout=timeout, auto_decompress=False) as session,
            session.get(url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status >= 400:
                raise EngineError(f"failed to GET {url} with status {answer.status} {answer.reason}")
            yield answer
    except aiohttp.ClientConnectorError as error:
        raise EngineError(f"failed to GET {url}: {_reason(error.os_error)}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise EngineError(f"failed to GET {url}: {error or type(error).__name__}") from None


def _reason(error: OSError) -> str:
    """In the system's own words: asyncio's are of its functions."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _moment(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0
