"""The functions that a template may call: Go's own and those that Docker's client adds."""

from __future__ import annotations

from wherry.cli.formatting import Row
from wherry.cli.templates import gojson, printing
from wherry.cli.templates.errors import CallError
from wherry.cli.templates.printing import MAX_TEXT, limited, sprint
from wherry.cli.templates.values import (
    Map,
    Pointer,
    indirect,
    is_nil,
    key_type,
    kind,
    truth,
    type_name,
    zero,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.templates.values import Value


class Function:
    """`parameters` are the Go types of the arguments ("string", "int", "any"); `rest` that of any number of more."""

    __slots__ = ("call", "parameters", "rest")

    def __init__(self, call: Callable[..., Any], *parameters: str, rest: str = "") -> None:
        self.call, self.parameters, self.rest = call, parameters, rest


# Comparison


def _comparison_kind(value: Value) -> str:
    found = kind(value)
    return found if found in ("bool", "int", "float", "complex", "string") else "other"


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _same(first: Value, second: Value) -> bool:
    kinds = _comparison_kind(first), _comparison_kind(second)
    if kinds[0] != kinds[1]:
        if first is not None and second is not None:
            raise CallError("incompatible types for comparison")
        return False if "other" not in kinds else is_nil(first) and is_nil(second)
    if kinds[0] != "other":
        return bool(first == second)
    if first is not None and second is not None and kind(first) != kind(second):
        raise CallError(
            f"non-comparable types {printing.display(first)}: {type_name(first)}, "
            f"{type_name(second)}: {printing.display(second)}"
        )
    if is_nil(first) or is_nil(second):
        return is_nil(first) and is_nil(second)
    if kind(second) in ("slice", "map"):
        raise CallError(f"non-comparable type {printing.display(second)}: {type_name(second)}")
    if isinstance(first, Pointer) and isinstance(second, Pointer):
        return first.target is second.target
    return bool(first == second)


def _less(first: Value, second: Value) -> bool:
    kinds = _comparison_kind(first), _comparison_kind(second)
    if "other" in kinds:
        raise CallError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise CallError("incompatible types for comparison")
    if kinds[0] in ("bool", "complex"):
        raise CallError("invalid type for comparison")
    return bool(first < second)


# Collections


def _index(item: Value, *indexes: Value) -> Value:
    if item is None:
        raise CallError("index of untyped nil")
    for index in indexes:
        item = indirect(item)
        if item is None or (isinstance(item, Pointer) and item.target is None):
            raise CallError("index of nil pointer")
        if isinstance(item, str):
            data = item.encode("utf-8", "surrogateescape")
            item = data[_position(index, len(data), "string")]
        elif isinstance(item, list):
            item = item[_position(index, len(item), "slice")]
        elif isinstance(item, dict):
            item = _entry(item, index)
        else:
            raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _entry(item: dict[str, Value], index: Value) -> Value:
    key = key_type(item)
    if index is None:
        raise CallError(f"value is nil; should be of type {key.name}")
    if type_name(index) != key.name:
        raise CallError(f"value has type {type_name(index)}; should be {key.name}")
    if index in item:
        return item[index]
    return zero(item.type.element) if isinstance(item, Map) and item.type.element is not None else None


def _slice_position(index: Value, size: int) -> int:
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if isinstance(index, bool) or not isinstance(index, int):
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= size:
        raise CallError(f"index out of range: {index}")
    return int(index)


def _position(index: Value, size: int, what: str) -> int:
    position = _slice_position(index, size)
    if position == size:
        raise CallError(f"reflect: {what} index out of range")
    return position


def _slice(item: Value, *indexes: Value) -> Value:
    if item is None:
        raise CallError("slice of untyped nil")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise CallError("cannot 3-index slice a string")
        data: Any = item.encode("utf-8", "surrogateescape")
    elif isinstance(item, list):
        data = item
    else:
        raise CallError(f"can't slice item of type {type_name(item)}")
    bounds = [_slice_position(index, len(data)) for index in indexes]
    start, end = (*bounds, 0)[0], bounds[1] if len(bounds) > 1 else len(data)
    for low, high in ((start, end), (end, bounds[2] if len(bounds) > 2 else end)):
        if low > high:
            raise CallError(f"invalid slice index: {low} > {high}")
    part = data[start:end]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _length(item: Value) -> int:
    item = indirect(item)
    if isinstance(item, Pointer):
        raise CallError("len of nil pointer")
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, (list, dict)):
        return len(item)
    if item is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    raise CallError(f"len of type {type_name(item)}")


