"""`prune` of each kind of thing, and of the whole system: what nobody needs is removed, after a question."""

from __future__ import annotations

import sys
from calendar import timegm

from wherry.cli.build_progress import Working
from wherry.cli.session import CommandError, Session, command
from wherry.cli.table import Listing, Row, since
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Filters = dict[str, list[str]]

_QUESTION = "Are you sure you want to continue? [y/N] "
_FORCE = flags.switch("force", "f", "Do not prompt for confirmation")
_AGE = flags.filters('Provide filter values (e.g. "until=<timestamp>")', short="")
_EVERY_IMAGE = "all images without at least one container associated to them"
# How the engine calls what it has removed of each kind, and how that is told.
_DELETED = {
    "containers": ("ContainersDeleted", "Deleted Containers:"),
    "networks": ("NetworksDeleted", "Deleted Networks:"),
    "volumes": ("VolumesDeleted", "Deleted Volumes:"),
    "images": ("ImagesDeleted", "Deleted Images:"),
    "build": ("CachesDeleted", "Deleted build cache objects:"),
}


def _prune(session: Session, kind: str, filters: Filters, **query: Any) -> int:
    """Removes what nobody needs of a kind, tells what that was, and gives its size in bytes."""
    key, title = _DELETED[kind]
    with Working("Removing"):
        answer = session.client.system.prune(kind, filters, **query)
    removed = answer.get(key)
    if not removed:
        return 0
    print(title)
    for item in removed:
        if isinstance(item, dict):  # an image's name, or the image
            item = f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}"
        print(item)
    print(flush=True)
    return int(answer.get("SpaceReclaimed", 0))


def _prune_images(session: Session, filters: Filters, *, all: bool) -> int:
    return _prune(session, "images", {**filters, "dangling": ["false" if all else "true"]})


def _told(reclaimed: int) -> None:
    print("Total reclaimed space:", human_size(reclaimed))


def _agreed(options: Options, warning: str) -> bool:
    """--force, or y to a question on standard output; anything else is no."""
    if options["force"]:
        return True
    sys.stdout.write(f"{warning}\n{_QUESTION}")
    sys.stdout.flush()
    # Not input(): a terminal's line editing would be loaded for one letter.
    return sys.stdin.readline().strip().lower() == "y"


def _filters(session: Session, options: Options) -> Filters:
    """--filter, and what docker's configuration leaves out at any prune ("pruneFilters"). The command line wins."""
    filters: Filters = {name: list(values) for name, values in options["filter"].items()}
    for text in session.config.get("pruneFilters") or ():
        name, equals, value = str(text).partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name)
        if not equals or (opposite and value in filters.get(opposite, ())):
            continue
        filters.setdefault(name, []).append(value)
    return filters


@command(_AGE, _FORCE)
def run_containers(session: Session, options: Options) -> None:
    filters = _filters(session, options)
    if _agreed(options, "WARNING! This will remove all stopped containers."):
        _told(_prune(session, "containers", filters))


@command(_AGE, _FORCE)
def run_networks(session: Session, options: Options) -> None:
    filters = _filters(session, options)
    if _agreed(options, "WARNING! This will remove all custom networks not used by at least one container."):
        _prune(session, "networks", filters)


@command(flags.switch("all", "a", "Remove all unused images, not just dangling ones"), _AGE, _FORCE)
def run_images(session: Session, options: Options) -> None:
    filters = _filters(session, options)
    if _agreed(options, f"WARNING! This will remove {_EVERY_IMAGE if options['all'] else 'all dangling images'}."):
        _told(_prune_images(session, filters, all=options["all"]))


@command(
    flags.switch("all", "a", "Remove all unused volumes, not just anonymous ones"),
    flags.filters('Provide filter values (e.g. "label=<label>")', short=""),
    _FORCE,
)
def run_volumes(session: Session, options: Options) -> None:
    filters = _filters(session, options)
    if options["all"]:
        if "all" in filters:
            raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
    what = "all local volumes" if options["all"] else "anonymous local volumes"
    if _agreed(options, f"WARNING! This will remove {what} not used by at least one container."):
        _told(_prune(session, "volumes", filters))


@command(
    flags.switch("all", "a", "Remove all unused build cache, not just dangling ones"),
    flags.filters('Provide filter values (e.g. "until=24h")', short=""),
    _FORCE,
    flags.size("keep-storage", "", "Amount of disk space to keep for cache"),
    flags.size("max-used-space", "", "Maximum amount of disk space allowed to keep for cache"),
    flags.size("min-free-space", "", "Target amount of free disk space after pruning"),
    flags.size("reserved-space", "", "Amount of disk space always allowed to keep for cache"),
)
def run_build_cache(session: Session, options: Options) -> None:
    filters = _filters(session, options)
    if _agreed(options, f"WARNING! This will remove all {'' if options['all'] else 'dangling '}build cache."):
        names = ("max-used-space", "min-free-space", "reserved-space")
        keep = {name: options[name] or None for name in names}
        keep["reserved-space"] = keep["reserved-space"] or options["keep-storage"] or None
        _told(_prune(session, "build", filters, all=options["all"], **keep))


@command(
    flags.switch("all", "a", "Remove all unused images not just dangling ones"),
    flags.filters('Provide filter values (e.g. "label=<key>=<value>")', short=""),
    _FORCE,
    flags.switch("volumes", "", "Prune anonymous volumes"),
)
def run_system(session: Session, options: Options) -> None:
    all, volumes = options["all"], options["volumes"]
    if volumes and "until" in options["filter"]:
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    filters = _filters(session, options)
    if not _agreed(options, _warning(filters, all=all, volumes=volumes)):
        return
    reclaimed = sum(_prune(session, kind, filters) for kind in ("containers", "networks", *["volumes"][:volumes]))
    reclaimed += _prune_images(session, filters, all=all)
    _told(reclaimed + _prune(session, "build", filters, all=all))


def _warning(filters: Filters, *, all: bool, volumes: bool) -> str:
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        doomed.append("all anonymous volumes not used by at least one container")
    doomed.append(_EVERY_IMAGE if all else "all dangling images")
    doomed.append("all build cache" if all else "unused build cache")
    lines = ["WARNING! This will remove:", *(f"  - {what}" for what in doomed), ""]
    shown = sorted(f"{name}={value}" for name in ("label", "label!", "until") for value in filters.get(name, ()))
    if shown:
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {each}" for each in shown), ""]
    return "\n".join(lines)


# What builds have left in the engine, as `system df -v` lists it.

CACHE_COLUMNS = ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")


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


CACHE_TABLE = Listing(
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


def cache_rows(records: list[dict[str, Any]], truncates: bool) -> list[Row]:
    """What was not used for longest comes first."""
    ordered = sorted(records, key=lambda record: (record["LastUsedAt"] or "", record["ID"]))
    return [Row(CACHE_TABLE, record, truncates) for record in ordered]


def cache_sizes(records: list[dict[str, Any]]) -> tuple[int, int]:
    """The bytes that no image has as well, and how many of these could go."""
    own = [record for record in records if not record["Shared"]]
    return sum(each["Size"] for each in own), sum(each["Size"] for each in own if not each["InUse"])
