"""docker's CLI plugins, which wherry runs as docker does: `wherry compose up` is the program docker-compose."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from wherry.cli.command import Session

DIRECTORIES = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
# By which a plugin knows that it is one, and what it was called by.
CALLED_BY = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"


def find(session: Session, name: str) -> str:
    """The program of a plugin: the user's own first, then the machine's. "" when there is none of that name."""
    if "/" in name:
        return ""
    more = session.config.get("cliPluginsExtraDirs")
    own = os.path.join(session.config_directory, "cli-plugins")
    for directory in (own, *(more if isinstance(more, list) else ()), *DIRECTORIES):
        path = os.path.join(str(directory), f"docker-{name}")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def become(session: Session, path: str, words: Sequence[str]) -> NoReturn:
    """Carries on as the plugin. It reads the global options in `words`, the environment and contexts by itself; of an
    engine that only wherry knows of it is told."""
    from wherry.cli.engine import current_context

    if current_context(session) == "default" and not session.options["host"]:
        session.endpoint.start()
        os.environ["DOCKER_HOST"] = session.endpoint.address
    os.environ[CALLED_BY] = os.path.abspath(sys.argv[0])
    sys.stdout.flush()
    os.execv(path, [path, *words])
