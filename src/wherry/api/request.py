"""One request, read by Docker's rules: what counts as true, what a filter looks like, which bodies are JSON."""

import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from wherry.api import body
from wherry.api.body import T, fit
from wherry.api.versions import Version
from wherry.common import times
from wherry.common.errors import InvalidParameter
from wherry.model.manifests import Platform
from wherry.registry import platforms


def parse_moment(text: str) -> int | None:
    """Nanoseconds of seconds since 1970 or of an RFC 3339 time; None for "". Raises ValueError.

    >>> parse_moment("1700000000.5")
    1700000000500000000
    >>> parse_moment("2023-11-14T22:13:20Z")
    1700000000000000000
    """
    if not text:
        return None
    try:
        return times.parse_rfc3339(text) if "-" in text[1:] else times.parse_unix(text)
    except ValueError as error:
        raise ValueError(f"invalid timestamp: {error}") from None


Filters = dict[str, list[str]]

_FALSE = ("", "0", "no", "false", "none")
_FILTERS = msgspec.json.Decoder(dict[str, dict[str, bool] | list[str] | None])


_UCRED = struct.Struct("3i")  # struct ucred


class Peer(NamedTuple):
    """A process on this machine; of a pid namespace that is not seen from here it is 0."""

    pid: int
    uid: int
    gid: int


class Request:
    """``name`` is the part of the path that names something (a container, an image); ``version`` the client's API."""

    __slots__ = ("_given", "http", "name", "version")

    def __init__(self, http: web.BaseRequest, version: Version, name: str = "", body: bytes | None = None) -> None:
        """``body`` is what has been read of it, which is all; None leaves it to be read."""
        self._given = body
        self.http = http
        self.version = version
        self.name = name

    def has(self, key: str) -> bool:
        return key in self.http.query

    def text(self, key: str) -> str:
        return self.http.query.get(key, "")

    def texts(self, key: str) -> list[str]:
        return self.http.query.getall(key, [])

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.http.query.get(key)
        return default if value is None else value.strip().lower() not in _FALSE

    def integer(self, key: str) -> int | None:
        """None when it is not there or empty. Raises InvalidParameter in the words of Go's Atoi."""
        value = self.text(key)
        if not value:
            return None
        digits = value[1:] if value[0] in "+-" else value
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax')
        return int(value)

    def size(self, key: str, what: str) -> int:
        """A number of rows or columns, which must be there."""
        value = self.text(key)
        if not (value.isascii() and value.isdigit()):
            raise InvalidParameter(f'invalid {what} "{value}": invalid syntax')
        if int(value) >= 1 << 32:
            raise InvalidParameter(f'invalid {what} "{value}": value out of range')
        return int(value)

    def moment(self, key: str) -> int | None:
        """Nanoseconds since the epoch, None when it is not there."""
        try:
            return parse_moment(self.text(key))
        except ValueError as error:
            raise InvalidParameter(f'invalid value for "{key}": {error}') from None

    def filters(self) -> Filters:
        """``{"status": ["running"]}``, or Docker's older form of the same, ``{"status": {"running": true}}``."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            found = _FILTERS.decode(text)
        except msgspec.MsgspecError:
            raise InvalidParameter("invalid filter") from None
        return {name: list(values) for name, values in found.items() if values}

    async def json(self, kind: type[T]) -> T:
        """The body as a struct; no body is one of zero values. Raises InvalidParameter."""
        return fit(await self.json_object(), kind)

    async def json_object(self) -> dict[str, Any]:
        """The body's members as they came; {} when there is none."""
        if not self.http.body_exists:
            return {}
        self._require_json()
        found = await body.read(self.body())
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InvalidParameter(f"invalid JSON: expected object, got {type(found).__name__}")
        return found

    def _require_json(self) -> None:
        kind = self.http.headers.get("Content-Type", "")
        media = kind.partition(";")[0].strip().lower()
        if not media:
            raise InvalidParameter(f"malformed Content-Type header ({kind}): mime: no media type")
        if media != "application/json":
            raise InvalidParameter(f"unsupported Content-Type header ({kind}): must be 'application/json'")

    def peer(self) -> Peer | None:
        """Who has connected, by a unix socket."""
        transport = self.http.transport
        sock = transport.get_extra_info("socket") if transport is not None else None
        if sock is None or sock.family != socket.AF_UNIX:
            return None
        return Peer._make(_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))

    def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives, however large: the client is held back while nobody reads."""
        return self.http.content.iter_any() if self._given is None else _once(self._given)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


# Platforms in queries: JSON that stands for "linux/arm64".


def asked_platform(request: Request, since: tuple[int, int]) -> str:
    """The platform of a request, in the words of the command line; "" for none, and below that version of the API."""
    text = request.text("platform")
    return read_platform(text) if text and request.version >= since else ""


def read_platform(text: str) -> str:
    """Raises InvalidParameter."""
    try:
        return platforms.name(msgspec.json.decode(text, type=Platform))
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
