"""`run` and `create`: a container, with its image pulled where that is needed."""

from __future__ import annotations

import os
import sys

from wherry.cli.container_config import build
from wherry.cli.container_flags import COMMON
from wherry.cli.session import CommandError, Session, command, refuse_content_trust
from wherry.client.transport import APIError, ClientError
from wherry.common.flags import DETACH_KEYS, Options, string, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.common.reference import Reference

    Body = dict[str, Any]
    from collections.abc import Callable

# The exit codes of `run` when there was no container to have one.
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
_MISSING = ("executable file not found", "no such file or directory", "system cannot find the file specified")
PULL_POLICIES = ("always", "missing", "never")

_WINDOWS_ONLY = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")


@command(
    *COMMON,
    switch("detach", "d", "Run container in background and print container ID"),
    DETACH_KEYS,
    string("pull", "", 'Pull image before running ("always", "missing", "never")', default="missing"),
    switch("sig-proxy", "", "Proxy received signals to the process", True),
    interspersed=False,
)
def run_run(session: Session, options: Options) -> int:
    body = _configure(session, options, "run")
    if options["detach"]:
        if options["attach"]:
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
    else:
        from wherry.cli.interactive import Streams

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
        from wherry.cli.attach import attached

        return attached(session, container, streams, start, vanishes=options["rm"], proxied=options["sig-proxy"])
    start()
    print(container)
    return 0


def _failure(error: ClientError) -> CommandError:
    """docker's exit code for a container that did not start, from the engine's words."""
    text = str(error)
    code = FAILED
    if any(words in text for words in _MISSING):
        code = NOT_FOUND
    elif "permission denied" in text or "is a directory" in text:
        code = NOT_EXECUTABLE
    return _with_help(text, "run", code)


@command(
    *COMMON,
    string("pull", "", 'Pull image before creating ("always", "|missing", "never")', default="missing"),
    interspersed=False,
)
def run_create(session: Session, options: Options) -> None:
    print(create_container(session, options, _configure(session, options, "create")))


def _with_help(text: str, command: str, code: int = FAILED) -> CommandError:
    return CommandError(f"wherry: {text}\n\nRun 'wherry {command} --help' for more information", code)


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
        return build(options, image, words, session.proxies())
    except ValueError as error:
        raise _with_help(str(error), command) from None


def create_container(session: Session, options: Options, body: Body) -> str:
    """Makes the container, after pulling its image where that is asked for or needed; gives its id.

    Raises ClientError.
    """
    from wherry.common.reference import InvalidReference, is_image_id, parse

    with _IdFile(options["cidfile"]) as id_file:
        try:
            reference = None if is_image_id(body["Image"]) else parse(body["Image"]).with_default_tag()
        except InvalidReference as error:
            raise CreateError(error.message) from None
        if options["platform"]:
            from wherry.common import platforms
            from wherry.common.errors import InvalidParameter

            try:
                platforms.parse(options["platform"])
            except InvalidParameter as error:
                raise CreateError(f"error parsing specified platform: {error}") from None
        inject = mount_socket(session, body) if options["use-api-socket"] else None
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
    from wherry.cli.registry import show_progress

    messages = session.client.images.pull(
        reference.name,
        reference.digest or reference.tag,
        platform=options["platform"],
        auth=header(session.config, reference.domain),
    )
    show_progress(messages, None if options["quiet"] else sys.stderr)


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


# --use-api-socket: the engine's own socket in the container, and the credentials for registries beside it.

SOCKET = "/var/run/docker.sock"
CONFIG = "/run/secrets/docker/config.json"


class SocketError(ClientError):
    """The socket cannot be given to a container."""


def mount_socket(session: Session, body: dict[str, Any]) -> Callable[[str], None] | None:
    """Adds the mount to the body, and gives what has to be done once there is a container."""
    address = session.endpoint.address
    if not address.startswith("unix://"):
        raise SocketError(
            f"flag --use-api-socket can only be used with unix sockets: docker endpoint {address} incompatible"
        )
    mount = {"Type": "bind", "Source": address.removeprefix("unix://"), "Target": SOCKET, "BindOptions": {}}
    host = body["HostConfig"]
    host["Mounts"] = [*host.get("Mounts", ()), mount]
    auths = session.config.get("auths")
    environment: list[str] = body["Env"] or []
    if not auths or any(pair.startswith("DOCKER_CONFIG=") for pair in environment):
        return None
    body["Env"] = [*environment, f"DOCKER_CONFIG={os.path.dirname(CONFIG)}"]
    return lambda container: _put_config(session, container, auths)


def _put_config(session: Session, container: str, auths: Any) -> None:
    import io
    import tarfile

    from wherry.client.c_modules import dumps
    from wherry.client.client import container_path

    data = dumps({"auths": auths})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(CONFIG.lstrip("/"))
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
    whole = archive.getvalue()
    session.client.request(
        "PUT", container_path(container, "archive"), query={"path": "/"}, data=[whole], size=len(whole)
    ).read()
