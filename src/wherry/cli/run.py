"""`wherry run` and `wherry create`."""

from __future__ import annotations

import os
import sys

from wherry.cli.command import Command, CommandError, at_least, refuse_content_trust
from wherry.cli.container_config import build
from wherry.cli.container_flags import container_flags
from wherry.cli.flags import string, switch
from wherry.client.errors import APIError, ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.cli.reference import Reference

    Body = dict[str, Any]

PULL_POLICIES = ("always", "missing", "never")

# The exit codes of `run` when there was no container to have one.
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

_WINDOWS_ONLY = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")


def run_run(session: Session, options: Options) -> int:
    body = _configure(session, options, "run")
    if options["detach"]:
        if options["attach"]:
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
        return _run_detached(session, options, body)
    return _run_attached(session, options, body)


def _run_detached(session: Session, options: Options, body: Body) -> int:
    try:
        container = create_container(session, options, body)
        session.client.containers.start(container)
    except ClientError as error:
        raise _failure(error) from None
    print(container)
    return 0


def _run_attached(session: Session, options: Options, body: Body) -> int:
    from wherry.cli.interact import Interaction, Streams

    keys = session.detach_keys(options["detach-keys"])
    streams = Streams(
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        tty=body["Tty"],
        detach_keys=keys,
    )
    streams.check_terminal()
    try:
        container = create_container(session, options, body)
    except ClientError as error:
        raise _failure(error) from None
    containers = session.client.containers
    with Interaction(
        streams,
        forward=(lambda name: containers.kill(container, name)) if options["sig-proxy"] else None,
        resize=lambda rows, columns: containers.resize(container, rows, columns),
    ) as interaction:
        # Both are asked before either answer is read; both have answered before the container starts, so that
        # nothing it says is lost, nor its end, however quick it is.
        attaching = containers.attach(
            container, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr, detach_keys=keys
        )
        waiting = containers.begin_wait(container, "removed" if options["rm"] else "next-exit")
        interaction.join(*attaching.take_over())
        ending = waiting.response()
        try:
            containers.start(container)
        except ClientError as error:
            if options["rm"]:
                ending.read()  # until it is gone
            raise _failure(error) from None
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
    if any(
        words in text
        for words in ("executable file not found", "no such file or directory", "system cannot find the file specified")
    ):
        code = NOT_FOUND
    elif "permission denied" in text or "is a directory" in text:
        code = NOT_EXECUTABLE
    return _with_help(text, "run", code)


def _with_help(text: str, command: str, code: int = FAILED) -> CommandError:
    return CommandError(f"wherry: {text}\n\nRun 'wherry {command} --help' for more information", code)


def run_create(session: Session, options: Options) -> int:
    body = _configure(session, options, "create")
    print(create_container(session, options, body))
    return 0


def _configure(session: Session, options: Options, command: str) -> Body:
    """The request's body. Raises CommandError for flags that are wrong."""
    for name in _WINDOWS_ONLY:
        if options.changed(name):
            raise CommandError(
                f'"--{name}" is only supported on a Docker daemon running on windows, '
                "but the Docker daemon is running on linux"
            )
    refuse_content_trust(options)
    if options["kernel-memory"]:
        print("WARNING: --kernel-memory has no effect: kernels no longer have that limit", file=sys.stderr)
    image, *words = options.arguments
    try:
        if options["pull"] not in (*PULL_POLICIES, ""):
            raise ValueError(
                f'invalid pull option: \'{options["pull"]}\': must be one of "always", "missing" or "never"'
            )
        return build(options, image, words, _proxies(session))
    except ValueError as error:
        raise _with_help(str(error), command) from None


def _proxies(session: Session) -> dict[str, str]:
    """The proxies that docker's configuration names for all containers, as environment variables."""
    known = session.config.get("proxies")
    if not isinstance(known, dict):
        return {}
    chosen = known.get(session.endpoint.address) or known.get("default") or {}
    found = {}
    for field in ("httpProxy", "httpsProxy", "noProxy", "ftpProxy", "allProxy"):
        if chosen.get(field):
            name = field.removesuffix("Proxy") + "_proxy"
            found[name.upper()] = found[name] = str(chosen[field])
    return found


