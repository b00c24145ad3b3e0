"""Points in time as the Engine API takes them."""

from __future__ import annotations

import datetime
import time

from wherry.common.times import query_time

Moment = float | str | datetime.datetime | datetime.timedelta


def seconds(moment: Moment | None) -> str | None:
    """Since 1970, as text: of a datetime, a time back from now, a number, or what `logs --since` takes."""
    if moment is None:
        return None
    if isinstance(moment, datetime.datetime):
        return f"{moment.timestamp():.9f}"
    if isinstance(moment, datetime.timedelta):
        return f"{time.time() - moment.total_seconds():.9f}"
    return query_time(moment) if isinstance(moment, str) else f"{moment:.9f}"
