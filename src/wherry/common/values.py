"""Values as docker's command line writes them: numbers, sizes, durations; and the words for those that are wrong.

Docker is written in Go, whose parsers are strict in their own way and name themselves in their errors; scripts see
both, so both are Go's here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


# What Go's unicode.IsSpace calls a space: str.isspace() has four more (0x1c to 0x1f).
SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def quoted(text: str, mark: str = '"') -> str:
    """Text between marks, as Go's %q writes it."""
    body = []
    for char in text:
        if char == mark:
            body.append("\\" + char)
        elif char in _ESCAPES:
            body.append(_ESCAPES[char])
        elif char.isprintable():
            body.append(char)
        elif char < "\x80":
            body.append(f"\\x{ord(char):02x}")
        else:
            body.append(f"\\u{ord(char):04x}" if char <= "\uffff" else f"\\U{ord(char):08x}")
    return mark + "".join(body) + mark


def replace_undecodable(data: bytes) -> str:
    """UTF-8 as text, as Go's JSON has it: each byte that is none becomes a replacement character of its own."""
    text = data.decode(errors="surrogateescape")
    return text if text.isascii() else "".join("\ufffd" if "\udc80" <= char <= "\udcff" else char for char in text)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")


def parse_int(text: str, *, base: int = 10, bits: int = 64, function: str = "ParseInt") -> int:
    """A signed number; `base` 0 takes 0x, 0o, 0b and a leading 0 for octal."""
    number = _number(text, base, function)
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError(f"strconv.{function}: parsing {quoted(text)}: value out of range")
    return number


def parse_unsigned(text: str, bits: int = 64, *, base: int = 10) -> int:
    if text[:1] in "+-":
        raise ValueError(f"strconv.ParseUint: parsing {quoted(text)}: invalid syntax")
    number = _number(text, base, "ParseUint")
    if number >= 1 << bits:
        raise ValueError(f"strconv.ParseUint: parsing {quoted(text)}: value out of range")
    return number


def _number(text: str, base: int, function: str) -> int:
    # Python's int() also takes spaces, digits of other scripts and, in base 10, underscores; Go does not.
    digits = text.lstrip("+-")
    if text.isascii() and digits and len(text) - len(digits) <= 1 and digits.isalnum():
        try:
            if base == 0 and len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
                return int(text, 8)
            return int(text, base)
        except ValueError:
            pass
    raise ValueError(f"strconv.{function}: parsing {quoted(text)}: invalid syntax")


_DIGITS = frozenset("0123456789")


def parse_cpus(text: str) -> int:
    """Billionths of a CPU, from text like 1.5 or 3/2."""
    from fractions import Fraction

    try:
        if not text.isascii() or text != text.strip():
            raise ValueError
        amount = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if amount.denominator != 1:
        raise ValueError("value is too precise")
    return amount.numerator


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A key for sorting by which v2 comes before v10."""
    parts: list[tuple[int, int, str]] = []
    while text:
        rest = text.lstrip("0123456789")
        if len(rest) < len(text):
            parts.append((0, int(text[: len(text) - len(rest)]), ""))
        letters = len(rest) - len(rest.lstrip("".join(set(rest) - _DIGITS)))
        if letters:
            parts.append((1, 0, rest[:letters]))
        text = rest[letters:]
    return parts


_LIMITS = frozenset(
    (
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
        "rttime", "sigpending", "stack",
    )
)  # fmt: skip


def parse_ulimit(text: str) -> dict[str, Any]:
    """--ulimit name=soft[:hard] as the API's Ulimit."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _LIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = limits.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    hard = parse_int(parts[-1])
    soft = parse_int(parts[0])
    if hard != -1:
        wrong = "ulimit soft limit must be less than or equal to hard limit"
        if soft == -1:
            raise ValueError(f"{wrong}: soft: -1 (unlimited), hard: {hard}")
        if soft > hard:
            raise ValueError(f"{wrong}: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def parse_domain(text: str) -> str:
    """A domain, or a dot for none."""
    import re

    domain = text.strip(" ")
    if domain == ".":
        return domain
    label = r":?(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]*[a-zA-Z0-9])"
    match = re.fullmatch(rf"({label}(?::?\.{label})*)\.?\s*", domain)
    if not re.search("[a-zA-Z]", domain) or not match or len(match[1]) >= 255:
        raise ValueError(f"{domain} is not a valid domain")
    return match[1]


def clean_path(path: str) -> str:
    """Go's path.Clean: no ``.``, no double or trailing slashes, and no ``..`` but at the beginning."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and path.startswith("/")):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."
