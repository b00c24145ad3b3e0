"""Points in time as clients write them: Unix seconds with a fraction, or RFC 3339."""

from datetime import UTC, datetime

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
        return _parse_rfc3339(text)
    seconds, _, fraction = text.partition(".")
    digits = seconds.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid seconds "{seconds}": invalid syntax')
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid nanoseconds "{fraction}"')
    return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0"))


def _parse_rfc3339(text: str) -> int:
    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(head + tail[len(digits) :] if dot else text)
    except ValueError:
        raise ValueError(f'invalid timestamp "{text}": not seconds since 1970 and not RFC 3339') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * _SECOND + int(digits[:9].ljust(9, "0"))
