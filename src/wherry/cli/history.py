"""`history`: the steps that an image was made in, the last first."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Command, exactly
from wherry.cli.formatting import QUIET, TABLE, Row, ellipsis, human_size, listing, rfc3339, short_id, since
from wherry.cli.texts import LISTING_FORMAT
from wherry.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

# A step before the year 2000 has no date that means anything.
EPOCH = 946684800


class StepRow(Row):
    """A step of GET /images/NAME/history; `human` sizes and times are rounded."""

    go_type = "*image.historyContext"
    headers = {  # noqa: RUF012 - never changed
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    }

    def __init__(self, step: dict[str, Any], truncates: bool, human: bool) -> None:
        self.step, self.truncates, self.human = step, truncates, human

    def ID(self) -> str:
        identity = str(self.step.get("Id") or "")
        return short_id(identity) if self.truncates else identity

    def CreatedAt(self) -> str:
        return rfc3339(self.step.get("Created") or 0)

    def CreatedSince(self) -> str:
        if not self.human:
            return self.CreatedAt()
        created = self.step.get("Created") or 0
        return "N/A" if created <= EPOCH else since(created)

    def CreatedBy(self) -> str:
        command = str(self.step.get("CreatedBy") or "").replace("\t", " ")
        return ellipsis(command, 45) if self.truncates else command

    def Size(self) -> str:
        size = self.step.get("Size") or 0
        return human_size(size, 3) if self.human else str(size)

    def Comment(self) -> str:
        return str(self.step.get("Comment") or "")


def run_history(session: Session, options: Options) -> None:
    steps = session.client.get(f"/images/{quote(options.arguments[0], '/:@')}/history")
    human = options["human"]
    rows = [StepRow(step, not options["no-trunc"], human) for step in steps]
    format = options["format"] or TABLE
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    quiet = options["quiet"] and format == TABLE
    sys.stdout.write(listing(StepRow, rows, QUIET if quiet else format, columns))


HISTORY = Command(
    "history [OPTIONS] IMAGE",
    "Show the history of an image",
    run_history,
    flags=[
        flags.string("format", "", LISTING_FORMAT),
        flags.switch("human", "H", "Print sizes and dates in human readable format", True),
        flags.switch("no-trunc", "", "Don't truncate output"),
        flags.switch("quiet", "q", "Only show image IDs"),
    ],
    arguments=exactly(1),
    aliases="wherry image history, wherry history",
)
