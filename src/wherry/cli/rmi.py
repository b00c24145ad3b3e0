"""`rmi` and `image rm`: names are taken from images, and what has none left goes."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Command, CommandError, at_least
from wherry.client.client import quote
from wherry.client.errors import APIError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_rmi(session: Session, options: Options) -> None:
    force, keeps_parents = options["force"], options["no-prune"]
    errors: list[str] = []
    fatal = False
    for name in options.arguments:
        try:
            path = f"/images/{quote(name, '/:@')}"
            done = session.client.delete(path, force=force or None, noprune=keeps_parents or None)
        except APIError as error:
            fatal = fatal or not error.not_found
            errors.append(str(error))
            continue
        for item in done or ():
            deleted = item.get("Deleted")
            print("Deleted:" if deleted else "Untagged:", deleted or item.get("Untagged", ""))
    sys.stdout.flush()
    if errors and (fatal or not force):
        raise CommandError("\n".join(errors))
    if errors:
        print("\n".join(errors), file=sys.stderr)


FLAGS = [
    flags.switch("force", "f", "Force removal of the image"),
    flags.switch("no-prune", "", "Do not delete untagged parents"),
]
ALIASES = "wherry image rm, wherry image remove, wherry rmi"

RMI = Command(
    "rmi [OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    run_rmi,
    flags=FLAGS,
    arguments=at_least(1),
    aliases=ALIASES,
)
IMAGE_RM = Command(
    "rm [OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    run_rmi,
    flags=FLAGS,
    arguments=at_least(1),
    aliases=ALIASES,
)
