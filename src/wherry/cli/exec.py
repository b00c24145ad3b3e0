"""`wherry exec`."""

from __future__ import annotations

import os

from wherry.cli import terminal
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options, string, strings, switch, syntax

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@command(
    switch("detach", "d", "Detached mode: run command in the background"),
    string("detach-keys", "", "Override the key sequence for detaching a container"),
    strings("env", "e", "Set environment variables", syntax("process.environment")),
    strings("env-file", "", "Read in a file of environment variables"),
    switch("interactive", "i", "Keep STDIN open even if not attached"),
    switch("privileged", "", "Give extended privileges to the command"),
    switch("tty", "t", "Allocate a pseudo-TTY"),
    string("user", "u", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
    string("workdir", "w", "Working directory inside the container"),
    interspersed=False,
)
def run_exec(session: Session, options: Options) -> int:
    from wherry.cli.interact import Interaction, Streams

    container, *command = options.arguments
    client, detach, tty = session.client, options["detach"], options["tty"]
    streams = Streams(
        stdin=options["interactive"] and not detach,
        stdout=not detach,
        stderr=not detach,
        tty=tty,
        detach_keys=session.detach_keys(options["detach-keys"]),
    )
    if streams.stdin and tty and not terminal.is_terminal(terminal.STDIN):
        client.containers.inspect(container)  # that there is no such container is the better error
        streams.check_terminal()
    size = list(terminal.size()) if tty else None
    identity = client.execs.create(container, _config(options, streams, command, size))
    start = {"Detach": detach, "Tty": tty} | ({"ConsoleSize": size} if size else {})
    if detach:
        client.execs.start(identity, start)
        return 0
    with Interaction(
        streams, forward=None, resize=lambda rows, columns: client.execs.resize(identity, rows, columns)
    ) as interaction:
        interaction.join(*client.execs.attach(identity, start).take_over())
        interaction.fit()
        interaction.run()
        if interaction.detached:
            raise CommandError("read escape sequence")
    return int(client.execs.inspect(identity)["ExitCode"] or 0)


def _config(options: Options, streams: Any, command: list[str], size: list[int] | None) -> dict[str, Any]:
    from wherry.cli.syntax.process import read_files

    try:
        environment = read_files(options["env-file"], options["env"], os.environ.get)
    except ValueError as error:
        raise CommandError(str(error)) from None
    config: dict[str, Any] = {
        "User": options["user"],
        "Privileged": options["privileged"],
        "Tty": options["tty"],
        "AttachStdin": streams.stdin,
        "AttachStderr": streams.stderr,
        "AttachStdout": streams.stdout,
        "Detach": options["detach"],
        "DetachKeys": streams.detach_keys,
        "Env": environment or None,
        "WorkingDir": options["workdir"],
        "Cmd": command,
    }
    return config | ({"ConsoleSize": size} if size else {})
