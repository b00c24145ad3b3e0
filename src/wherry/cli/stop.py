"""`wherry stop`, `restart`, `kill`, `pause`, `unpause`: a request for each container, all under way at once."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, at_least, for_all, for_each
from wherry.cli.flags import Flag, integer, string
from wherry.client.client import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_stop(session: Session, options: Options) -> None:
    query = {"t": _timeout(options), "signal": options["signal"] or None}
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, "stop"), query))


def run_restart(session: Session, options: Options) -> None:
    timeout = _timeout(options)
    for_each(
        options.arguments,
        lambda name: session.client.containers.restart(name, timeout=timeout, signal=options["signal"]),
    )


def run_kill(session: Session, options: Options) -> None:
    query = {"signal": options["signal"] or None}
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, "kill"), query))


def run_pause(session: Session, options: Options) -> None:
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, "pause"), {}))


def run_unpause(session: Session, options: Options) -> None:
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, "unpause"), {}))


def _timeout(options: Options) -> int | None:
    """Seconds; None leaves it to the container."""
    if options.changed("time") and options.changed("timeout"):
        raise CommandError("conflicting options: cannot specify both --timeout and --time")
    changed = options.changed("time") or options.changed("timeout")
    return int(options["timeout"]) if changed else None


def _signal() -> Flag:
    return string("signal", "s", "Signal to send to the container")


def _timeouts() -> list[Flag]:
    text = "Seconds to wait before killing the container"
    old = integer(
        "time", "", f"{text} (deprecated: use --timeout)", deprecated="use --timeout instead", store="timeout"
    )
    return [integer("timeout", "t", text), old]


STOP = Command(
    "stop [OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    run_stop,
    flags=[_signal(), *_timeouts()],
    arguments=at_least(1),
    aliases="wherry container stop, wherry stop",
)

RESTART = Command(
    "restart [OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    run_restart,
    flags=[_signal(), *_timeouts()],
    arguments=at_least(1),
    aliases="wherry container restart, wherry restart",
)

KILL = Command(
    "kill [OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    run_kill,
    flags=[_signal()],
    arguments=at_least(1),
    aliases="wherry container kill, wherry kill",
)

PAUSE = Command(
    "pause CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    run_pause,
    arguments=at_least(1),
    aliases="wherry container pause, wherry pause",
)

UNPAUSE = Command(
    "unpause CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    run_unpause,
    arguments=at_least(1),
    aliases="wherry container unpause, wherry unpause",
)
