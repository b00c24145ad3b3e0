"""Moments as --since and --until take them, for the API: seconds since 1970 with a fraction."""

from __future__ import annotations

import time

from wherry.common import values

_FORMS = (
    "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d",
)  # fmt: skip


def timestamp(text: str, now: int | None = None) -> str:
    """Takes "42m" (before now), 1700000000.5, 2013-01-02 to 2013-01-02T13:23:37.123456789Z or +02:00; "" is "".

    A moment without a zone is local time; `now` is in nanoseconds. Raises ValueError for what is none of these.
    """
    if not text:
        return ""
    if text == "0":
        return text  # 1970, not "0 seconds ago"
    try:
        ago = values.parse_duration(text)
    except ValueError:
        pass
    else:
        moment = (time.time_ns() if now is None else now) - ago
        return _seconds(moment // 10**9, moment % 10**9)
    whole, dot, fraction = text.partition(".")
    if whole.removeprefix("-").isdigit() and (fraction.isdigit() or not dot):
        return text
    return _calendar(text)


def _calendar(text: str) -> str:
    from calendar import timegm

    body, offset = _zone(text)
    body, dot, fraction = body.partition(".")
    if dot and not fraction.isdigit():
        raise ValueError(f"failed to parse value as time or duration: {values.quoted(text)}")
    for form in _FORMS:
        try:
            moment = time.strptime(body, form)
        except ValueError:
            continue
        seconds = int(time.mktime(moment)) if offset is None else timegm(moment) - offset
        return _seconds(seconds, int(fraction[:9].ljust(9, "0")) if fraction else 0)
    raise ValueError(f"failed to parse value as time or duration: {values.quoted(text)}")


def _zone(text: str) -> tuple[str, int | None]:
    """The text without its zone, and that in seconds east of Greenwich; None where there is none."""
    if text.endswith("Z"):
        return text[:-1], 0
    zone = text[-6:]
    if "T" in text and len(zone) == 6 and zone[0] in "+-" and zone[3] == ":" and (zone[1:3] + zone[4:]).isdigit():
        east = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
        return text[:-6], -east if zone[0] == "-" else east
    return text, None


def _seconds(seconds: int, nanoseconds: int) -> str:
    return f"{seconds}.{nanoseconds:09d}"
