"""Points in time as clients write them: Unix seconds with a fraction, or RFC 3339."""

from wherry.engine import clock

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
        try:
            return clock.parse_rfc3339(text)
        except ValueError:
            raise ValueError(f'invalid timestamp "{text}": neither seconds since 1970 nor RFC 3339') from None
    seconds, _, fraction = text.partition(".")
    digits = seconds.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid seconds "{seconds}": invalid syntax')
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f'invalid timestamp "{text}": invalid nanoseconds "{fraction}"')
    return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0"))
