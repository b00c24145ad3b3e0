"""`wherry logs`."""

from __future__ import annotations

from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options, string, switch

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
    from wherry.cli.moments import timestamp

    try:
        return timestamp(options[name]) or None
    except ValueError as error:
        raise CommandError(f'invalid value for "{name}": {error}') from None