def _call(function: Value, *_: Value) -> Value:
    """Nothing in the API's answers is a function."""
    raise CallError("call of nil" if function is None else f"non-function of type {type_name(function)}")


# Text


def _as_text(values: tuple[Value, ...]) -> str:
    return sprint(*("<no value>" if value is None else indirect(value) for value in values))


HTML = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})
JAVASCRIPT = {
    ord("\\"): "\\\\",
    ord("'"): "\\'",
    ord('"'): '\\"',
    ord("<"): "\\u003C",
    ord(">"): "\\u003E",
    ord("&"): "\\u0026",
    ord("="): "\\u003D",
} | {code: f"\\u{code:04X}" for code in range(0x20)}


def _html(*values: Value) -> str:
    return limited(_as_text(values).translate(HTML))


def _javascript(*values: Value) -> str:
    text = _as_text(values).translate(JAVASCRIPT)
    return limited("".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in text))


UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def _query(*values: Value) -> str:
    data = _as_text(values).encode("utf-8", "surrogateescape")
    return limited("".join(chr(b) if b in UNRESERVED else "+" if b == 0x20 else f"%{b:02X}" for b in data))


# Docker's


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(items: Value, separator: str) -> str:
    """As Docker 29's: of anything; before, only of strings."""
    if items is None:
        return ""
    if isinstance(items, dict):
        return limited(separator.join(sorted(printing.display(value) for value in items.values())))
    if not isinstance(items, list):
        raise CallError(f"expected slice, got {type_name(items)}")
    return limited(separator.join(printing.display(item) for item in items))


def _title(text: str) -> str:
    """Each word's first letter in upper case; letters, digits and underscores are within words."""
    previous = " "
    parts = []
    for character in text:
        within = previous == "_" or previous.isalnum()
        parts.append(character if within else character.title())
        previous = character if character.isascii() or character.isalnum() or character.isspace() else "_"
    return "".join(parts)


def _pad(text: str, before: int, after: int) -> str:
    if not text:
        return text
    if before < 0 or after < 0:
        raise CallError("strings: negative Repeat count")
    if before + after > MAX_TEXT:
        raise CallError(f"the result is longer than {MAX_TEXT} characters")
    return " " * before + text + " " * after


def _truncate(text: str, length: int) -> str:
    """Cut in bytes, as Docker does it."""
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    return text.encode("utf-8", "surrogateescape")[:length].decode("utf-8", "surrogateescape")


# "and" and "or" are the evaluator's own: they look only at as many arguments as they need.
FUNCTIONS: dict[str, Function] = {
    "call": Function(_call, "any", rest="any"),
    "and": Function(all, "any", rest="any"),
    "or": Function(any, "any", rest="any"),
    "not": Function(lambda value: not truth(value), "any"),
    "eq": Function(_equal, "any", rest="any"),
    "ne": Function(lambda first, second: not _equal(first, second), "any", "any"),
    "lt": Function(_less, "any", "any"),
    "le": Function(lambda first, second: _less(first, second) or _equal(first, second), "any", "any"),
    "gt": Function(lambda first, second: not (_less(first, second) or _equal(first, second)), "any", "any"),
    "ge": Function(lambda first, second: not _less(first, second), "any", "any"),
    "index": Function(_index, "any", rest="any"),
    "slice": Function(_slice, "any", rest="any"),
    "len": Function(_length, "any"),
    "print": Function(printing.sprint, rest="any"),
    "printf": Function(printing.sprintf, "string", rest="any"),
    "println": Function(printing.sprintln, rest="any"),
    "html": Function(_html, rest="any"),
    "js": Function(_javascript, rest="any"),
    "urlquery": Function(_query, rest="any"),
    "json": Function(lambda value: limited(gojson.encode(value)), "any"),
    "split": Function(_split, "string", "string"),
    "join": Function(_join, "any", "string"),
    "title": Function(_title, "string"),
    "lower": Function(str.lower, "string"),
    "upper": Function(str.upper, "string"),
    "pad": Function(_pad, "string", "int", "int"),
    "truncate": Function(_truncate, "string", "int"),
}

# Over the titles of a table these leave their first argument, the title, as it is.
HEADER_FUNCTIONS = FUNCTIONS | {
    name: Function(lambda title, *_: title, *FUNCTIONS[name].parameters)
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}


def method_of(receiver: Value, name: str) -> Function | None:
    """A method that a template may call on a value, as a function of its arguments."""
    parameters = getattr(type(receiver), "methods", {}).get(name)
    if parameters is None and isinstance(receiver, Row) and name in receiver.headers:
        parameters = ()
    return None if parameters is None else Function(getattr(receiver, name), *parameters)
