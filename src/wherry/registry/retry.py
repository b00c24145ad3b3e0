"""How long to wait before asking again, and how often."""

import datetime
import email.utils
import random

ATTEMPTS = 5
"""In a row without any progress; Docker's figure."""

_FIRST, _LONGEST = 0.5, 8.0  # seconds
_LONGEST_ASKED = 60.0  # a registry that asks for more than that is not waited for

_TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


def is_passing(status: int) -> bool:
    """Whether an HTTP status tells of something that may be better soon."""
    return status in _TRY_AGAIN


def delay(failures: int, asked: float | None = None) -> float | None:
    """Seconds before the next attempt after so many failures; None when it is time to give up.

    It doubles, with some chance in it, so that many who were turned away together do not come back together.
    ``asked`` is what the registry wants at least.
    """
    if failures >= ATTEMPTS or (asked is not None and asked > _LONGEST_ASKED):
        return None
    backoff: float = min(_LONGEST, _FIRST * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
    return max(backoff, asked or 0.0)


def retry_after(header: str | None) -> float | None:
    """Seconds, of a Retry-After header in either of its forms."""
    if not header:
        return None
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
