"""`wherry rename`."""

from __future__ import annotations

import sys

from wherry.cli.command import Command, CommandError, exactly
from wherry.client.client import container_path
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_rename(session: Session, options: Options) -> None:
    old, new = (name.strip() for name in options.arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        session.client.post(container_path(old, "rename"), name=new)
    except ClientError as error:
        print(error, file=sys.stderr)
        raise CommandError(f"Error: failed to rename container named {old}") from None


RENAME = Command(
    "rename CONTAINER NEW_NAME",
    "Rename a container",
    run_rename,
    arguments=exactly(2),
    aliases="wherry container rename, wherry rename",
)
