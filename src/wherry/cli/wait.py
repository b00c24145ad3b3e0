"""`wherry wait`."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, at_least
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_wait(session: Session, options: Options) -> None:
    errors = []
    for name in options.arguments:
        try:
            result = session.client.containers.wait(name)
        except ClientError as error:
            errors.append(str(error))
        else:
            print(result["StatusCode"], flush=True)
    if errors:
        raise CommandError("\n".join(errors))


WAIT = Command(
    "wait CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    run_wait,
    arguments=at_least(1),
    aliases="wherry container wait, wherry wait",
)
