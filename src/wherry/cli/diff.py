"""`wherry diff`."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options

KINDS = "CAD"  # changed, added, deleted


def run_diff(session: Session, options: Options) -> None:
    from wherry.client.client import container_path

    name = options.arguments[0]
    if not name:
        raise CommandError("Container name cannot be empty")
    for change in session.client.get(container_path(name, "changes")) or ():
        print(KINDS[change["Kind"]], change["Path"])


DIFF = Command(
    "diff CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    run_diff,
    arguments=exactly(1),
    aliases="wherry container diff, wherry diff",
)
