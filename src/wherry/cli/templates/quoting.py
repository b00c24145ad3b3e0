"""Go string literals: writing them as strconv.Quote does, and reading them."""

from __future__ import annotations

from wherry.cli.templates.errors import TemplateError

ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}
UNESCAPES = {escape[1]: character for character, escape in ESCAPES.items()}
# How many digits follow \x, \u and \U.
HEXADECIMAL = {"x": 2, "u": 4, "U": 8}


def quote(text: str, delimiter: str = '"', ascii_only: bool = False) -> str:
    """The text as a Go literal; the delimiter of a character constant is an apostrophe."""
    return delimiter + "".join(_escaped(character, delimiter, ascii_only) for character in text) + delimiter


def _escaped(character: str, delimiter: str, ascii_only: bool) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character == delimiter:
        return "\\" + character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as Python's surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if 0x20 <= code < 0x7F or (character.isprintable() and not ascii_only):
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(literal: str) -> str:
    """The text that a Go string literal, raw string or character constant stands for.

    Raises TemplateError("invalid syntax") when an escape is none.
    """
    delimiter, body = literal[0], literal[1:-1]
    if delimiter == "`":
        return body.replace("\r", "")
    raw = bytearray()
    position = 0
    while True:
        backslash = body.find("\\", position)
        if backslash < 0:
            break
        raw += body[position:backslash].encode("utf-8", "surrogateescape")
        value, position = _unescaped(body, backslash + 1, delimiter)
        raw += value
    raw += body[position:].encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")


def _unescaped(body: str, position: int, delimiter: str) -> tuple[bytes, int]:
    """What the escape after a backslash stands for, and where the text goes on."""
    kind = body[position : position + 1]
    if kind in UNESCAPES:
        return UNESCAPES[kind].encode(), position + 1
    if kind and kind == delimiter:  # \' only in a character constant, \" only in a string
        return kind.encode(), position + 1
    if kind in HEXADECIMAL:
        end = position + 1 + HEXADECIMAL[kind]
        code = _number(body[position + 1 : end], HEXADECIMAL[kind], 16)
        if kind == "x":
            return bytes([code]), end
        if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            return chr(code).encode(), end
    elif kind and kind in "01234567":
        code = _number(body[position : position + 3], 3, 8)
        if code < 256:
            return bytes([code]), position + 3
    raise TemplateError("invalid syntax")


def _number(digits: str, length: int, base: int) -> int:
    if len(digits) == length and digits.isalnum() and digits.isascii():
        try:
            return int(digits, base)
        except ValueError:
            pass
    raise TemplateError("invalid syntax")
