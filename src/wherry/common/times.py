"""Points in time, durations and ages, as Docker writes and reads them. Inside they are nanoseconds, and since 1970.

The grammar of durations and of points in time is Go's, the words for ages are those of github.com/docker/go-units.
"""

from __future__ import annotations

import time

from wherry.common.errors import InvalidParameter
from wherry.common.values import parse_int, quoted

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which clients test for
SECOND = 10**9

_DIGITS = frozenset("0123456789")
_UNITS: dict[str, int] = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND,
}  # fmt: skip

# Beyond so many hours the next larger unit is told, and how many hours it has.
_SPANS = ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 365 * 2, 24 * 30, "months"))


now = time.time_ns


def parse_duration(text: str) -> int:
    """Nanoseconds, from text like -1.5h, 300ms or 1m30s. Raises ValueError."""
    at = 1 if text[:1] in ("+", "-") else 0
    if text[at:] == "0":
        return 0
    total = 0
    while True:
        start, at = at, _span(text, at, _DIGITS)
        whole, fraction = text[start:at], ""
        if text.startswith(".", at):
            start, at = at + 1, _span(text, at + 1, _DIGITS)
            fraction = text[start:at][:30]
        # A number of thousands of digits would take long to be read, and is out of range in any case.
        if not (whole or fraction) or len(whole.lstrip("0")) > 19:
            raise ValueError(f"time: invalid duration {quoted(text)}")
        start = at
        while at < len(text) and text[at] not in "0123456789.":
            at += 1
        unit = text[start:at]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quoted(unit)} in duration {quoted(text)}")
        total += int(whole or "0") * _UNITS[unit] + int(fraction.ljust(30, "0")) * _UNITS[unit] // 10**30
        if total >= 1 << 63:
            raise ValueError(f"time: invalid duration {quoted(text)}")
        if at == len(text):
            return -total if text[0] == "-" else total


def _span(text: str, start: int, chars: frozenset[str]) -> int:
    """Where the characters from ``start`` on that are of these end."""
    while start < len(text) and text[start] in chars:
        start += 1
    return start


def format_duration(nanoseconds: int) -> str:
    """As Go prints a duration: "300ms", "1m30s", "1h0m1.5s"."""
    if nanoseconds < 0:
        return f"-{format_duration(-nanoseconds)}"
    if nanoseconds < SECOND:
        unit = next((unit for unit in ("ms", "µs", "ns") if nanoseconds >= _UNITS[unit]), "s")
        return _decimal(nanoseconds, _UNITS[unit]) + unit
    minutes, rest = divmod(nanoseconds, 60 * SECOND)
    seconds = f"{_decimal(rest, SECOND)}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    digits = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def human_duration(seconds: float) -> str:
    """About how long: "Less than a second", "5 seconds", "About a minute", "3 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return f"{whole} second{'s' if whole > 1 else ''}"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, size, unit in _SPANS:
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def rfc3339(nanoseconds: int) -> str:
    """As Go prints a point in time: UTC, nanoseconds without trailing zeros. 0 is Go's zero time."""
    if not nanoseconds:
        return NEVER
    seconds, fraction = divmod(nanoseconds, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_rfc3339(text: str) -> int:
    """The nanoseconds of a date and time with a zone. Raises ValueError."""
    if text.count(":") < 2 or _split_zone(text)[1] is None:
        raise ValueError(f"cannot parse {quoted(text)} as RFC 3339")
    return _parse_date(text)


def parse_unix(text: str) -> int:
    """The nanoseconds of "1700000000.5", seconds since 1970. Raises ValueError."""
    whole, _, fraction = text.partition(".")
    seconds = parse_int(whole)
    if not _DIGITS.issuperset(fraction):
        raise ValueError(f"strconv.ParseInt: parsing {quoted(fraction)}: invalid syntax")
    return seconds * SECOND + int(fraction[:9].ljust(9, "0"))


def parse_timestamp(text: str, at: int | None = None) -> int:
    """The nanoseconds of what --since, --until and filters take. Raises InvalidParameter.

    That is "42m" before ``at`` (now), 1700000000.5, or a date with as much of a time as is wanted, from 2013-01-02 to
    2013-01-02T13:23:37.123456789Z or +02:00; without a zone it is this machine's.
    """
    if text != "0":  # that is 1970, not "0 seconds ago"
        try:
            ago = parse_duration(text)
        except ValueError:
            pass
        else:
            return (now() if at is None else at) - ago
    for parse in (_parse_date, parse_unix):
        try:
            return parse(text)
        except (ValueError, OverflowError):
            pass
    raise InvalidParameter(f"failed to parse value as time or duration: {quoted(text)}")


def query_time(text: str, at: int | None = None) -> str:
    """The same as the API takes it, seconds with a fraction; "", and what is a number already, as it is."""
    try:
        parse_unix(text)
    except ValueError:
        if not text:
            return ""
        seconds, fraction = divmod(parse_timestamp(text, at), SECOND)
        return f"{seconds}.{fraction:09d}"
    return text


def _parse_date(text: str) -> int:
    from datetime import UTC, datetime

    body, east = _split_zone(text)
    date, marker, clock = body.partition("T")
    clock, dot, fraction = clock.partition(".")
    fields = [*date.split("-"), *(clock.split(":") if marker else ())]
    if not (
        3 <= len(fields) <= 6
        and len(date) == 10
        and all(_DIGITS.issuperset(field) for field in fields)
        and all(len(field) == 2 for field in (*fields[1:3], *fields[4:]))
        and all(0 < len(field) < 3 for field in fields[3:4])
        and (not dot or (len(fields) == 6 and fraction and _DIGITS.issuperset(fraction)))
    ):
        raise ValueError(text)
    moment = datetime(*map(int, fields), tzinfo=UTC)  # type: ignore[misc,arg-type]  # three to six numbers
    if east is None:
        seconds = int(time.mktime((*moment.timetuple()[:8], -1)))
    else:
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        seconds = since.days * 86400 + since.seconds - east
    return seconds * SECOND + int(fraction[:9].ljust(9, "0"))


def _split_zone(text: str) -> tuple[str, int | None]:
    """The text without its zone, and that in seconds east of Greenwich; None where there is none."""
    if text.endswith("Z"):
        return text[:-1], 0
    zone = text[-6:]
    if len(zone) == 6 and zone[0] in "+-" and zone[3] == ":" and _DIGITS.issuperset(zone[1:3] + zone[4:]):
        east = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
        return text[:-6], -east if zone[0] == "-" else east
    return text, None
