"""What builds have left in the engine, as `system df -v` lists it."""

from __future__ import annotations

from calendar import timegm

from wherry.cli.formatting import Listing, Row, human_size, since

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COLUMNS = ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")


def _id(row: Row) -> str:
    identity = str(row["ID"])
    return (identity[:12] if row.truncates else identity) + ("*" if row.truncates and row["InUse"] else "")


def _go_time(text: str) -> str:
    """The API's time as Go prints it: 2006-01-02 15:04:05.999999999 +0000 UTC."""
    return text.replace("T", " ").replace("Z", " +0000 UTC")


def _since(text: str) -> str:
    if not text:
        return ""
    date, _, clock = text.partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    hour, minute, second = (int(part) for part in clock[:8].split(":"))
    return since(timegm((year, month, day, hour, minute, second)))


CACHE = Listing(
    "*formatter.buildCacheContext",
    "ID Parent CacheType Description CreatedAt CreatedSince LastUsedAt LastUsedSince UsageCount InUse Shared Size",
    {
        "ID": ("CACHE ID", _id),
        "Parent": ("PARENT", lambda row: ""),
        "CacheType": ("CACHE TYPE", "Type"),
        "Description": ("DESCRIPTION", "Description"),
        "CreatedAt": ("CREATED", lambda row: _go_time(row["CreatedAt"] or "")),
        "CreatedSince": ("CREATED", lambda row: _since(row["CreatedAt"] or "")),
        "LastUsedAt": ("LAST USED", lambda row: _go_time(row["LastUsedAt"] or "")),
        "LastUsedSince": ("LAST USED", lambda row: _since(row["LastUsedAt"] or "")),
        "UsageCount": ("USAGE", lambda row: str(row["UsageCount"])),
        "InUse": ("IN USE", lambda row: str(row["InUse"]).lower()),
        "Shared": ("SHARED", lambda row: str(row["Shared"]).lower()),
        "Size": ("SIZE", lambda row: human_size(row["Size"])),
    },
)


def rows_of(records: list[dict[str, Any]], truncates: bool) -> list[Row]:
    """What was not used for longest comes first."""
    ordered = sorted(records, key=lambda record: (record["LastUsedAt"] or "", record["ID"]))
    return [Row(CACHE, record, truncates) for record in ordered]


def sizes(records: list[dict[str, Any]]) -> tuple[int, int]:
    """The bytes that no image has as well, and how many of these could go."""
    own = [record for record in records if not record["Shared"]]
    return sum(each["Size"] for each in own), sum(each["Size"] for each in own if not each["InUse"])
