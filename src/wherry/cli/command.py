"""What a command is, and what it is given to work with.

A module of this package declares its commands as constants, which the table in commands.py names:

    STOP = Command(
        "stop [OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        run_stop,
        flags=[flags.string("signal", "s", "Signal to send to the container")],
        arguments=at_least(1),
        aliases="wherry container stop, wherry stop",
    )

`run_stop(session, options)` does the work; it prints, returns an exit code (None is 0) and raises what
`wherry.client` raises, or a CommandError for an error of its own.
"""

from __future__ import annotations

import os
import sys

from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from wherry.cli.engine import Endpoint
    from wherry.cli.flags import Flag, Options
    from wherry.client.client import Client, Pending

    Run = Callable[["Session", Options], "int | None"]
    # Method, path and query of a request.
    Request = tuple[str, str, dict[str, Any]]


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


class Arguments:
    """How many arguments a command takes; `most` None is any number."""

    __slots__ = ("least", "most")

    def __init__(self, least: int, most: int | None) -> None:
        self.least, self.most = least, most

    def complaint(self, count: int) -> str:
        """What is wrong with that many, in docker's words; "" when nothing is."""
        if self.least <= count and (self.most is None or count <= self.most):
            return ""
        if self.most == 0:
            return "accepts no arguments"
        plural = "argument" if (self.most or self.least) == 1 else "arguments"
        if self.most is None:
            return f"requires at least {self.least} {plural}"
        if self.most == self.least:
            return f"requires {self.least} {plural}"
        if self.least == 0:
            return f"requires at most {self.most} {plural}"
        return f"requires at least {self.least} and at most {self.most} {plural}"


def exactly(count: int) -> Arguments:
    return Arguments(count, count)


def at_least(count: int) -> Arguments:
    return Arguments(count, None)


def between(least: int, most: int) -> Arguments:
    return Arguments(least, most)


NONE = Arguments(0, 0)
ANY = Arguments(0, None)


class Command:
    """`usage` is what follows the program's or the group's name; `aliases` all of its names, as help shows them."""

    __slots__ = ("aliases", "arguments", "description", "flags", "interspersed", "run", "short", "usage")

    def __init__(
        self,
        usage: str,
        short: str,
        run: Run,
        *,
        flags: Sequence[Flag] = (),
        arguments: Arguments = NONE,
        aliases: str = "",
        interspersed: bool = True,
        description: str = "",
    ) -> None:
        self.usage, self.short, self.run = usage, short, run
        self.flags, self.arguments, self.aliases = flags, arguments, aliases
        self.interspersed, self.description = interspersed, description


class Session:
    """One call of wherry: its global options, the configuration, and the engine, connected to when first used."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._config: dict[str, Any] | None = None
        self._client: Client | None = None
        self._endpoint: Endpoint | None = None

    @property
    def config_directory(self) -> str:
        """--config, DOCKER_CONFIG or ~/.docker."""
        chosen: str = self.options["config"]
        return chosen

    @property
    def config(self) -> dict[str, Any]:
        """docker's config.json, empty where there is none. A broken one is told of and left alone."""
        if self._config is None:
            from wherry.client.lean import loads

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
            from wherry.cli.engine import find

            self._endpoint = find(self)
        return self._endpoint

    @property
    def client(self) -> Client:
        """The engine. One on the default socket is started if there is none, when the first request is made."""
        if self._client is None:
            from wherry.client.client import Client

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

    def detach_keys(self, chosen: str) -> str:
        """The keys that detach: --detach-keys, or the configuration's; "" is the engine's ctrl-p,ctrl-q."""
        return chosen or str(self.config.get("detachKeys", ""))


# So many requests of one command are under way at once.
AT_ONCE = 50


def for_each(names: Sequence[str], do: Callable[[str], object]) -> None:
    """Does something to each of the names, and prints those it worked for; the errors are told at the end, in order.

    Raises CommandError when any failed.
    """
    errors = []
    for name in names:
        try:
            do(name)
        except ClientError as error:
            errors.append(str(error))
        else:
            print(name, flush=True)
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
