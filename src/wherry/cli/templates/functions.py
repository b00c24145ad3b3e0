"""The functions that a template may call: Go's own and those that Docker's client adds."""

from __future__ import annotations

from _json import encode_basestring

from wherry.cli.table import Row
from wherry.cli.templates.parse import CallError
from wherry.cli.templates.values import ABSENT, Duration, Map, NullList, NullMap, Time, truth, type_name
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.templates.values import Value

    Function = tuple[Callable[..., Any], str]

# Values as Go's fmt prints them.


def sprint(*values: Value) -> str:
    """The values side by side, with a space between two that are both no strings."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(display(value))
    return "".join(parts)


def sprintln(*values: Value) -> str:
    return " ".join(map(display, values)) + "\n"


def display(value: Value, verb: str = "v", names: bool = False) -> str:
    """The value as %v writes it; `verb` is how what it holds is written, `names` shows those of a struct's fields."""
    if isinstance(value, (Duration, Time)):
        return str(value)
    if isinstance(value, list):
        return f"[{' '.join(display(item, verb, names) for item in value)}]"
    if isinstance(value, Map):
        pairs = (f"{display(key, verb)}:{display(value[key], verb, names)}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, dict):
        fields = ((f"{key}:" if names else "") + display(item, verb, names) for key, item in value.items())
        return f"{{{' '.join(fields)}}}"
    if verb not in "vs":
        return _formatted(value, verb, "", names)
    if value is None:
        return "<nil>"
    if value is ABSENT:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortest(value) if isinstance(value, float) else str(value)


def shortest(number: float) -> str:
    """The fewest digits that read back as the number."""
    digits = next((d for d in range(6, 17) if float(f"{number:.{d}g}") == number), 17)
    return f"{number:.{digits}g}"


def sprintf(template: str, *values: Value) -> str:
    waiting = list(reversed(values))
    parts: list[str] = []
    position = 0
    while (percent := template.find("%", position)) >= 0:
        parts.append(template[position:percent])
        end = percent + 1
        while template[end : end + 1] and template[end] in "+-# 0123456789.":
            end += 1
        flags, verb = template[percent + 1 : end], template[end : end + 1]
        position = end + 1
        if verb in ("", "%"):
            parts.append(verb or "%!(NOVERB)")
        elif not waiting:
            parts.append(f"%!{verb}(MISSING)")
        else:
            parts.append(_formatted(waiting.pop(), verb, flags))
    parts.append(template[position:])
    if waiting:
        extra = (f"{type_name(value)}={display(value)}" for value in reversed(waiting))
        parts.append(f"%!(EXTRA {', '.join(extra)})")
    return "".join(parts)


def _formatted(value: Value, verb: str, flags: str, names: bool = False) -> str:
    """One directive, or Go's complaint about it."""
    try:
        text = _directive(value, verb, flags, names)
    except (ValueError, OverflowError, MemoryError):  # flags that make no sense together
        text = None
    if text is not None:
        return text
    shown = "<nil>" if value is None else f"{type_name(value)}={display(value)}"
    return f"%!{verb}({shown})"


def _directive(value: Value, verb: str, flags: str, names: bool) -> str | None:
    """Python's own formatting has the same flags and the same verbs for numbers; None for a verb that does not fit."""
    names = names or "+" in flags
    width = "%" + flags.replace("+", "").replace("#", "") + "s"
    if isinstance(value, (list, dict)) and verb not in "vT":
        return width % display(value, verb)
    if isinstance(value, int) and not isinstance(value, bool):
        if verb == "v" and not isinstance(value, Duration):
            verb = "d"
        if verb in "doxXc":
            return f"%{flags}{verb}" % value
        if verb == "b":
            return width % f"{value:b}"
    if isinstance(value, float) and verb in "eEfFgG":
        return f"%{flags}{verb}" % value
    if isinstance(value, str) and verb == "q":
        return width % quoted(value)
    if isinstance(value, str) and verb in "xX":
        digits = value.encode("utf-8", "surrogateescape").hex()
        return width % (digits.upper() if verb == "X" else digits)
    if verb == "T":
        return width % type_name(value)
    if verb == "v" or (verb == "s" and isinstance(value, (str, Duration))) or (verb == "t" and isinstance(value, bool)):
        return width % display(value, names=names)
    return None


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_same(first, other) for other in others)


def _kind(value: Value) -> str:
    name = type_name(value)
    return name if name in ("bool", "int", "float64", "string") else ""


def _same(first: Value, second: Value) -> bool:
    kinds = _kind(first), _kind(second)
    if kinds[0] != kinds[1] and first is not None and second is not None:
        raise CallError("incompatible types for comparison")
    if isinstance(second, (list, Map)) and first is not None:
        raise CallError(f"non-comparable type {display(second)}: {type_name(second)}")
    return kinds[0] == kinds[1] and bool(first == second)


def _less(first: Value, second: Value) -> bool:
    kinds = _kind(first), _kind(second)
    if not all(kinds) or "bool" in kinds:
        raise CallError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise CallError("incompatible types for comparison")
    return bool(first < second)


