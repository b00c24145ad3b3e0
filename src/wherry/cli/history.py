"""`history`: the steps that an image was made in, the last first."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import Listing, Row, chosen_format, ellipsis, human_size, rfc3339, since
from wherry.cli.platform import parse_platform
from wherry.client.client import image_path

# A step before the year 2000 has no date that means anything.
EPOCH = 946684800


def _created_since(row: Row) -> str:
    created = row["Created"] or 0
    return rfc3339(created) if not row["human"] else "N/A" if created <= EPOCH else since(created)


def _created_by(row: Row) -> str:
    command = str(row["CreatedBy"] or "").replace("\t", " ")
    return ellipsis(command, 45) if row.truncates else command


STEPS = Listing(
    "*image.historyContext",
    "ID CreatedSince CreatedBy Size Comment",
    {
        "ID": ("IMAGE", Row.id),
        "CreatedSince": ("CREATED", _created_since),
        "CreatedAt": ("CREATED AT", lambda row: rfc3339(row["Created"] or 0)),
        "CreatedBy": ("CREATED BY", _created_by),
        "Size": ("SIZE", lambda row: human_size(row["Size"] or 0, 3) if row["human"] else str(row["Size"] or 0)),
        "Comment": ("COMMENT", "Comment"),
    },
)


@command(
    flags.listing(),
    flags.switch("human", "H", "Print sizes and dates in human readable format", True),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.platform("Show history for the given platform."),
    flags.switch("quiet", "q", "Only show image IDs"),
)
def run_history(session: Session, options: Options) -> None:
    platform = parse_platform(options["platform"], "invalid platform: ")
    steps = session.client.get(image_path(options.arguments[0], "history"), platform=platform)
    human = options["human"]
    rows = [Row(STEPS, {**step, "human": human}, not options["no-trunc"]) for step in steps]
    shown = () if human else ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")
    sys.stdout.write(STEPS.text(rows, chosen_format(session, options, ""), shown))
