"""`volume`: make, list and remove volumes, and take their content out and in."""

from __future__ import annotations

import sys

from wherry.cli.session import CommandError, Session, command, for_each
from wherry.cli.table import Listing, Row, chosen_format
from wherry.client.client import volume_path
from wherry.common import flags, values
from wherry.common.flags import Options
from wherry.common.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RAW_FORMAT = "name: {{.Name}}\ndriver: {{.Driver}}\n"


def _usage(row: Row, field: str) -> Any:
    """Asks GET /system/df, which alone knows how large volumes are."""
    return (row["UsageData"] or {}).get(field)


def _size(row: Row) -> str:
    return human_size(_usage(row, "Size")) if row["UsageData"] else "N/A"


VOLUMES = Listing(
    "*formatter.volumeContext",
    "Driver Name",
    {
        "Name": ("VOLUME NAME", "Name"),
        "Driver": ("DRIVER", "Driver"),
        "Scope": ("SCOPE", "Scope"),
        "Mountpoint": ("MOUNTPOINT", "Mountpoint"),
        "Labels": ("LABELS", Row.labels),
        "Links": ("LINKS", lambda row: str(_usage(row, "RefCount")) if row["UsageData"] else "N/A"),
        "Size": ("SIZE", _size),
        # These are of swarm's volumes.
        **{name: (name.upper(), lambda _: "N/A") for name in ("Group", "Availability", "Status")},
    },
)


@command(
    flags.string("driver", "d", "Specify volume driver name", default="local"),
    flags.strings("label", "", "Set metadata for a volume"),
    flags.string("name", "", "Specify volume name", hidden=True),
    flags.pairs("opt", "o", "Set driver specific options"),
)
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
    print(session.client.volumes.create(body)["Name"])


@command(
    flags.filters('Provide filter values (e.g. "dangling=true")'),
    flags.listing(),
    flags.switch("quiet", "q", "Only display volume names"),
)
def run_ls(session: Session, options: Options) -> None:
    found = session.client.volumes.list(options["filter"])
    volumes = sorted(found, key=lambda volume: values.natural_key(str(volume.get("Name"))))
    format = chosen_format(session, options, "volumesFormat", name="Name", raw=RAW_FORMAT)
    sys.stdout.write(VOLUMES.text([Row(VOLUMES, volume) for volume in volumes], format))


@command(
    flags.switch("force", "f", "Force the removal of one or more volumes"),
    description="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
)
def run_rm(session: Session, options: Options) -> None:
    for_each(options.arguments, lambda name: session.client.volumes.remove(name, force=options["force"]))


@command(flags.string("output", "o", "Write to a file, instead of STDOUT"))
def run_export(session: Session, options: Options) -> None:
    from wherry.cli import archives

    archives.write(session, volume_path(options.arguments[0], "export"), options["output"], "export volume")


def run_import(session: Session, options: Options) -> None:
    from wherry.cli import archives

    name, source, *_ = [*options.arguments, "-"]
    archives.send(session, volume_path(name, "import"), source, telling="Importing").read()
    print(name)
