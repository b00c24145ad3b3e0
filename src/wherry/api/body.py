"""JSON from clients, as forgiving as Go's decoder, which clients have always written for, and of bounded size.

Field names match whatever their case, unknown fields are passed over, null is the same as not there, and where Go has
a type that takes one string for a list of one, so has this. What is of the wrong type is refused by its name, and so is
here, once for all that comes in, what no path, name or number of the kernel's can be.
"""

import functools
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from wherry.common.errors import InvalidParameter, Unavailable
from wherry.linux.process import trim_memory

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
    """Those that are being read or decoded, of all clients; ``held`` is their sum in bytes."""

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
