"""`run`, `start` and `attach`: a container's streams are the user's, until it ends."""

from __future__ import annotations

import sys

from wherry.cli.command import CommandError, Session, command
from wherry.cli.container_flags import COMMON
from wherry.cli.create import FAILED, configure, create_container, with_help
from wherry.cli.flags import Options, string, switch
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.interact import Streams

    Body = dict[str, Any]

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # exit codes of `run`
_MISSING = ("executable file not found", "no such file or directory", "system cannot find the file specified")
_DETACH_KEYS = string("detach-keys", "", "Override the key sequence for detaching a container")


@command(
    *COMMON,
    switch("detach", "d", "Run container in background and print container ID"),
    _DETACH_KEYS,
    string("pull", "", 'Pull image before running ("always", "missing", "never")', default="missing"),
    switch("sig-proxy", "", "Proxy received signals to the process", True),
    interspersed=False,
)
def run_run(session: Session, options: Options) -> int:
    body = configure(session, options, "run")
    if options["detach"]:
        if options["attach"]:
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
    else:
        from wherry.cli.interact import Streams

        streams = Streams(
            stdin=body["AttachStdin"],
            stdout=body["AttachStdout"],
            stderr=body["AttachStderr"],
            tty=body["Tty"],
            detach_keys=session.detach_keys(options["detach-keys"]),
        )
        streams.check_terminal()
    try:
        container = create_container(session, options, body)
    except ClientError as error:
        raise _failure(error) from None

    def start() -> None:
        try:
            session.client.containers.start(container)
        except ClientError as error:
            raise _failure(error) from None

    if not options["detach"]:
        return _attached(session, container, streams, start, vanishes=options["rm"], proxied=options["sig-proxy"])
    start()
    print(container)
    return 0


def _attached(
    session: Session, container: str, streams: Streams, start: Callable[[], None], *, vanishes: bool, proxied: bool
) -> int:
    """Starts a container with its streams joined to the user's, and gives its exit code, 0 for who detaches."""
    from wherry.cli.interact import Interaction

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
        interaction.run(ending)
        if interaction.detached:
            return 0
        interaction.await_end(ending)
        return exit_code(ending.json())


def exit_code(result: Body | None) -> int:
    """What the answer to a wait says; an end that the engine could not see is an error of this program's."""
    if not result:
        print("wherry: error waiting for container: unexpected EOF", file=sys.stderr)
        return FAILED
    error = result.get("Error")
    if error and error.get("Message"):
        print(f"wherry: Error waiting for container: {error['Message']}", file=sys.stderr)
        return FAILED
    return int(result["StatusCode"])


def _failure(error: ClientError) -> CommandError:
    """docker's exit code for a container that did not start, from the engine's words."""
    text = str(error)
    code = FAILED
    if any(words in text for words in _MISSING):
        code = NOT_FOUND
    elif "permission denied" in text or "is a directory" in text:
        code = NOT_EXECUTABLE
    return with_help(text, "run", code)


@command(
    switch("attach", "a", "Attach STDOUT/STDERR and forward signals"),
    string("checkpoint", "", "Restore from this checkpoint", hidden=True),
    string("checkpoint-dir", "", "Use a custom checkpoint storage directory", hidden=True),
    _DETACH_KEYS,
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
    return _attached(
        session,
        identity,
        _streams(session, options, container, stdin=options["interactive"]),
        lambda: session.client.containers.start(identity, **checkpoint),
        vanishes=container["HostConfig"]["AutoRemove"],
        proxied=not tty,
    )


def _streams(session: Session, options: Options, container: dict[str, Any], *, stdin: bool) -> Streams:
    """Those of a container that is there already."""
    from wherry.cli.interact import Streams

    config = container["Config"]
    keys = session.detach_keys(options["detach-keys"])
    stdin = stdin and config["OpenStdin"]
    return Streams(stdin=stdin, stdout=True, stderr=True, tty=config["Tty"], detach_keys=keys)


@command(
    _DETACH_KEYS,
    switch("no-stdin", "", "Do not attach STDIN"),
    switch("sig-proxy", "", "Proxy all received signals to the process", True),
)
def run_attach(session: Session, options: Options) -> int:
    from wherry.cli.interact import Interaction, Streams

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
