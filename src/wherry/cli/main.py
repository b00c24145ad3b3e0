"""The wherry command: global options, then a command and what it takes."""

from __future__ import annotations

import os
import sys

from wherry.cli.commands import TOP, Entry, Group
from wherry.cli.session import CommandError, Session, complaint
from wherry.client.transport import ClientError
from wherry.common import flags
from wherry.common.errors import InvalidParameter
from wherry.common.flags import FlagError, HelpRequested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from wherry.cli.session import Session

PROGRAM = "wherry"
FLAG_ERROR = 125
INTERRUPTED = 130


def main() -> None:
    """The console script. Leaves without the interpreter's own end, which takes longer than many a command."""
    _open_missing_streams()
    # Names and output are bytes to the system; what is no UTF-8 in them passes through.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # both are TextIOWrappers
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _die_of_broken_pipe()
    except OSError as error:
        code = _cannot_write(error)
    os._exit(code)


def run(words: Sequence[str]) -> int:
    """Carries a command line out and gives its exit code."""
    try:
        return _dispatch(words) or 0
    except CommandError as error:
        if error.text:
            print(error.text, file=sys.stderr)
        return error.code
    except (ClientError, InvalidParameter) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _die_of_broken_pipe()
        return 1
    except OSError as error:
        return _cannot_write(error)


def _open_missing_streams() -> None:
    """Where a standard stream was closed (`wherry ps >&-`), a socket would get its number, and be written to."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115 - it stays open


def _cannot_write(error: OSError) -> int:
    """A full disk below standard output, say."""
    print(f"{error.filename or 'write'}: {error.strerror}", file=sys.stderr, flush=True)
    return 1


def _die_of_broken_pipe() -> None:
    """Ends as a program does whose reader has gone (`wherry logs c | head`): silently, by the signal."""
    from wherry.client.c_modules import signals

    signals.signal(signals.SIGPIPE, signals.SIG_DFL)
    os.kill(os.getpid(), signals.SIGPIPE)


def global_flags() -> list[flags.Flag]:
    """docker's, for every command, before its name."""
    config = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    keys = os.environ.get("DOCKER_CERT_PATH") or config
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    return [
        flags.string("config", "", "Location of client config files", config),
        flags.string(
            "context",
            "c",
            "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context "
            'set with "docker context use")',
        ),
        flags.switch("debug", "D", "Enable debug mode"),
        flags.strings("host", "H", "Daemon socket to connect to"),
        flags.string(
            "log-level", "l", 'Set the logging level ("debug", "info", "warn", "error", "fatal")', default="info"
        ),
        flags.switch("tls", "", "Use TLS; implied by --tlsverify", bool(os.environ.get("DOCKER_TLS"))),
        flags.string("tlscacert", "", "Trust certs signed only by this CA", os.path.join(keys, "ca.pem")),
        flags.string("tlscert", "", "Path to TLS certificate file", os.path.join(keys, "cert.pem")),
        flags.string("tlskey", "", "Path to TLS key file", os.path.join(keys, "key.pem")),
        flags.switch("tlsverify", "", "Use TLS and verify the remote", verify),
        flags.switch("version", "v", "Print version information and quit"),
    ]


def _dispatch(words: Sequence[str]) -> int | None:
    known = global_flags()
    try:
        options = flags.parse(known, words, interspersed=False)
    except HelpRequested:
        return _help([])
    except FlagError as error:
        raise _flag_error(error, PROGRAM, f"{PROGRAM} [OPTIONS] COMMAND [ARG...]") from None
    if options["version"]:
        from wherry import __version__

        print(f"{PROGRAM} version {__version__}")
        return 0
    if options["log-level"] not in ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"):
        raise CommandError(f"Unable to parse logging level: {options['log-level']}")
    rest = options.arguments
    if not rest:
        from wherry.cli import help

        sys.stderr.write(help.of_program(known))
        return 0
    if rest[0] == "help":
        return _help(rest[1:])
    session = Session(options, before=words[: len(words) - len(rest)])
    if rest[0] not in TOP:
        plugin = find_plugin(session, rest[0])
        if plugin:
            become_plugin(session, plugin, words)
    return _run_command(session, rest)


