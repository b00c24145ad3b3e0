"""Values as Go's fmt prints them."""

from __future__ import annotations

from wherry.cli.templates.values import ABSENT, Duration, Map, Time, type_name
from wherry.cli.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.templates.values import Value


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
