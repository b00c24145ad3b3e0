"""What a command is, and what it is given to work with.

commands.py has the table of all commands; a function of a module does the work, below the flags that it takes:

    @command(
        flags.string("signal", "s", "Signal to send to the container"),
    )
    def run_stop(session: Session, options: Options) -> None:

It prints, returns an exit code (None is 0) and raises what `wherry.client` raises, or a CommandError for an error of
its own. One without flags needs no decorator.
"""

from __future__ import annotations

import os
import stat
import sys

from wherry.client.endpoint import TLS
from wherry.client.local import default_socket, named_by_environment
from wherry.client.transport import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from wherry.client.blocking import Client, Pending
    from wherry.common.flags import Flag, Options

    Run = Callable[["Session", Options], "int | None"]
    Request = tuple[str, str, dict[str, Any]]
    from collections.abc import Callable

    from wherry.common.flags import Options


class CommandError(Exception):
    """A command failed. `text` goes to standard error as it is (none when empty); `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text, self.code = text, code


def refuse_content_trust(options: Options) -> None:
    """Raises CommandError for somebody who relies on docker's signatures of images."""
    if not options["disable-content-trust"]:
        raise CommandError(
            "content trust is not supported: wherry cannot check or make the signatures of images "
            "(--disable-content-trust does without them)"
        )


class Command:
    """What a command's function takes.

    `arguments`: the least and the most of them, where its usage does not say; None is any number.
    `also` is a second usage. `passes_on`: its words are for another program to read.
    """

    __slots__ = ("also", "arguments", "description", "flags", "interspersed", "passes_on", "run")

    def __init__(
        self,
        run: Run,
        flags: Sequence[Flag] = (),
        *,
        arguments: tuple[int, int | None] | None = None,
        interspersed: bool = True,
        description: str = "",
        also: str = "",
        passes_on: bool = False,
    ) -> None:
        self.run, self.flags, self.arguments = run, flags, arguments
        self.interspersed, self.description, self.also = interspersed, description, also
        self.passes_on = passes_on

    def usage(self, path: str, arguments: str) -> str:
        """How it is called, and the other way on a line of its own."""
        return f"{path} {arguments}".rstrip() + (f"\n\t{self.also}" if self.also else "")


def command(*flags: Flag, **more: Any) -> Callable[[Run], Command]:
    """Declares what the command line of a function may hold; `more` as for Command."""
    return lambda run: Command(run, flags, **more)


def complaint(count: int, least: int, most: int | None) -> str:
    """What is wrong with that many arguments, in docker's words; "" when nothing is."""
    if least <= count and (most is None or count <= most):
        return ""
    if most == 0:
        return "accepts no arguments"
    plural = "argument" if (most or least) == 1 else "arguments"
    if most is None:
        return f"requires at least {least} {plural}"
    if most == least:
        return f"requires {least} {plural}"
    if least == 0:
        return f"requires at most {most} {plural}"
    return f"requires at least {least} and at most {most} {plural}"


