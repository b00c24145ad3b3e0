"""`volume`: make, list and remove volumes, and take their content out and in."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import NONE, Command, CommandError, at_least, between, exactly, for_each
from wherry.cli.formatting import RAW, TABLE, Row, human_size, joined_labels, listing
from wherry.cli.texts import LISTING_FORMAT
from wherry.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

COLUMNS = ("Driver", "Name")


class VolumeRow(Row):
    """A volume of GET /volumes, or of GET /system/df, which alone knows its size."""

    go_type = "*formatter.volumeContext"
    headers = {  # noqa: RUF012 - never changed
        "Name": "VOLUME NAME",
        "Group": "GROUP",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Availability": "AVAILABILITY",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
        "Status": "STATUS",
    }
    methods = {"Label": ("string",)}  # noqa: RUF012 - never changed

    def __init__(self, volume: dict[str, Any]) -> None:
        self.volume = volume

    def text(self, key: str) -> str:
        return str(self.volume.get(key) or "")

    def Name(self) -> str:
        return self.text("Name")

    def Driver(self) -> str:
        return self.text("Driver")

    def Scope(self) -> str:
        return self.text("Scope")

    def Mountpoint(self) -> str:
        return self.text("Mountpoint")

    def Labels(self) -> str:
        return joined_labels(self.volume.get("Labels"))

    def Label(self, name: str) -> str:
        return str((self.volume.get("Labels") or {}).get(name, ""))

    def Links(self) -> str:
        usage = self.volume.get("UsageData")
        return str(usage["RefCount"]) if usage else "N/A"

    def Size(self) -> str:
        usage = self.volume.get("UsageData")
        return human_size(usage["Size"]) if usage else "N/A"

    def Group(self) -> str:
        return "N/A"  # this and what follows are of swarm's volumes

    def Availability(self) -> str:
        return "N/A"

    def Status(self) -> str:
        return "N/A"


def volume_path(name: str, action: str = "") -> str:
    """The API's path of a volume, or of what is done to it."""
    return f"/volumes/{quote(name)}" + (f"/{action}" if action else "")


def run_create(session: Session, options: Options) -> None:
    name = options["name"]
    if options.arguments:
        if name:
            raise CommandError(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
            )
        name = options.arguments[0]
    labels = dict(label.partition("=")[::2] for label in options["label"])
    body = {"Name": name, "Driver": options["driver"], "DriverOpts": options["opt"], "Labels": labels}
    print(session.client.post("/volumes/create", body)["Name"])


def run_ls(session: Session, options: Options) -> None:
    answer = session.client.get("/volumes", filters=options["filter"] or None)
    volumes = sorted(answer.get("Volumes") or (), key=lambda volume: natural_key(str(volume.get("Name"))))
    quiet = options["quiet"]
    format = options["format"] or ("" if quiet else str(session.config.get("volumesFormat") or "")) or TABLE
    if format == TABLE and quiet:
        format = "{{.Name}}"
    elif format == RAW:
        format = "name: {{.Name}}" if quiet else "name: {{.Name}}\\ndriver: {{.Driver}}\\n"
    sys.stdout.write(listing(VolumeRow, [VolumeRow(volume) for volume in volumes], format, COLUMNS))


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts v2 before v10."""
    parts: list[tuple[int, int, str]] = []
    rest = text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        if digits:
            parts.append((0, int(rest[:digits]), ""))
            rest = rest[digits:]
        else:
            letters = next((at for at, char in enumerate(rest) if char in "0123456789"), len(rest))
            parts.append((1, 0, rest[:letters]))
            rest = rest[letters:]
    return parts


def run_rm(session: Session, options: Options) -> None:
    force = options["force"] or None
    for_each(options.arguments, lambda name: session.client.delete(volume_path(name), force=force))


def run_export(session: Session, options: Options) -> None:
    from wherry.cli import export

    path = volume_path(options.arguments[0], "export")
    export.save(lambda: session.client.request("GET", path), options["output"], "volume")


def run_import(session: Session, options: Options) -> None:
    from wherry.cli import load

    name, source, *_ = [*options.arguments, "-"]
    archive = load.open_archive(source)
    session.client.request(
        "POST",
        volume_path(name, "import"),
        data=load.pieces(archive),
        size=load.size_of(archive),
        headers={"Content-Type": "application/x-tar"},
    ).read()
    print(name)


CREATE = Command(
    "create [OPTIONS] [VOLUME]",
    "Create a volume",
    run_create,
    flags=[
        flags.string("driver", "d", "Specify volume driver name", default="local"),
        flags.strings("label", "", "Set metadata for a volume"),
        flags.string("name", "", "Specify volume name", hidden=True),
        flags.pairs("opt", "o", "Set driver specific options"),
    ],
    arguments=between(0, 1),
)
LS = Command(
    "ls [OPTIONS]",
    "List volumes",
    run_ls,
    flags=[
        flags.filters('Provide filter values (e.g. "dangling=true")'),
        flags.string("format", "", LISTING_FORMAT),
        flags.switch("quiet", "q", "Only display volume names"),
    ],
    arguments=NONE,
    aliases="wherry volume ls, wherry volume list",
)
RM = Command(
    "rm [OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    run_rm,
    flags=[flags.switch("force", "f", "Force the removal of one or more volumes")],
    arguments=at_least(1),
    aliases="wherry volume rm, wherry volume remove",
    description="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
)
EXPORT = Command(
    "export [OPTIONS] VOLUME",
    "Export a volume's content as a tar archive",
    run_export,
    flags=[flags.string("output", "o", "Write to a file, instead of STDOUT")],
    arguments=exactly(1),
)
IMPORT = Command(
    "import VOLUME [file|-]",
    "Import the content of a tar archive into a volume",
    run_import,
    arguments=between(1, 2),
)