def create_container(session: Session, options: Options, body: Body) -> str:
    """Makes the container, after pulling its image where that is asked for or needed; gives its id.

    Raises ClientError.
    """
    from wherry.cli.reference import parse, tagged

    with _IdFile(options["cidfile"]) as id_file:
        try:
            reference = parse(body["Image"])
        except ValueError as error:
            raise CreateError(str(error)) from None
        reference = tagged(reference) if reference else None
        if options["use-api-socket"]:
            from wherry.cli.api_socket import mount_socket

            inject = mount_socket(session, body)
        else:
            inject = None
        if options["pull"] == "always" and reference:
            pull(session, options, reference)
        containers = session.client.containers
        try:
            made = containers.create(body, name=options["name"], platform=options["platform"])
        except APIError as error:
            if not error.not_found or reference is None or options["pull"] != "missing":
                raise
            if not options["quiet"]:
                print(f"Unable to find image '{reference.familiar}' locally", file=sys.stderr)
            pull(session, options, reference)
            made = containers.create(body, name=options["name"], platform=options["platform"])
        container = str(made["Id"])
        for warning in [*(made.get("Warnings") or ()), *_dns_warnings(body)]:
            print("WARNING:", warning, file=sys.stderr)
        id_file.write(container)
        if inject:
            inject(container)
        return container


def pull(session: Session, options: Options, reference: Reference) -> None:
    """Fetches an image and shows how far it is, on standard error. Raises ClientError."""
    from wherry.cli.auth import header
    from wherry.cli.progress import show

    messages = session.client.images.pull(
        reference.repository,
        reference.digest or reference.tag,
        platform=options["platform"],
        auth=header(session.config, reference.domain),
    )
    if options["quiet"]:
        with open(os.devnull, "w") as nowhere:
            show(messages, nowhere)
    else:
        show(messages, sys.stderr)


def _dns_warnings(body: Body) -> list[str]:
    return [
        f"Localhost DNS ({address}) may fail in containers."
        for address in body["HostConfig"]["Dns"]
        if address.startswith("127.") or address == "::1"
    ]


class CreateError(ClientError):
    """The container could not be made, for a reason on this side."""


class _IdFile:
    """--cidfile: made before the container, so that an id is never lost, and removed again when there is none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = False

    def __enter__(self) -> _IdFile:
        if self._path:
            try:
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            except FileExistsError:
                raise CreateError(
                    "container ID file found, make sure the other container isn't running or delete " + self._path
                ) from None
            except OSError as error:
                reason = f"open {self._path}: {(error.strerror or '').lower()}"
                raise CreateError(f"failed to create the container ID file: {reason}") from None
        return self

    def write(self, container: str) -> None:
        if self._path:
            with open(self._path, "w") as file:
                file.write(container)
            self._written = True

    def __exit__(self, *_: object) -> None:
        if self._path and not self._written:
            os.unlink(self._path)


_COMMON = container_flags()

RUN = Command(
    "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    run_run,
    flags=[
        *_COMMON,
        switch("detach", "d", "Run container in background and print container ID"),
        string("detach-keys", "", "Override the key sequence for detaching a container"),
        string("pull", "", 'Pull image before running ("always", "missing", "never")', default="missing"),
        switch("sig-proxy", "", "Proxy received signals to the process", True),
    ],
    arguments=at_least(1),
    aliases="wherry container run, wherry run",
    interspersed=False,
)

CREATE = Command(
    "create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    run_create,
    flags=[
        *_COMMON,
        string("pull", "", 'Pull image before creating ("always", "|missing", "never")', default="missing"),
    ],
    arguments=at_least(1),
    aliases="wherry container create, wherry create",
    interspersed=False,
)
