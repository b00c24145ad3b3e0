"""`wherry rm`."""

from __future__ import annotations

import sys

from wherry.cli.command import Command, at_least, for_all
from wherry.cli.flags import switch
from wherry.client.client import container_path
from wherry.client.errors import APIError, ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Request, Session
    from wherry.cli.flags import Options


class EmptyName(ClientError):
    """Nothing is called that."""


def run_rm(session: Session, options: Options) -> None:
    force = options["force"]
    query = {"force": force or None, "v": options["volumes"] or None, "link": options["link"] or None}

    def request(name: str) -> Request:
        name = name.strip("/")
        if not name:
            raise EmptyName("container name cannot be empty")
        return "DELETE", container_path(name), query

    def forgive(error: ClientError) -> bool:
        if force and isinstance(error, APIError) and error.not_found:
            print(error, file=sys.stderr)
            return True
        return False

    for_all(session, options.arguments, request, forgive)


RM = Command(
    "rm [OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    run_rm,
    flags=[
        switch("force", "f", "Force the removal of a running container (uses SIGKILL)"),
        switch("link", "l", "Remove the specified link"),
        switch("volumes", "v", "Remove anonymous volumes associated with the container"),
    ],
    arguments=at_least(1),
    aliases="wherry container rm, wherry container remove, wherry rm",
)
