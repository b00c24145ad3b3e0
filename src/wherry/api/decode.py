"""JSON from clients, as forgiving as Go's decoder, which clients have always written for.

Field names match whatever their case, unknown fields are passed over, null is the same as not there, and where Go has
a type that takes one string for a list of one, so has this. What is of the wrong type is refused by its name.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from wherry.model.errors import InvalidParameter

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
