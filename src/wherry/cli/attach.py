"""`wherry attach`."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, exactly
from wherry.cli.flags import string, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_attach(session: Session, options: Options) -> int:
    from wherry.cli.interact import Interaction, Streams

    name = options.arguments[0]
    containers = session.client.containers
    waiting = containers.begin_wait(name)
    container = _running(containers.inspect(name))
    identity, config = str(container["Id"]), container["Config"]
    keys = session.detach_keys(options["detach-keys"])
    streams = Streams(
        stdin=not options["no-stdin"] and config["OpenStdin"],
        stdout=True,
        stderr=True,
        tty=config["Tty"],
        detach_keys=keys,
    )
    if not options["no-stdin"] and config["Tty"]:
        Streams(stdin=True, stdout=True, stderr=True, tty=True).check_terminal()
    proxied = options["sig-proxy"] and not config["Tty"]
    with Interaction(
        streams,
        forward=(lambda signal: containers.kill(identity, signal)) if proxied else None,
        resize=lambda rows, columns: containers.resize(identity, rows, columns),
    ) as interaction:
        attaching = containers.attach(identity, stdin=streams.stdin, detach_keys=keys)
        interaction.join(*attaching.take_over())
        ending = waiting.response()
        # It may have ended since; then there is nothing to wait for but that.
        _running(containers.inspect(identity))
        # A program draws its screen anew when its size changes: a prompt is there without a key being pressed.
        interaction.fit(nudge=True)
        interaction.run(ending)
        if interaction.detached:
            raise CommandError("read escape sequence")
        interaction.await_end(ending)
        return _exit_code(ending.json())


def _exit_code(result: Any) -> int:
    error = (result or {}).get("Error")
    if error and error.get("Message"):
        raise CommandError(error["Message"])
    return int(result["StatusCode"]) if result else 0


def _running(container: dict[str, Any]) -> dict[str, Any]:
    state = container["State"]
    if not state["Running"]:
        raise CommandError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("You cannot attach to a restarting container, wait until it is running")
    return container


ATTACH = Command(
    "attach [OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    run_attach,
    flags=[
        string("detach-keys", "", "Override the key sequence for detaching a container"),
        switch("no-stdin", "", "Do not attach STDIN"),
        switch("sig-proxy", "", "Proxy all received signals to the process", True),
    ],
    arguments=exactly(1),
    aliases="wherry container attach, wherry attach",
)
