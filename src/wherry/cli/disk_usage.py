"""`system df`: what images, containers and volumes take on the disk."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import NONE, Command
from wherry.cli.formatting import JSON, RAW, TABLE, Row, human_size, listing
from wherry.cli.texts import LISTING_FORMAT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

    Usage = dict[str, Any]

COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
IMAGE_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
CONTAINER_COLUMNS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
VOLUME_COLUMNS = ("Name", "Links", "Size")

RAW_FORMAT = """type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""
# The columns of a cache that is always empty.
_CACHE_TITLES = "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n"


class UsageRow(Row):
    """One kind of thing: how many there are, how many are in use, and what removing the others would give."""

    go_type = "*formatter.diskUsageContext"
    headers = {  # noqa: RUF012 - never changed
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    }

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.kind, self.total, self.active, self.size, self.reclaimable = kind, total, active, size, reclaimable

    def Type(self) -> str:
        return self.kind

    def TotalCount(self) -> str:
        return str(self.total)

    def Active(self) -> str:
        return str(self.active)

    def Size(self) -> str:
        return human_size(self.size)

    def Reclaimable(self) -> str:
        share = f" ({self.reclaimable * 100 // self.size}%)" if self.size > 0 else ""
        return human_size(self.reclaimable) + share


class VerboseUsage(Row):
    """All of it, for the templates of -v: {{range .Images}}…{{end}}."""

    go_type = "*formatter.diskUsageContext"
    headers = {"Images": "", "Containers": "", "Volumes": "", "BuildCache": ""}  # noqa: RUF012 - never changed

    def __init__(self, usage: Usage, *, truncates: bool) -> None:
        from wherry.cli.images import NONE, ImageRow, rows_of
        from wherry.cli.ps import ContainerRow
        from wherry.cli.volume import VolumeRow

        self.images = []
        for image in usage.get("Images") or ():
            first = (rows_of(image, truncates, False, False) or [ImageRow(image, truncates, NONE, NONE, "")])[0]
            first.digest = ""
            self.images.append(first)
        self.containers = [
            ContainerRow({**container, "SizeRootFs": 0}, truncates) for container in usage.get("Containers") or ()
        ]
        self.volumes = [VolumeRow(volume) for volume in usage.get("Volumes") or ()]

    def Images(self) -> list[Row]:
        return list(self.images)

    def Containers(self) -> list[Row]:
        return list(self.containers)

    def Volumes(self) -> list[Row]:
        return list(self.volumes)

    def BuildCache(self) -> list[Row]:
        return []


def rows_of_usage(usage: Usage) -> list[UsageRow]:
    images: list[Usage] = usage.get("Images") or []
    containers: list[Usage] = usage.get("Containers") or []
    volumes: list[Usage] = usage.get("Volumes") or []
    layers = usage.get("LayersSize") or 0
    used = sum(
        image["Size"] - image["SharedSize"]
        for image in images
        if image.get("Containers", 0) > 0 and image["Size"] != -1 and image["SharedSize"] != -1
    )
    active = [each for each in containers if each.get("State") in ("running", "paused", "restarting")]
    written = sum(each.get("SizeRw") or 0 for each in containers)
    data = [volume["UsageData"] for volume in volumes if volume.get("UsageData")]
    sizes = sum(each["Size"] for each in data if each["Size"] != -1)
    linked = [each for each in data if each["RefCount"] > 0]
    return [
        UsageRow("Images", len(images), sum(image.get("Containers", 0) > 0 for image in images), layers, layers - used),
        UsageRow(
            "Containers",
            len(containers),
            len(active),
            written,
            written - sum(each.get("SizeRw") or 0 for each in active),
        ),
        UsageRow(
            "Local Volumes",
            len(volumes),
            len(linked),
            sizes,
            sizes - sum(each["Size"] for each in linked if each["Size"] != -1),
        ),
        UsageRow("Build Cache", len(usage.get("BuildCache") or ()), 0, 0, 0),
    ]


def run_df(session: Session, options: Options) -> None:
    usage = session.client.get("/system/df")
    format = options["format"] or TABLE
    if options["verbose"]:
        sys.stdout.write(_verbose(usage, format))
        return
    sys.stdout.write(listing(UsageRow, rows_of_usage(usage), RAW_FORMAT if format == RAW else format, COLUMNS))


def _verbose(usage: Usage, format: str) -> str:
    from wherry.cli.images import ImageRow
    from wherry.cli.ps import ContainerRow
    from wherry.cli.volume import VolumeRow

    found = VerboseUsage(usage, truncates=format.startswith(TABLE))
    if format == JSON:
        from wherry.cli.templates.functions import encode

        sections = ("Images", "Containers", "Volumes", "BuildCache")  # in this order, where a row's are sorted
        return "{" + ",".join(f'"{name}":{encode(getattr(found, name)())}' for name in sections) + "}"
    if format != TABLE:
        return listing(VerboseUsage, [found], format, ()).removesuffix("\n")  # docker ends it so
    return (
        "Images space usage:\n\n"
        + listing(ImageRow, found.images, TABLE, IMAGE_COLUMNS)
        + "\nContainers space usage:\n\n"
        + listing(ContainerRow, found.containers, TABLE, CONTAINER_COLUMNS)
        + "\nLocal Volumes space usage:\n\n"
        + listing(VolumeRow, found.volumes, TABLE, VOLUME_COLUMNS)
        + "\nBuild cache usage: 0B\n\n"
        + _CACHE_TITLES
    )


DF = Command(
    "df [OPTIONS]",
    "Show wherry disk usage",
    run_df,
    flags=[
        flags.string("format", "", LISTING_FORMAT),
        flags.switch("verbose", "v", "Show detailed information on space usage"),
    ],
    arguments=NONE,
)
