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
from wherry.common.values import parse_int
from wherry.model.manifests import Platform
from wherry.registry import platforms


def parse_timestamp(text: str) -> int | None:
    """Nanoseconds of seconds since 1970 or of an RFC 3339 time; None for "". Raises InvalidParameter.

    >>> parse_timestamp("1700000000.5")
    1700000000500000000
    >>> parse_timestamp("2023-11-14T22:13:20Z")
    1700000000000000000
    """
    if not text:
        return None
    if "-" in text[1:]:
        try:
            return times.parse_rfc3339(text)
        except ValueError:
            raise InvalidParameter(f'invalid timestamp "{text}": neither seconds since 1970 nor RFC 3339') from None
    try:
        return times.parse_unix(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _number(text: str) -> int:
    """A number of 64 bits. Raises InvalidParameter in the words of Go's Atoi."""
    try:
        return parse_int(text, function="Atoi")
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


Filters = dict[str, list[str]]

_FALSE = ("", "0", "no", "false", "none")
_FILTERS = msgspec.json.Decoder(dict[str, dict[str, bool] | list[str] | None] | None)


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

    def text(self, key: str) -> str:
        return self.http.query.get(key, "")

    def texts(self, key: str) -> list[str]:
        return self.http.query.getall(key, [])

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.http.query.get(key)
        return default if value is None else value.strip().lower() not in _FALSE

    def integer(self, key: str) -> int | None:
        """None when it is not there or empty. Raises InvalidParameter."""
        value = self.text(key)
        if not value:
            return None
        return _number(value)

    def size(self, key: str) -> int:
        """A number of rows or columns, which must be there."""
        value = _number(self.text(key))
        if not 0 <= value < 1 << 16:
            raise InvalidParameter(f'strconv.Atoi: parsing "{value}": value out of range')
        return value

    def timestamp(self, key: str) -> int | None:
        """Nanoseconds since the epoch, None when it is not there."""
        return parse_timestamp(self.text(key))

    def filters(self) -> Filters:
        """``{"status": ["running"]}``, or Docker's older form of the same, ``{"status": {"running": true}}``."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            found = _FILTERS.decode(text)
        except msgspec.MsgspecError:
            raise InvalidParameter("invalid filter") from None
        return {name: list(values or ()) for name, values in (found or {}).items()}

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


def asked_platforms(request: Request) -> list[str]:
    """The same of saving and loading: one since API 1.48, several since API 1.52."""
    found = request.texts("platform") if request.version >= (1, 48) else []
    if len(found) > 1 and request.version < (1, 52):
        raise InvalidParameter(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
        )
    return [read_platform(text) for text in found if text]


def read_platform(text: str) -> str:
    """Raises InvalidParameter."""
    try:
        return platforms.name(msgspec.json.decode(text, type=Platform))
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
