"""What Go would hold, in Python.

bool, int, float, str, list and dict stand for Go's bool, int, float64, string, []interface{} and
map[string]interface{}; None is an untyped nil, and also "no value". What carries more type than that has a class here,
a subclass of the plain one where there is one, so that only code that asks for the type sees the difference.
"""

from __future__ import annotations

from wherry.cli.formatting import Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Value = Any


class Type:
    """A Go type: `name` as Go prints it; `element` of a slice, map or pointer; `key` of a map; `fields` of a struct."""

    __slots__ = ("element", "fields", "kind", "name", "stringer", "written_sorted")

    def __init__(self, name: str, kind: str, element: Type | None = None, fields: tuple[StructField, ...] = ()) -> None:
        self.name, self.kind, self.element, self.fields = name, kind, element, fields
        # How a type with a String method of its own prints.
        self.stringer: Callable[[Any], str] | None = None
        self.written_sorted = False  # in JSON a struct's fields are in their own order, unless this

    def __repr__(self) -> str:
        return self.name


class StructField:
    """`json` is the key in JSON; `omits_empty` leaves the field out of it when it holds its type's zero.

    The fields of an `embedded` struct are also those of the struct around it, here and in JSON.
    """

    __slots__ = ("embedded", "json", "name", "omits_empty", "type")

    def __init__(self, name: str, json: str, type: Type, omits_empty: bool, embedded: bool = False) -> None:
        self.name, self.json, self.type = name, json, type
        self.omits_empty, self.embedded = omits_empty, embedded


class MapType(Type):
    __slots__ = ("key",)

    def __init__(self, key: Type, element: Type) -> None:
        super().__init__(f"map[{key.name}]{element.name}", "map", element)
        self.key = key


class Number(str):
    """A JSON number whose Go type is json.Number, a string: raw JSON is read so."""

    __slots__ = ()
    go_type = "json.Number"


class Named(str):
    """A value of a string type with a name of its own, like container.NetworkMode."""

    go_type: str

    def __new__(cls, value: str, go_type: str) -> Named:
        self = super().__new__(cls, value)
        self.go_type = go_type
        return self


class Duration(int):
    """Nanoseconds."""

    go_type = "time.Duration"

    def __str__(self) -> str:
        return duration_text(self)


class Time:
    """A moment as the JSON had it (RFC 3339), printed as Go prints a time.Time."""

    __slots__ = ("text",)
    go_type = "time.Time"

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return time_text(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Slice(list):  # type: ignore[type-arg]  # of whatever Go holds
    """A typed slice or array. `is_nil` tells a nil slice from an empty one: JSON shows null for it."""

    __slots__ = ("is_nil", "type")

    def __init__(self, type: Type, items: list[Value] | None) -> None:
        super().__init__(items or ())
        self.type = type
        self.is_nil = items is None


class Map(dict):  # type: ignore[type-arg]  # of whatever Go holds
    """A typed map; `is_nil` as for a slice."""

    __slots__ = ("is_nil", "type")

    def __init__(self, type: MapType, items: dict[str, Value] | None) -> None:
        super().__init__(items or ())
        self.type: Type = type
        self.is_nil = items is None


class Struct:
    """`values` by the fields' Go names."""

    __slots__ = ("type", "values")

    def __init__(self, type: Type, values: dict[str, Value]) -> None:
        self.type, self.values = type, values

    def find(self, name: str) -> tuple[bool, Value]:
        """Whether there is a field of that name, of its own or of an embedded struct, and its value."""
        if name in self.values:
            return True, self.values[name]
        for field in self.type.fields:
            inner = indirect(self.values[field.name]) if field.embedded else None
            if isinstance(inner, Struct):
                found, value = inner.find(name)
                if found:
                    return True, value
        return False, None


class Pointer:
    """`target` is None in a nil pointer; `type` is the pointer's."""

    __slots__ = ("target", "type")

    def __init__(self, type: Type, target: Value) -> None:
        self.type, self.target = type, target


class Headers(Map):
    """The columns' titles: a table's template is run over it to get the first line."""

    __slots__ = ()
    methods = {"Label": ("string",)}  # noqa: RUF012 - never changed

    def Label(self, name: str) -> str:
        return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


ANY = Type("interface {}", "interface")
STRING = Type("string", "string")
STRING_MAP = MapType(STRING, STRING)


def type_name(value: Value) -> str:
    """The name of a value's Go type, as %T prints it; "<nil>" when it has none."""
    if value is None:
        return "<nil>"
    if isinstance(value, (Struct, Pointer, Slice, Map)):
        return value.type.name
    named: str | None = getattr(value, "go_type", None)
    if named is not None:
        return named
    for python, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (complex, "complex128"),
        (str, "string"),
        (list, "[]interface {}"),
        (dict, "map[string]interface {}"),
    ):
        if isinstance(value, python):
            return name
    return type(value).__name__


