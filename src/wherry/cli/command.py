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


class Command:
    """What a command's function takes.

    `arguments`: the least and the most of them, where its usage does not say; None is any number.
    `also` is a second usage.
    """

    __slots__ = ("also", "arguments", "description", "flags", "interspersed", "run")

    def __init__(
        self,
        run: Run,
        flags: Sequence[Flag] = (),
        *,
        arguments: tuple[int, int | None] | None = None,
        interspersed: bool = True,
        description: str = "",
        also: str = "",
    ) -> None:
        self.run, self.flags, self.arguments = run, flags, arguments
        self.interspersed, self.description, self.also = interspersed, description, also

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

    def __init__(self, options: Options, path: str = "") -> None:
        """`path` is the command's name: "wherry image ls"."""
        self.options, self.path = options, path
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
