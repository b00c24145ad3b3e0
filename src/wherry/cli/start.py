"""`wherry start`."""

from __future__ import annotations

import sys

from wherry.cli.command import Command, CommandError, at_least
from wherry.cli.flags import string, switch
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_start(session: Session, options: Options) -> int:
    names = options.arguments
    if options["attach"] or options["interactive"]:
        if len(names) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _start_attached(session, options, names[0])
    if options["checkpoint"]:
        if len(names) > 1:
            raise CommandError("you cannot restore multiple containers at once")
        session.client.containers.start(names[0], **_checkpoint(options))
        return 0
    return _start_detached(session, names)


def _checkpoint(options: Options) -> dict[str, str]:
    given = {"checkpoint": options["checkpoint"], "checkpoint-dir": options["checkpoint-dir"]}
    return {key: value for key, value in given.items() if value}


def _start_detached(session: Session, names: list[str]) -> int:
    failed = []
    for name in names:
        try:
            session.client.containers.start(name)
        except ClientError as error:
            print(error, file=sys.stderr)
            failed.append(name)
            continue
        print(name, flush=True)
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(session: Session, options: Options, name: str) -> int:
    from wherry.cli.interact import Interaction, Streams
    from wherry.cli.run import exit_code

    containers = session.client.containers
    container = containers.inspect(name)
    identity, config = str(container["Id"]), container["Config"]
    keys = session.detach_keys(options["detach-keys"])
    streams = Streams(
        stdin=options["interactive"] and config["OpenStdin"],
        stdout=True,
        stderr=True,
        tty=config["Tty"],
        detach_keys=keys,
    )
    vanishes = container["HostConfig"]["AutoRemove"]
    with Interaction(
        streams,
        forward=None if config["Tty"] else lambda signal: containers.kill(identity, signal),
        resize=lambda rows, columns: containers.resize(identity, rows, columns),
    ) as interaction:
        attaching = containers.attach(identity, stdin=streams.stdin, detach_keys=keys)
        waiting = containers.begin_wait(identity, "removed" if vanishes else "next-exit")
        interaction.join(*attaching.take_over())
        ending = waiting.response()
        try:
            containers.start(identity, **_checkpoint(options))
        except ClientError:
            if vanishes:
                ending.read()
            raise
        interaction.fit()
        interaction.run(ending)
        if interaction.detached:
            return 0
        interaction.await_end(ending)
        return exit_code(ending.json())


START = Command(
    "start [OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    run_start,
    flags=[
        switch("attach", "a", "Attach STDOUT/STDERR and forward signals"),
        string("checkpoint", "", "Restore from this checkpoint", hidden=True),
        string("checkpoint-dir", "", "Use a custom checkpoint storage directory", hidden=True),
        string("detach-keys", "", "Override the key sequence for detaching a container"),
        switch("interactive", "i", "Attach container's STDIN"),
    ],
    arguments=at_least(1),
    aliases="wherry container start, wherry start",
)
