"""`system df`: what images, containers, volumes and the build cache take on the disk."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.building import cache as cached
from wherry.cli.command import Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import JSON, RAW, TABLE, Listing, Row, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Usage = dict[str, Any]

IMAGE_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
CONTAINER_COLUMNS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
VOLUME_COLUMNS = ("Name", "Links", "Size")

RAW_FORMAT = """type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""
_CACHE = "Build Cache"


def _reclaimable(row: Row) -> str:
    size, free = row["Size"], row["Reclaimable"]
    return human_size(free) + (f" ({free * 100 // size}%)" if size > 0 and row["Type"] != _CACHE else "")


# Kinds of things: how many there are, how many are in use, and what removing the others would give.
USAGE = Listing(
    "*formatter.diskUsageContext",
    "Type TotalCount Active Size Reclaimable",
    {
        "Type": ("TYPE", "Type"),
        "TotalCount": ("TOTAL", lambda row: str(row["Total"])),
        "Active": ("ACTIVE", lambda row: str(row["Active"])),
        "Size": ("SIZE", lambda row: human_size(row["Size"])),
        "Reclaimable": ("RECLAIMABLE", _reclaimable),
    },
)
# All of it, for the templates of -v: {{range .Images}}…{{end}}.
EVERYTHING = Listing(
    USAGE.go_type,
    "",
    {
        "Images": ("", lambda row: row["Images"]),
        "Containers": ("", lambda row: row["Containers"]),
        "Volumes": ("", lambda row: row["Volumes"]),
        "BuildCache": ("", lambda row: row["BuildCache"]),
    },
)


def rows_of_usage(usage: Usage) -> list[Row]:
    images: list[Usage] = usage.get("Images") or []
    containers: list[Usage] = usage.get("Containers") or []
    volumes: list[Usage] = usage.get("Volumes") or []
    layers = usage.get("LayersSize") or 0
    used = [image for image in images if image.get("Containers", 0) > 0]
    kept = sum(image["Size"] - image["SharedSize"] for image in used if -1 not in (image["Size"], image["SharedSize"]))
    active = [each for each in containers if each.get("State") in ("running", "paused", "restarting")]
    written, active_written = (sum(each.get("SizeRw") or 0 for each in some) for some in (containers, active))
    data = [volume["UsageData"] for volume in volumes if volume.get("UsageData")]
    linked = [each for each in data if each["RefCount"] > 0]
    cache: list[Usage] = usage.get("BuildCache") or []
    cache_size, cache_free = cached.sizes(cache)
    sizes, linked_sizes = (sum(each["Size"] for each in some if each["Size"] != -1) for some in (data, linked))
    return [
        Row(USAGE, {"Type": kind, "Total": total, "Active": count, "Size": size, "Reclaimable": free})
        for kind, total, count, size, free in (
            ("Images", len(images), len(used), layers, layers - kept),
            ("Containers", len(containers), len(active), written, written - active_written),
            ("Local Volumes", len(volumes), len(linked), sizes, sizes - linked_sizes),
            (_CACHE, len(cache), sum(each["InUse"] for each in cache), cache_size, cache_free),
        )
    ]


@command(flags.listing(), flags.switch("verbose", "v", "Show detailed information on space usage"))
def run_df(session: Session, options: Options) -> None:
    usage = session.client.get("/system/df")
    format = options["format"] or TABLE
    if options["verbose"]:
        sys.stdout.write(_verbose(usage, format))
        return
    sys.stdout.write(USAGE.text(rows_of_usage(usage), RAW_FORMAT if format == RAW else format))


def _verbose(usage: Usage, format: str) -> str:
    from wherry.cli.images import IMAGES, rows_of
    from wherry.cli.ps import CONTAINERS
    from wherry.cli.volume import VOLUMES

    truncates = format.startswith(TABLE)
    images = [rows_of(image, truncates, False, False)[0] for image in usage.get("Images") or ()]
    for row in images:
        row.item = {**row.item, "Digest": ""}
    containers = [
        Row(CONTAINERS, {**container, "SizeRootFs": 0}, truncates) for container in usage.get("Containers") or ()
    ]
    volumes = [Row(VOLUMES, volume) for volume in usage.get("Volumes") or ()]
    records: list[Usage] = usage.get("BuildCache") or []
    cache = cached.rows_of(records, truncates)
    everything = {"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache}
    if format == JSON:
        from wherry.cli.templates.functions import encode

        return encode(everything)
    if format != TABLE:
        return EVERYTHING.text([Row(EVERYTHING, everything)], format).removesuffix("\n")  # docker ends it so
    return (
        "Images space usage:\n\n"
        + IMAGES.text(images, TABLE, IMAGE_COLUMNS)
        + "\nContainers space usage:\n\n"
        + CONTAINERS.text(containers, TABLE, CONTAINER_COLUMNS)
        + "\nLocal Volumes space usage:\n\n"
        + VOLUMES.text(volumes, TABLE, VOLUME_COLUMNS)
        + f"\nBuild cache usage: {human_size(cached.sizes(records)[0])}\n\n"
        + cached.CACHE.text(cache, TABLE, cached.COLUMNS)
    )
