"""`start`, `attach` and `exec`: a container's streams are the user's, until it ends. `run` joins its own here, too."""

from __future__ import annotations

import os
import sys

from wherry.cli import terminal
from wherry.cli.commands import syntax
from wherry.cli.session import CommandError, Session, command
from wherry.client.transport import ClientError, ConnectionFailed, ConnectionLost
from wherry.common.flags import DETACH_KEYS, Options, string, strings, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.interactive import Streams

FAILED = 125  # the exit code when a container's own cannot be known
UNKNOWN = 255  # and when that of an exec cannot


def attached(
    session: Session, container: str, streams: Streams, start: Callable[[], None], *, vanishes: bool, proxied: bool
) -> int:
    """Starts a container with its streams joined to the user's, and gives its exit code, 0 for who detaches."""
    from wherry.cli.interactive import Interaction

    containers = session.client.containers
    with Interaction(
        streams,
        forward=(lambda name: containers.kill(container, name)) if proxied else None,
        resize=lambda rows, columns: containers.resize(container, rows, columns),
    ) as interaction:
        # Both are asked before either answer is read; both have answered before the container starts, so that
        # nothing it says is lost, nor its end, however quick it is.
        attaching = containers.attach(
            container,
            stdin=streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            detach_keys=streams.detach_keys,
        )
        waiting = containers.begin_wait(container, "removed" if vanishes else "next-exit")
        interaction.join(*attaching.take_over())
        ending = waiting.response()
        try:
            start()
        except (ClientError, CommandError):
            if vanishes:
                ending.read()  # until it is gone
            raise
        interaction.fit()
        try:
            interaction.run(ending)
            if interaction.detached:
                return 0
            interaction.await_end(ending)
            return exit_code(ending.json())
        except ConnectionLost:
            return exit_code(None)


def exit_code(result: dict[str, Any] | None) -> int:
    """What the answer to a wait says; an end that the engine could not see is an error of this program's."""
    if not result:
        print("wherry: error waiting for container: unexpected EOF", file=sys.stderr)
        return FAILED
    error = result.get("Error")
    if error and error.get("Message"):
        print(f"wherry: Error waiting for container: {error['Message']}", file=sys.stderr)
        return FAILED
    return int(result["StatusCode"])


@command(
    switch("attach", "a", "Attach STDOUT/STDERR and forward signals"),
    string("checkpoint", "", "Restore from this checkpoint", hidden=True),
    string("checkpoint-dir", "", "Use a custom checkpoint storage directory", hidden=True),
    DETACH_KEYS,
    switch("interactive", "i", "Attach container's STDIN"),
)
def run_start(session: Session, options: Options) -> int:
    names = options.arguments
    given = {name: options[name] for name in ("checkpoint", "checkpoint-dir") if options[name]}
    if options["attach"] or options["interactive"]:
        if len(names) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _start_attached(session, options, names[0], given)
    if options["checkpoint"]:
        if len(names) > 1:
            raise CommandError("you cannot restore multiple containers at once")
        session.client.containers.start(names[0], **given)
        return 0
    failed = []
    for name in names:
        try:
            session.client.containers.start(name)
        except ClientError as error:
            print(error, file=sys.stderr)
            failed.append(name)
        else:
            print(name, flush=True)
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(session: Session, options: Options, name: str, checkpoint: dict[str, str]) -> int:
    container = session.client.containers.inspect(name)
    identity, tty = str(container["Id"]), container["Config"]["Tty"]
    return attached(
        session,
        identity,
        _streams(session, options, container, stdin=options["interactive"]),
        lambda: session.client.containers.start(identity, **checkpoint),
        vanishes=container["HostConfig"]["AutoRemove"],
        proxied=not tty,
    )


def _streams(session: Session, options: Options, container: dict[str, Any], *, stdin: bool) -> Streams:
    """The streams of a container that is there already."""
    from wherry.cli.interactive import Streams

    config = container["Config"]
    keys = session.detach_keys(options["detach-keys"])
    stdin = stdin and config["OpenStdin"]
    return Streams(stdin=stdin, stdout=True, stderr=True, tty=config["Tty"], detach_keys=keys)


@command(
    DETACH_KEYS,
    switch("no-stdin", "", "Do not attach STDIN"),
    switch("sig-proxy", "", "Proxy all received signals to the process", True),
)
def run_attach(session: Session, options: Options) -> int:
    from wherry.cli.interactive import Interaction, Streams

    name = options.arguments[0]
    containers = session.client.containers
    waiting = containers.begin_wait(name)
    container = _running(containers.inspect(name))
    identity, tty = str(container["Id"]), container["Config"]["Tty"]
    streams = _streams(session, options, container, stdin=not options["no-stdin"])
    if not options["no-stdin"] and tty:
        Streams(stdin=True, stdout=True, stderr=True, tty=True).check_terminal()
    with Interaction(
        streams,
        forward=(lambda signal: containers.kill(identity, signal)) if options["sig-proxy"] and not tty else None,
        resize=lambda rows, columns: containers.resize(identity, rows, columns),
    ) as interaction:
        attaching = containers.attach(identity, stdin=streams.stdin, detach_keys=streams.detach_keys)
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
        result = ending.json() or {}
        error = result.get("Error")
        if error and error.get("Message"):
            raise CommandError(error["Message"])
        return int(result.get("StatusCode", 0))


def _running(container: dict[str, Any]) -> dict[str, Any]:
    state = container["State"]
    if not state["Running"]:
        raise CommandError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandError("You cannot attach to a restarting container, wait until it is running")
    return container


@command(
    switch("detach", "d", "Detached mode: run command in the background"),
    DETACH_KEYS,
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
    from wherry.cli.interactive import Interaction, Streams

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
    try:
        return int(client.execs.inspect(identity)["ExitCode"] or 0)
    except (ConnectionFailed, ConnectionLost) as error:  # the engine has ended, and the streams with it
        raise CommandError(str(error), UNKNOWN) from None


def _config(options: Options, streams: Any, command: list[str], size: list[int] | None) -> dict[str, Any]:
    from wherry.cli.options.process import read_files

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