class Session:
    """One call of wherry: its global options, the configuration, and the engine, connected to when first used."""

    def __init__(self, options: Options, path: str = "", before: Sequence[str] = ()) -> None:
        """`path` is the command's name: "wherry image ls"; `before` are the words before it: the global options."""
        self.options, self.path, self.before = options, path, before
        self._config: dict[str, Any] | None = None
        self._client: Client | None = None
        self._endpoint: Endpoint | None = None

    @property
    def config_directory(self) -> str:
        """--config, DOCKER_CONFIG or ~/.docker."""
        return str(self.options["config"])

    @property
    def config(self) -> dict[str, Any]:
        """docker's config.json, empty where there is none. A broken one is told of and left alone."""
        if self._config is None:
            from wherry.client.c_modules import loads

            path = os.path.join(self.config_directory, "config.json")
            self._config = {}
            try:
                with open(path, "rb") as file:
                    found = loads(file.read())
                if isinstance(found, dict):
                    self._config = found
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                print(f"WARNING: Error loading config file: {path}: {error}", file=sys.stderr)
        return self._config

    @property
    def endpoint(self) -> Endpoint:
        """Which engine this call is for."""
        if self._endpoint is None:
            self._endpoint = find(self)
        return self._endpoint

    @property
    def client(self) -> Client:
        """The engine. One on the default socket is started if there is none, when the first request is made."""
        if self._client is None:
            from wherry.client.blocking import Client

            endpoint = self.endpoint
            headers = self.config.get("HttpHeaders")
            self._client = Client(
                endpoint.address,
                tls=endpoint.tls,
                version=os.environ.get("DOCKER_API_VERSION", "").removeprefix("v"),
                headers={str(key): str(value) for key, value in headers.items()} if isinstance(headers, dict) else None,
                unreachable=endpoint.start,
            )
        return self._client

    @property
    def debug(self) -> bool:
        return bool(self.options["debug"]) or self.options["log-level"] == "debug"

    def proxies(self) -> dict[str, str]:
        """The proxies that docker's configuration names for this engine or for all, as environment variables."""
        known = self.config.get("proxies")
        if not isinstance(known, dict):
            return {}
        chosen = known.get(self.endpoint.address) or known.get("default") or {}
        found = {}
        for field in ("httpProxy", "httpsProxy", "noProxy", "ftpProxy", "allProxy"):
            if chosen.get(field):
                name = field.removesuffix("Proxy") + "_proxy"
                found[name.upper()] = found[name] = str(chosen[field])
        return found

    def detach_keys(self, chosen: str) -> str:
        """The keys that detach: --detach-keys, or the configuration's; "" is the engine's ctrl-p,ctrl-q."""
        return chosen or str(self.config.get("detachKeys", ""))


# So many requests of one command are under way at once.
AT_ONCE = 50


def for_each(names: Sequence[str], do: Callable[[str], object]) -> None:
    """Does something to each of the names, and prints those it worked for, or the text that it gave; errors come last.

    Raises CommandError when any failed.
    """
    errors = []
    for name in names:
        try:
            done = do(name)
        except (ClientError, CommandError) as error:
            errors.append(str(error))
        else:
            print(done if isinstance(done, str) else name, flush=True)
    if errors:
        raise CommandError("\n".join(errors))


def for_all(
    session: Session,
    names: Sequence[str],
    request: Callable[[str], Request],
    forgive: Callable[[ClientError], bool] = lambda _: False,
) -> None:
    """Like `for_each`, with a request for each of the names and all of them sent before an answer is read.

    `forgive` says of an error whether it is none.
    """
    errors = []
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        sent = [_begin(session, request, name) for name in batch]
        for name, outcome in zip(batch, sent, strict=True):
            try:
                if isinstance(outcome, ClientError):
                    raise outcome
                outcome.response().read()
            except ClientError as error:
                if not forgive(error):
                    errors.append(str(error))
            else:
                print(name, flush=True)
    if errors:
        raise CommandError("\n".join(errors))


def _begin(session: Session, request: Callable[[str], Request], name: str) -> Pending | ClientError:
    try:
        method, path, query = request(name)
        return session.client.begin(method, path, query=query)
    except ClientError as error:
        return error


# Which engine a command is for, and starting one where there is none.
#
# In this order: --context or --host; WHERRY_HOST; DOCKER_HOST; DOCKER_CONTEXT; the current context of docker's
# configuration; the default socket. Only for the default socket an engine is started: whoever names another one
# wants that one, or an error.


class Endpoint:
    """An engine's address and how to speak TLS with it. `own`: the default socket, where one may be started."""

    def __init__(self, address: str, tls: TLS | None = None, *, own: bool = False) -> None:
        self.address, self.tls, self.own = address, tls, own

    def start(self) -> bool:
        """Starts an engine, if it may, and says whether it is worth to try again."""
        if not self.own or sys.platform != "linux":
            return False
        from wherry.client.local import start_engine

        start_engine(self.address.removeprefix("unix://"))
        return True


