"""Values as Go's encoding/json writes them: structs in their fields' order, maps in their keys'."""

from __future__ import annotations

from wherry.cli.formatting import Row
from wherry.cli.templates.errors import CallError
from wherry.cli.templates.printing import shortest
from wherry.cli.templates.values import Number, Pointer, Struct, Time, indirect, is_nil

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.templates.values import Value

ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), 0x2028, 0x2029)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
# What Go adds for the sake of web pages, unless told not to.
HTML_ESCAPES = ESCAPES | {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def encode(value: Value, escape_html: bool = False) -> str:
    """The value as JSON. Raises CallError for what JSON has no word for."""
    if value is None or is_nil(value):
        return "null"
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return _string(value, escape_html)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Time):
        return _string(value.text, escape_html)
    if isinstance(value, Pointer):
        return encode(value.target, escape_html)
    if isinstance(value, list):
        return f"[{','.join(encode(item, escape_html) for item in value)}]"
    if isinstance(value, dict):
        return _object([(key, value[key]) for key in sorted(value)], escape_html)
    if isinstance(value, Struct):
        pairs = _pairs(value)
        return _object(sorted(pairs, key=lambda p: p[0]) if value.type.written_sorted else pairs, escape_html)
    if isinstance(value, Row):
        return _object([(name, getattr(value, name)()) for name in sorted(value.headers)], escape_html=True)
    raise CallError(f"json: unsupported type: {type(value).__name__}")


def _pairs(struct: Struct) -> list[tuple[str, Value]]:
    """The keys and values of a struct's JSON, those of embedded structs in their place."""
    pairs: list[tuple[str, Value]] = []
    for field in struct.type.fields:
        value = struct.values[field.name]
        inner = indirect(value) if field.embedded else None
        if isinstance(inner, Struct):
            pairs += _pairs(inner)
        elif not field.embedded and not (field.omits_empty and _is_empty(value)):
            pairs.append((field.json, value))
    return pairs


def _object(pairs: list[tuple[str, Value]], escape_html: bool) -> str:
    return "{" + ",".join(f"{_string(k, escape_html)}:{encode(v, escape_html)}" for k, v in pairs) + "}"


def _string(text: str, escape_html: bool) -> str:
    # Bytes that are not UTF-8 (kept as surrogates) have no place in JSON.
    clean = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text) if not text.isascii() else text
    return f'"{clean.translate(HTML_ESCAPES if escape_html else ESCAPES)}"'


def _float(number: float) -> str:
    if number != number or number in (float("inf"), float("-inf")):
        raise CallError(f"json: unsupported value: {number}")
    digits, e, exponent = shortest(number, -6, 21).partition("e")
    return f"{digits}{e}{exponent[0]}{exponent[1:].lstrip('0')}" if e else digits


def _is_empty(value: Value) -> bool:
    if isinstance(value, (Struct, Time)):
        return False
    return is_nil(value) or (not isinstance(value, Pointer) and not value)
