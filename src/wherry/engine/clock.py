"""Points in time: nanoseconds since the epoch inside the engine, RFC 3339 outside."""

import re
import time
from datetime import UTC, datetime, timedelta

from wherry.common.errors import InvalidParameter

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which clients test for
_SECOND = 1_000_000_000


def now() -> int:
    return time.time_ns()


def rfc3339(nanoseconds: int) -> str:
    """As Go prints it: UTC, nanoseconds without trailing zeros. 0 is Go's zero time."""
    if not nanoseconds:
        return NEVER
    seconds, fraction = divmod(nanoseconds, _SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_rfc3339(text: str) -> int:
    """The nanoseconds of an RFC 3339 time. Raises ValueError."""
    head, fraction, zone = text, "", "Z"
    if "." in text:
        head, rest = text.split(".", 1)
        digits = len(rest) - len(rest.lstrip("0123456789"))
        fraction, zone = rest[:digits], rest[digits:]
        head += zone
    moment = datetime.fromisoformat(head)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return whole * _SECOND + int(fraction[:9].ljust(9, "0") or "0")


def parse_moment(text: str) -> int:
    """Nanoseconds of what clients send for a point in time: seconds with a fraction, RFC 3339, or "10m" for ago.

    Raises InvalidParameter.
    """
    seconds, _, fraction = text.partition(".")
    if seconds.isdigit() and (fraction.isdigit() or not fraction):
        return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0"))
    try:
        if re.fullmatch(r"([0-9.]+(h|m|s|ms))+", text):
            units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
            ago = sum(float(n) * units[unit] for n, unit in re.findall(r"([0-9.]+)(h|ms|m|s)", text))
            return now() - int(ago * _SECOND)
        return parse_rfc3339(text)
    except ValueError:
        raise InvalidParameter(f"failed to parse value as time or duration: {text!r}") from None


def go_duration(nanoseconds: int) -> str:
    """As Go prints a duration: "300ms", "1m30s", "1.5s"."""
    if nanoseconds < _SECOND:
        for unit, size in (("ms", 1_000_000), ("µs", 1000)):
            if nanoseconds >= size:
                return f"{nanoseconds / size:g}{unit}"
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, 60 * _SECOND)
    seconds = f"{rest / _SECOND:.9f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def human_duration(nanoseconds: int) -> str:
    """How long, in the words of ``docker ps`` ("About a minute", "3 hours"); the steps are those of go-units."""
    seconds = nanoseconds // _SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, divisor, unit in ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks")):
        if hours < limit:
            return f"{hours // divisor} {unit}"
    if hours < 24 * 365 * 2:
        return f"{hours // (24 * 30)} months"
    return f"{hours // (24 * 365)} years"