def _index(item: Value, *indexes: Value) -> Value:
    for index in indexes:
        if item is None or item is ABSENT:
            raise CallError("index of untyped nil")
        if isinstance(item, dict):
            if not isinstance(index, str):
                raise CallError(f"value has type {type_name(index)}; should be string")
            # Most maps are of strings, of which the empty one is what Go finds for a key that is not there.
            item = item.get(index, "" if all(isinstance(each, str) for each in item.values()) else ABSENT)
        elif isinstance(item, (list, str)):
            data = item if isinstance(item, list) else item.encode("utf-8", "surrogateescape")
            position = _position(index, len(data))
            if position == len(data):
                raise CallError("reflect: slice index out of range")
            item = data[position]
        else:
            raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _position(index: Value, size: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= size:
        raise CallError(f"index out of range: {index}")
    return index


def _slice(item: Value, *indexes: Value) -> Value:
    if not isinstance(item, (str, list)):
        raise CallError(f"can't slice item of type {type_name(item)}")
    data: Any = item if isinstance(item, list) else item.encode("utf-8", "surrogateescape")
    start, end, *_ = [*(_position(index, len(data)) for index in indexes), *(0, len(data))[len(indexes) :]]
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    return data[start:end] if isinstance(item, list) else data[start:end].decode("utf-8", "surrogateescape")


def _length(item: Value) -> int:
    if isinstance(item, str):
        return len(item.encode("utf-8", "surrogateescape"))
    if isinstance(item, (list, dict)):
        return len(item)
    raise CallError("len of nil pointer" if item is None else f"len of type {type_name(item)}")


def _join(items: Value, separator: str) -> str:
    if isinstance(items, dict):
        return separator.join(sorted(display(value) for value in items.values()))
    if not isinstance(items, list):
        raise CallError(f"expected slice, got {type_name(items)}")
    return separator.join(display(item) for item in items)


def _title(text: str) -> str:
    """Each word's first letter in upper case; letters, digits and underscores are within words."""
    before = " " + text
    return "".join(char if before[at] == "_" or before[at].isalnum() else char.title() for at, char in enumerate(text))


def _truncate(text: str, length: int) -> str:
    """Cut in bytes, as Docker does it."""
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    return text.encode("utf-8", "surrogateescape")[:length].decode("utf-8", "surrogateescape")


def _pad(text: str, before: int, after: int) -> str:
    if before < 0 or after < 0:
        raise CallError("strings: negative Repeat count")
    return " " * before + text + " " * after if text else ""


_HTML = {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SCRIPT = {"\\": "\\\\", "'": "\\'", '"': '\\"', **{char: f"\\u{ord(char):04X}" for char in "<>&="}}


def _html(*values: Value) -> str:
    return "".join(_HTML.get(char, char) for char in sprint(*values))


def _script(*values: Value) -> str:
    """What can stand in a string of JavaScript."""
    text = sprint(*values)
    return "".join(_SCRIPT.get(char) or (char if char.isprintable() else f"\\u{ord(char):04X}") for char in text)


def _query(*values: Value) -> str:
    from urllib.parse import quote_plus

    return quote_plus(sprint(*values).encode("utf-8", "surrogateescape"))


def encode(value: Value) -> str:
    """The value as JSON; what the API has sent keeps its order."""
    if value is None or value is ABSENT or isinstance(value, (NullList, NullMap)):
        return "null"
    if isinstance(value, str):
        # Bytes that are not UTF-8 (kept as surrogates) have no place in JSON.
        return encode_basestring(value[:].encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return shortest(value)
    if isinstance(value, list):
        return f"[{','.join(map(encode, value))}]"
    if isinstance(value, Row):
        text = encode({name: value.field(name) for name in sorted(value.listing.columns)})
        # As Go writes it for web pages, unless told not to.
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return "{" + ",".join(f"{encode(key)}:{encode(item)}" for key, item in value.items()) + "}"


# "and" and "or" are the evaluator's own: they look only at as many arguments as they need.
FUNCTIONS: dict[str, Function] = {
    "and": (all, "a*"),
    "or": (any, "a*"),
    "not": (lambda value: not truth(value), "a"),
    "eq": (_equal, "a*"),
    "ne": (lambda first, second: not _equal(first, second), "aa"),
    "lt": (_less, "aa"),
    "le": (lambda first, second: _less(first, second) or _equal(first, second), "aa"),
    "gt": (lambda first, second: _less(second, first), "aa"),
    "ge": (lambda first, second: not _less(first, second), "aa"),
    "index": (_index, "a*"),
    "slice": (_slice, "a*"),
    "len": (_length, "a"),
    "print": (sprint, "*"),
    "printf": (sprintf, "s*"),
    "println": (sprintln, "*"),
    "html": (_html, "*"),
    "js": (_script, "*"),
    "urlquery": (_query, "*"),
    "json": (encode, "a"),
    "split": (lambda text, separator: text.split(separator) if separator else list(text), "ss"),
    "join": (_join, "as"),
    "title": (_title, "s"),
    "lower": (str.lower, "s"),
    "upper": (str.upper, "s"),
    "pad": (_pad, "sii"),
    "truncate": (_truncate, "si"),
}

# Over the titles of a table these leave their first argument, the title, as it is.
HEADER_FUNCTIONS = FUNCTIONS | {
    name: ((lambda title, *_: title), FUNCTIONS[name][1])
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}