def kind(value: Value) -> str:
    """The kind that Go's reflection would give the value."""
    for python, name in (
        (str, "string"),
        (bool, "bool"),
        (int, "int"),
        (dict, "map"),
        (list, "slice"),
        (Pointer, "pointer"),
        ((Struct, Time, Row), "struct"),
        (float, "float"),
        (complex, "complex"),
    ):
        if isinstance(value, python):
            return name
    return "invalid"


def key_type(map: dict[str, Value]) -> Type:
    """The type of a map's keys."""
    return map.type.key if isinstance(map, Map) and isinstance(map.type, MapType) else STRING


def indirect(value: Value) -> Value:
    """What pointers lead to; a nil pointer stays itself."""
    while isinstance(value, Pointer) and value.target is not None:
        value = value.target
    return value


def is_nil(value: Value) -> bool:
    if isinstance(value, Pointer):
        return value.target is None
    return value is None or bool(getattr(value, "is_nil", False))


def truth(value: Value) -> bool:
    """Go templates' idea of true: neither empty, nor zero, nor nil. A struct is always true."""
    if isinstance(value, Pointer):
        return value.target is not None
    if isinstance(value, (Struct, Row, Time)):
        return True
    return bool(value)


def zero(type: Type) -> Value:
    """What a map gives for a key that it does not have, and JSON for a field that is not there."""
    match type.kind:
        case "string":
            return "" if type is STRING else Named("", type.name)
        case "bool":
            return False
        case "int":
            return Duration(0) if type.name == "time.Duration" else 0
        case "float":
            return 0.0
        case "time":
            return Time("0001-01-01T00:00:00Z")
        case "slice":
            return Slice(type, None)
        case "map" if isinstance(type, MapType):
            return Map(type, None)
        case "pointer":
            return Pointer(type, None)
        case "struct":
            return Struct(type, {field.name: zero(field.type) for field in type.fields})
    return None


def raw(value: Value) -> Value:
    """Parsed JSON as Go's decoder gives it when it is told to keep the numbers' text."""
    if isinstance(value, dict):
        return {key: raw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [raw(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(repr(value))
    return value


def duration_text(nanoseconds: int) -> str:
    """1h2m3.5s, 250ms, 0s: as Go's Duration.String."""
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if rest >= size:
                return f"{sign}{_fraction(rest, size)}{unit}"
        return "0s"
    minutes, rest = divmod(rest, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _fraction(rest, 1_000_000_000) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _fraction(value: int, size: int) -> str:
    whole, part = divmod(value, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def time_text(text: str) -> str:
    """An RFC 3339 time as Go's Time.String: 2006-01-02 15:04:05.999999999 -0700 MST."""
    date, _, clock = text.partition("T")
    if clock.endswith("Z"):
        return f"{date} {_without_zeros(clock[:-1])} +0000 UTC"
    offset = clock[-6:].replace(":", "")
    if len(offset) != 5 or offset[0] not in "+-":
        return text
    # An offset that is not this machine's zone has no name but itself.
    return f"{date} {_without_zeros(clock[:-6])} {offset} {offset}"


def _without_zeros(clock: str) -> str:
    return clock.rstrip("0").rstrip(".") if "." in clock else clock
