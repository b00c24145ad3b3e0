"""What is done to containers by name: stop, restart, kill, pause, unpause, rm, rename, wait; and what they say of
themselves: top, diff, port."""

from __future__ import annotations

import sys

from wherry.cli.session import CommandError, Session, command, for_all, for_each
from wherry.client.client import container_path
from wherry.client.transport import APIError, ClientError
from wherry.common import values
from wherry.common.errors import EngineError
from wherry.common.flags import Options, integer, string, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.session import Request

_SIGNAL = string("signal", "s", "Signal to send to the container")
_SECONDS = "Seconds to wait before killing the container"
_TIMEOUT = integer("timeout", "t", _SECONDS)
_TIME = integer("time", "", f"{_SECONDS} (deprecated: use --timeout)", deprecated="use --timeout instead",
                store="timeout")  # fmt: skip
KINDS = "CAD"  # of changes: changed, added, deleted
WIDTH, GAP = 20, 3  # of a column of `top` at least, and between two


def _post_all(session: Session, options: Options, action: str, **query: Any) -> None:
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, action), query))


@command(_SIGNAL, _TIMEOUT, _TIME)
def run_stop(session: Session, options: Options) -> None:
    _post_all(session, options, "stop", t=_timeout(options), signal=options["signal"])


@command(_SIGNAL, _TIMEOUT, _TIME)
def run_restart(session: Session, options: Options) -> None:
    timeout, restart = _timeout(options), session.client.containers.restart
    for_each(options.arguments, lambda name: restart(name, timeout=timeout, signal=options["signal"]))


def _timeout(options: Options) -> int | None:
    """Seconds; None leaves it to the container."""
    if options.changed("time") and options.changed("timeout"):
        raise CommandError("conflicting options: cannot specify both --timeout and --time")
    return int(options["timeout"]) if options.changed("time") or options.changed("timeout") else None


@command(_SIGNAL)
def run_kill(session: Session, options: Options) -> None:
    _post_all(session, options, "kill", signal=options["signal"])


def run_pause(session: Session, options: Options) -> None:
    _post_all(session, options, "pause")


def run_unpause(session: Session, options: Options) -> None:
    _post_all(session, options, "unpause")


def run_wait(session: Session, options: Options) -> None:
    for_each(options.arguments, lambda name: str(session.client.containers.wait(name)["StatusCode"]))


class EmptyName(ClientError):
    """Nothing is called that."""


@command(
    switch("force", "f", "Force the removal of a running container (uses SIGKILL)"),
    switch("link", "l", "Remove the specified link"),
    switch("volumes", "v", "Remove anonymous volumes associated with the container"),
)
def run_rm(session: Session, options: Options) -> None:
    force = options["force"]
    query = {"force": force, "v": options["volumes"], "link": options["link"]}

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


def run_rename(session: Session, options: Options) -> None:
    old, new = (name.strip() for name in options.arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        session.client.post(container_path(old, "rename"), name=new)
    except ClientError as error:
        print(error, file=sys.stderr)
        raise CommandError(f"Error: failed to rename container named {old}") from None


def run_diff(session: Session, options: Options) -> None:
    name = options.arguments[0]
    if not name:
        raise CommandError("Container name cannot be empty")
    for change in session.client.get(container_path(name, "changes")) or ():
        print(KINDS[change["Kind"]], change["Path"])


@command(arguments=(1, None), interspersed=False)
def run_top(session: Session, options: Options) -> None:
    container, *arguments = options.arguments
    found = session.client.get(container_path(container, "top"), ps_args=" ".join(arguments))
    print(columns([found["Titles"], *(found["Processes"] or ())]))


def columns(rows: list[list[str]]) -> str:
    """Rows in columns; the last one is as wide as it is."""
    count = max((len(row) for row in rows), default=0)
    widths = [
        max(WIDTH, max((len(row[number]) for row in rows if number < len(row) - 1), default=0) + GAP)
        for number in range(count)
    ]
    return "\n".join(
        "".join(cell.ljust(widths[number]) for number, cell in enumerate(row[:-1])) + (row[-1] if row else "")
        for row in rows
    )


def run_port(session: Session, options: Options) -> None:
    name, *wanted = options.arguments
    ports = session.client.containers.inspect(name)["NetworkSettings"]["Ports"] or {}
    if wanted and wanted[0]:
        lines = _of_one(ports, wanted[0], name)
    else:
        lines = [f"{port} -> {_address(binding)}" for port, bindings in ports.items() for binding in bindings or ()]
    for line in sorted(lines, key=values.natural_key):
        print(line)


def _of_one(ports: dict[str, list[dict[str, str]] | None], wanted: str, container: str) -> list[str]:
    port, _, protocol = wanted.partition("/")
    try:
        values.parse_unsigned(port, 16)
    except ValueError as error:
        raise CommandError(f"Error: invalid port ({port}): {error}") from None
    bindings = ports.get(f"{port}/{protocol or 'tcp'}")
    if not bindings:
        raise CommandError(f"Error: No public port '{wanted}' published for {container}")
    return [_address(binding) for binding in bindings]


def _address(binding: dict[str, str]) -> str:
    address = binding["HostIp"]
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


# `wherry logs`.

_MOMENT = 'a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'


@command(
    switch("details", "", "Show extra details provided to logs"),
    switch("follow", "f", "Follow log output"),
    string("since", "", f"Show logs since {_MOMENT.removeprefix('a ')}"),
    string("tail", "n", "Number of lines to show from the end of the logs", default="all"),
    switch("timestamps", "t", "Show timestamps"),
    string("until", "", f"Show logs before {_MOMENT}"),
)
def run_logs(session: Session, options: Options) -> None:
    from wherry.cli import terminal
    from wherry.client.streams import Demultiplexer, pass_on, write_all

    containers = session.client.containers
    container = containers.inspect(options.arguments[0])
    response = containers.logs(
        container["Id"],
        stdout=True,
        stderr=True,
        since=_moment(options, "since"),
        until=_moment(options, "until"),
        timestamps=options["timestamps"],
        follow=options["follow"],
        details=options["details"],
        tail=options["tail"],
    )
    if container["Config"]["Tty"]:
        pass_on(response, terminal.STDOUT)
        return
    outputs = {1: terminal.STDOUT, 2: terminal.STDERR}
    split = Demultiplexer(lambda stream, buffers: write_all(outputs[stream], buffers))
    while piece := response.piece():
        split.feed(piece)


def _moment(options: Options, name: str) -> str | None:
    from wherry.common.times import query_time

    try:
        return query_time(options[name]) or None
    except EngineError as error:
        raise CommandError(f'invalid value for "{name}": {error.message}') from None
