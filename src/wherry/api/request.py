"""One request, read by Docker's rules: what counts as true, what a filter looks like, which bodies are JSON."""

import functools
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web
from msgspec import inspect

from wherry.api.versions import Version
from wherry.common import times
from wherry.common.errors import InvalidParameter, Unavailable
from wherry.common.values import parse_int
from wherry.engine import platforms
from wherry.linux.process import trim_memory
from wherry.model.image import Platform

# JSON from clients, as forgiving as Go's decoder, which clients have always written for, and of bounded size.
#
# Field names match whatever their case, unknown fields are passed over, null is the same as not there, and where Go has
# a type that takes one string for a list of one, so has this. What is of the wrong type is refused by its name, and so
# is here, once for all that comes in, what no path, name or number of the kernel's can be.

T = TypeVar("T", bound=msgspec.Struct)
_Fit = Callable[[Any], Any]

MAX_BODY = 16 << 20  # bytes; the largest bodies seen are a few KiB
MAX_ALL = 64 << 20  # bytes, of all bodies at a time
MAX_VALUES = 1 << 18  # in a body: "[]," is 3 bytes, and 64 once it is decoded
MIN_INT, MAX_INT = -1 << 63, (1 << 63) - 1
_LARGE = 1 << 20  # bytes after which the C library is told to give memory back

_WORDS = frozenset(("Cmd", "Entrypoint", "Shell"))  # one string will do for a list of one (Go's strslice)
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<where>.*)`)?$", re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Bodies:
    """The bodies that are being read or decoded, of all clients; ``held`` is their sum in bytes."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, chunks: AsyncIterator[bytes]) -> Any:
        """A body's JSON. Raises InvalidParameter and Unavailable."""
        body = bytearray()
        try:
            async for chunk in chunks:
                if len(body) + len(chunk) > MAX_BODY:
                    raise InvalidParameter(f"request body too large: the limit for JSON is {MAX_BODY >> 20} MiB")
                # Refused, not made to wait: each of those who wait would hold what the others wait for.
                if self.held + len(chunk) > MAX_ALL:
                    raise Unavailable(f"more than {MAX_ALL >> 20} MiB of JSON are being read: try again later")
                body += chunk
                self.held += len(chunk)
            if body.isspace() or not body:
                raise InvalidParameter("invalid JSON: got EOF while reading request body")
            return parse(body)
        finally:
            self.held -= len(body)
            if len(body) > _LARGE:
                body.clear()
                trim_memory()


read = _Bodies().read


def parse(body: bytes | bytearray) -> Any:
    """Raises InvalidParameter for what is not JSON, and for texts that no name and no path can hold."""
    if sum(map(body.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:
        raise InvalidParameter(f"invalid JSON: more than {MAX_VALUES} values")
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error).removeprefix("JSON is malformed: ")
        if _SURROGATE.search(body) and not isinstance(error, RecursionError):
            text = "half of a surrogate pair is no character"
        raise InvalidParameter(f"invalid JSON: {text}") from None
    if b"\\u0000" in body or _LONG_NUMBER.search(body):
        _check(found)
    return found


def _check(found: Any) -> None:
    """The kernel's texts end at a null byte, so what is checked would not be what is used; its numbers have 64 bits."""
    rest = [found]
    while rest:
        match rest.pop():
            case str(text) if "\0" in text:
                raise InvalidParameter(f"invalid JSON: a null byte in {text!r}")
            case int(number) if not MIN_INT <= number <= MAX_INT:
                raise InvalidParameter(f"invalid JSON: the number {number} is out of range: it has more than 64 bits")
            case dict(members):
                rest += [*members, *members.values()]
            case list(items):
                rest += items


def fit(raw: Any, kind: type[T], at: str = "") -> T:
    """``raw``, parsed JSON, as a ``kind``. ``at`` is where it stands in the body, for messages: "HostConfig".

    Raises InvalidParameter that names the field.
    """
    shape = _shape(kind)
    if raw is None:
        raw = {}
    try:
        return msgspec.convert(shape(raw) if shape else raw, kind)
    except msgspec.ValidationError as error:
        found = _WHERE.match(str(error))
        what, where = (found["what"], found["where"] or "") if found else (str(error), "")
        where = (at + where).lstrip(".")
        what = what.replace("`", "").replace("Expected", "expected").replace("Object", "the object")
        raise InvalidParameter(f"invalid JSON: {where}: {what}" if where else f"invalid JSON: {what}") from None


def take(raw: dict[str, Any], name: str) -> Any:
    """Removes a member from an object, whatever the case of its name, and returns it; None when it is not there."""
    if name in raw:
        return raw.pop(name)
    for key in raw:
        if key.lower() == name.lower():
            return raw.pop(key)
    return None


@functools.cache
def _shape(kind: type[msgspec.Struct]) -> _Fit | None:
    return _compile(inspect.type_info(kind))


def _compile(info: inspect.Type) -> _Fit | None:
    """What makes a value of this type as msgspec wants it; None when it has nothing to do."""
    match info:
        case inspect.UnionType():
            shapes = [shape for shape in map(_compile, info.types) if shape]
            return shapes[0] if shapes else None
        case inspect.StructType():
            return _compile_struct(info)
        case inspect.ListType():
            return _compile_list(info)
        case inspect.DictType():
            return _compile_dict(info)
    return None


def _compile_struct(info: inspect.StructType) -> _Fit:
    exact = {
        field.encode_name: (field.encode_name, _compile_field(field), _nullable(field.type)) for field in info.fields
    }
    folded = {name.lower(): field for name, field in exact.items()}

    def shape(raw: Any) -> Any:
        if type(raw) is not dict:
            return raw
        members = {}
        for key, value in raw.items():
            field = exact.get(key) or folded.get(key.lower())
            if field is None:
                continue
            name, inner, nullable = field
            if value is not None:
                members[name] = inner(value) if inner else value
            elif nullable:
                members[name] = None
        return members

    return shape


def _compile_field(field: inspect.Field) -> _Fit | None:
    inner = _compile(field.type)
    if field.encode_name not in _WORDS or inner is None:
        return inner
    shape = inner
    return lambda raw: [raw] if type(raw) is str else shape(raw)


def _compile_list(info: inspect.ListType) -> _Fit:
    inner, zero = _compile(info.item_type), _zero(info.item_type)

    def shape(raw: Any) -> Any:
        if type(raw) is not list:
            return raw
        if None in raw:
            raw = [zero() if item is None else item for item in raw]
        return [inner(item) for item in raw] if inner else raw

    return shape


def _compile_dict(info: inspect.DictType) -> _Fit:
    inner, zero = _compile(info.value_type), _zero(info.value_type)

    def shape(raw: Any) -> Any:
        if type(raw) is not dict:
            return raw
        members = {key: zero() if value is None else value for key, value in raw.items()}
        return {key: value if value is None else inner(value) for key, value in members.items()} if inner else members

    return shape


def _nullable(info: inspect.Type) -> bool:
    return isinstance(info, inspect.UnionType) and any(isinstance(kind, inspect.NoneType) for kind in info.types)


def _zero(info: inspect.Type) -> Callable[[], Any]:
    """What null stands for inside a list or a map."""
    match info:
        case inspect.StrType():
            return str
        case inspect.IntType():
            return int
        case inspect.BoolType():
            return bool
        case inspect.ListType():
            return list
        case inspect.DictType() | inspect.StructType():
            return dict
    return lambda: None


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
        found = await read(self.body())
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
