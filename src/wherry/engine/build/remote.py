"""Files that come by their URL."""

import contextlib
import hashlib
import os
import posixpath
import re
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from wherry.model.errors import EngineError, InvalidParameter

if TYPE_CHECKING:
    import aiohttp

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 18
_TIMEOUT = 60  # seconds without a byte


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


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
