"""One request, read by Docker's rules: what counts as true, what a filter looks like, which bodies are JSON."""

import functools
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import inspect

from wherry.api.versions import Version
from wherry.common.errors import InvalidParameter
from wherry.engine import clock
from wherry.model.manifests import Platform
from wherry.registry import platforms

# JSON from clients, as forgiving as Go's decoder, which clients have always written for.
#
# Field names match whatever their case, unknown fields are passed over, null is the same as not there, and where Go has
# a type that takes one string for a list of one, so has this. What is of the wrong type is refused by its name.

T = TypeVar("T", bound=msgspec.Struct)
_Fit = Callable[[Any], Any]

_WORDS = frozenset(("Cmd", "Entrypoint", "Shell"))  # one string will do for a list of one (Go's strslice)
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<where>.*)`)?$", re.DOTALL)


def parse(body: bytes) -> Any:
    """Raises InvalidParameter for what is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error).removeprefix("JSON is malformed: ")
        raise InvalidParameter(f"invalid JSON: {text}") from None


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


# Points in time as clients write them: Unix seconds with a fraction, or RFC 3339.

_SECOND = 1_000_000_000


def parse_moment(text: str) -> int | None:
    """Nanoseconds since the epoch; None for "". Raises ValueError.

    >>> parse_moment("1700000000.5")
    1700000000500000000
    >>> parse_moment("2023-11-14T22:13:20Z")
    1700000000000000000
    """
    if not text:
        return None
    if "-" in text[1:]:
        try:
            return clock.parse_rfc3339(text)
        except ValueError:
            raise ValueError(f'invalid timestamp "{text}": neither seconds since 1970 nor RFC 3339') from None
    seconds, _, fraction = text.partition(".")
    digits = seconds.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid seconds "{seconds}": invalid syntax')
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid nanoseconds "{fraction}"')
    return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0"))


Filters = dict[str, list[str]]

MAX_JSON = 16 << 20  # bytes; the largest bodies seen are a few KiB
_FALSE = ("", "0", "no", "false", "none")
_FILTERS = msgspec.json.Decoder(dict[str, dict[str, bool] | list[str] | None])


class Request:
    """``name`` is the part of the path that names something (a container, an image); ``version`` the client's API."""

    __slots__ = ("http", "name", "version")

    def __init__(self, http: web.BaseRequest, version: Version, name: str = "") -> None:
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
        body = await self._read(MAX_JSON)
        if not body.strip():
            raise InvalidParameter("invalid JSON: got EOF while reading request body")
        found = parse(body)
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

    async def _read(self, limit: int) -> bytes:
        body = bytearray()
        async for chunk in self.http.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise InvalidParameter(f"request body too large: the limit for JSON is {limit >> 20} MiB")
        return bytes(body)

    def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives, however large: the client is held back while nobody reads."""
        return self.http.content.iter_any()


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