def _run_command(session: Session, words: Sequence[str]) -> int | None:
    path = f"{PROGRAM} {words[0]}"
    found, words = TOP.get(words[0]), words[1:]
    if isinstance(found, Group):
        found, path, words = _in_group(path, found, words)
        if found is None:
            return 0
    if found is None:
        raise CommandError(f"{PROGRAM}: unknown command: {path}\n\nRun '{PROGRAM} --help' for more information")
    session.path = path
    return _run_entry(session, found, words)


def _in_group(path: str, group: Group, words: Sequence[str]) -> tuple[Entry | None, str, Sequence[str]]:
    """The command that is meant, its path and its words; no command when help was, and has been given."""
    from wherry.cli import help

    if not words:
        sys.stderr.write(help.of_group(path, group))
        return None, path, words
    try:
        flags.parse([], words[:1])
    except HelpRequested:
        sys.stdout.write(help.of_group(path, group))
        return None, path, words
    except FlagError as error:
        raise _flag_error(error, path, path) from None
    found = group.find(words[0])
    if found is None:
        raise CommandError(
            f"{PROGRAM}: unknown command: {path} {words[0]}\n\n"
            f"Usage:  {path}\n\nRun '{path} --help' for more information"
        )
    return found, f"{path} {group.canonical(words[0])}", words[1:]


def _run_entry(session: Session, entry: Entry, words: Sequence[str]) -> int | None:
    command, path = entry.load(), session.path
    usage = command.usage(path, entry.usage)
    if command.passes_on:
        options = flags.Options(())
        options.arguments += words
        return command.run(session, options)
    try:
        options = flags.parse(command.flags, words, interspersed=command.interspersed)
    except HelpRequested:
        from wherry.cli import help

        sys.stdout.write(help.of_command(path, entry))
        return 0
    except FlagError as error:
        raise _flag_error(error, path, usage) from None
    least, most = command.arguments or entry.arguments
    wrong = complaint(len(options.arguments), least, most)
    if wrong:
        # docker says See where a number is missing, and Run everywhere else.
        verb = "See" if most is None else "Run"
        raise CommandError(
            f"{PROGRAM}: '{path}' {wrong}\n\nUsage:  {usage}\n\n{verb} '{path} --help' for more information"
        )
    return command.run(session, options)


def _flag_error(error: FlagError, path: str, usage: str) -> CommandError:
    return CommandError(f"{error}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information", FLAG_ERROR)


def _help(words: Sequence[str]) -> int:
    """`wherry help`, `wherry help container stop`, `wherry --help`."""
    from wherry.cli import help

    if not words:
        sys.stdout.write(help.of_program(global_flags()))
        return 0
    path = PROGRAM
    found: Entry | Group | None = None
    for at, word in enumerate(words):
        path += f" {found.canonical(word) if isinstance(found, Group) else word}"
        found = TOP.get(word) if at == 0 else found.find(word) if isinstance(found, Group) else None
        if found is None:
            raise CommandError(f"unknown help topic: {' '.join(words[at:])}")
    assert found is not None
    sys.stdout.write(help.of_group(path, found) if isinstance(found, Group) else help.of_command(path, found))
    return 0


# docker's CLI plugins, which wherry runs as docker does: `wherry compose up` is the program docker-compose.

DIRECTORIES = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
# By which a plugin knows that it is one, and what it was called by.
CALLED_BY = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"


def find_plugin(session: Session, name: str) -> str:
    """The program of a plugin: the user's own first, then the machine's. "" when there is none of that name."""
    if "/" in name:
        return ""
    more = session.config.get("cliPluginsExtraDirs")
    own = os.path.join(session.config_directory, "cli-plugins")
    for directory in (own, *(more if isinstance(more, list) else ()), *DIRECTORIES):
        path = os.path.join(str(directory), f"docker-{name}")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def become_plugin(session: Session, path: str, words: Sequence[str]) -> NoReturn:
    """Carries on as the plugin. It reads the global options in `words`, the environment and contexts by itself; of an
    engine that only wherry knows of it is told."""
    from wherry.cli.session import current_context

    if current_context(session) == "default" and not session.options["host"]:
        session.endpoint.start()
        os.environ["DOCKER_HOST"] = session.endpoint.address
    os.environ[CALLED_BY] = os.path.abspath(sys.argv[0])
    sys.stdout.flush()
    os.execv(path, [path, *words])


if __name__ == "__main__":
    main()