def find(session: Session) -> Endpoint:
    """Raises CommandError for a context that there is not, or two answers at once."""
    options = session.options
    hosts: list[str] = options["host"]
    context: str = options["context"]
    if context and hosts:
        raise CommandError("conflicting options: cannot specify both --host and --context")
    if len(hosts) > 1:
        raise CommandError("Specify only one -H")
    host = hosts[0] if hosts else named_by_environment()
    if host and not context:
        return Endpoint(host, _tls(options), own=host == default_socket())
    context = current_context(session)
    return Endpoint(default_socket(), own=True) if context == "default" else _from_context(session, context)


def current_context(session: Session) -> str:
    """The context that the command is for; "default" wherever an address is given instead."""
    if session.options["context"]:
        return str(session.options["context"])
    if session.options["host"] or named_by_environment():
        return "default"
    return os.environ.get("DOCKER_CONTEXT") or str(session.config.get("currentContext") or "default")


def _tls(options: Options) -> TLS | None:
    if not (options["tls"] or options["tlsverify"] or options.changed("tlsverify")):
        return None
    paths = {}
    for name in ("tlscacert", "tlscert", "tlskey"):
        path: str = options[name]
        # A default file that is not there is not meant.
        paths[name] = path if options.changed(name) or os.path.exists(path) else ""
    return TLS(paths["tlscacert"], paths["tlscert"], paths["tlskey"], verify=options["tlsverify"])


def _from_context(session: Session, name: str) -> Endpoint:
    from wherry.cli.context_store import ROOTLESS, Store
    from wherry.client.local import own_socket

    store = Store(session.config_directory)
    if name == ROOTLESS and os.geteuid() != 0 and name not in store:
        return Endpoint(own_socket(), own=True)
    try:
        context = store.get(name)
    except CommandError as error:
        raise CommandError(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None
    return Endpoint(context.host or default_socket(), context.security())


# docker's config.json, changed: what is not meant stays as it is, and others may read it meanwhile.


def change_config(directory: str, alter: Callable[[dict[str, Any]], None]) -> str:
    """Alters the configuration and gives the file's path. Raises OSError; a broken file is left alone.

    What is there is read anew: it may have changed. Where the file is a link, what it leads to is written.
    """
    import json

    path = os.path.realpath(os.path.join(directory, "config.json"))
    try:
        with open(path, "rb") as file:
            config = json.load(file)
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise OSError(f"{path} is no valid JSON, and is left alone: {error}") from None
    alter(config)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_config(path, json.dumps(config, indent="\t").encode())
    return path


def write_config(path: str, content: bytes, mode: int = 0o600) -> None:
    """The whole file or none of it."""
    beside = f"{path}.{os.getpid()}"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


# A file that a command writes: there whole when the command has worked, or not at all.

# What rename would replace, or what a rename onto it would not reach.
REFUSED = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link directly"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device file"),
    (stat.S_ISBLK, "a block device file"),
)


class OutputFile:
    """A context that gives a descriptor; leaving it without an error puts the file in its place, mode 0600.

    Raises ValueError, in docker's words, for a path that no file can be put at.
    """

    def __init__(self, path: str) -> None:
        _check(path)
        self.path = path
        directory, name = os.path.split(os.path.abspath(path))
        self._beside = os.path.join(directory, f".tmp-{name}{os.getpid()}")
        try:
            self.descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ValueError(f"open {self._beside}: {reason(error)}") from None

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                os.fsync(self.descriptor)
                os.rename(self._beside, self.path)
        finally:
            os.close(self.descriptor)
            if os.path.lexists(self._beside):
                os.unlink(self._beside)


def _check(path: str) -> None:
    directory = os.path.dirname(path)
    if directory:
        try:
            mode = os.stat(directory).st_mode
        except OSError as error:
            raise ValueError(f"invalid output path: stat {directory}: {reason(error)}") from None
        if not stat.S_ISDIR(mode):
            raise ValueError(f"invalid output path: stat {directory}: not a directory")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"failed to stat output path: lstat {path}: {reason(error)}") from None
    is_kind: Callable[[int], bool]
    for is_kind, name in REFUSED:
        if is_kind(mode):
            raise ValueError(f"cannot write to {name}")


def reason(error: OSError) -> str:
    """The system's text for an error, as Go writes it."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
