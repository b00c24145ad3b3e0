"""Which engine a command is for, and starting one where there is none.

In this order: --context or --host; WHERRY_HOST; DOCKER_HOST; DOCKER_CONTEXT; the current context of docker's
configuration; the default socket. Only for the default socket an engine is started: whoever names another one
wants that one, or an error.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.command import CommandError
from wherry.client.host import TLS
from wherry.client.local import default_socket, named_by_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


class Endpoint:
    """An engine's address and how to speak TLS with it. `own`: the default socket, where one may be started."""

    def __init__(self, address: str, tls: TLS | None = None, *, own: bool = False) -> None:
        self.address, self.tls, self.own = address, tls, own

    def start(self) -> bool:
        """Starts an engine, if it may, and says whether it is worth to try again."""
        if not self.own or sys.platform != "linux":
            return False
        from wherry.client.local import start_engine

        start_engine(self.address.removeprefix("unix://"))
        return True


def find(session: Session) -> Endpoint:
    """Raises CommandError for a context that there is not, or two answers at once."""
    options = session.options
    hosts: list[str] = options["host"]
    context: str = options["context"]
    if context and hosts:
        raise CommandError("conflicting options: cannot specify both --host and --context")
    if len(hosts) > 1:
        raise CommandError("Specify only one -H")
    host = hosts[0] if hosts else named_by_environment()
    if host and not context:
        return Endpoint(host, _tls(options))
    context = current_context(session)
    return Endpoint(default_socket(), own=True) if context == "default" else _from_context(session, context)


def current_context(session: Session) -> str:
    """The context that the command is for; "default" wherever an address is given instead."""
    if session.options["context"]:
        return str(session.options["context"])
    if session.options["host"] or named_by_environment():
        return "default"
    return os.environ.get("DOCKER_CONTEXT") or str(session.config.get("currentContext") or "default")


def _tls(options: Options) -> TLS | None:
    if not (options["tls"] or options["tlsverify"] or options.changed("tlsverify")):
        return None
    paths = {}
    for name in ("tlscacert", "tlscert", "tlskey"):
        path: str = options[name]
        # A default file that is not there is not meant.
        paths[name] = path if options.changed(name) or os.path.exists(path) else ""
    return TLS(paths["tlscacert"], paths["tlscert"], paths["tlskey"], verify=options["tlsverify"])


def _from_context(session: Session, name: str) -> Endpoint:
    from wherry.cli.contexts import Store

    try:
        context = Store(session.config_directory).get(name)
    except CommandError as error:
        raise CommandError(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None
    return Endpoint(context.host or default_socket(), context.security())
