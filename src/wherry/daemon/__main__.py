"""The program: what a person who starts it reads, and its exit codes."""

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Sequence

from wherry import __version__
from wherry.api.listen import Listener, ListenError, Tls, listen
from wherry.common import flags
from wherry.common.errors import EngineError
from wherry.common.flag_help import options_of
from wherry.common.settings import daemon_flags
from wherry.daemon.configuration import Configuration, ConfigurationError
from wherry.daemon.locks import Taken, locked, pidfile
from wherry.daemon.log_format import start_logging
from wherry.daemon.rootless import CannotBecomeRoot, begin_again
from wherry.storage import data_root

log = logging.getLogger("wherry.daemon")

_EXEC_ROOT_MODE = 0o711  # the socket in there may be a group's
_FLAG_ERROR = 125  # Docker's
_HELP = "Usage:  wherry daemon [OPTIONS]\n\nRun the engine in the foreground\n\nOptions:\n"


def main(words: Sequence[str] | None = None) -> int:
    known = daemon_flags()
    try:
        options = flags.parse(known, sys.argv[1:] if words is None else words)
    except flags.HelpRequested:
        print(_HELP + options_of(known))
        return 0
    except flags.FlagError as error:
        return _complain(f"{error} (see 'wherry daemon --help')", _FLAG_ERROR)
    if options.arguments:
        return _complain(f"no arguments are taken: {options.arguments[0]} (see 'wherry daemon --help')")
    if options["version"]:
        print(f"wherry daemon version {__version__}")
        return 0
    try:
        configuration = Configuration(options)
        if options["validate"]:
            print("configuration OK", file=sys.stderr)
            return 0
        if os.geteuid() != 0:
            begin_again(configuration["exec-root"], sys.argv[1:] if words is None else words)
        start_logging(configuration)
        _run(configuration, options["ready-fd"], options["lease-fd"])
        if options["scratch"]:
            shutil.rmtree(options["scratch"], ignore_errors=True)
    except (CannotBecomeRoot, ConfigurationError, Taken, ListenError, EngineError, OSError) as error:
        return _complain(error.message if isinstance(error, EngineError) else str(error))
    return 0


def _complain(text: str, code: int = 1) -> int:
    print(f"wherry daemon: {text}", file=sys.stderr)
    return code


def _run(configuration: Configuration, ready_fd: int, lease_fd: int) -> None:
    tls = Tls(
        configuration["tls"],
        configuration["tlsverify"],
        configuration["tlscacert"],
        configuration["tlscert"],
        configuration["tlskey"],
    )
    _use_proxies(configuration)
    os.umask(0o022)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(configuration["data-root"], data_root.MODE))
        stack.enter_context(locked(configuration["exec-root"], _EXEC_ROOT_MODE))
        if configuration["pidfile"]:
            stack.enter_context(pidfile(configuration["pidfile"]))
        listeners: list[Listener] = []
        for host in configuration["hosts"]:
            for listener in listen(host, tls, None if configuration.rootless else configuration["group"]):
                listeners.append(stack.enter_context(contextlib.closing(listener)))
        _warn(listeners, tls)
        import uvloop

        from wherry.daemon.serve import serve

        uvloop.run(serve(configuration, listeners, ready_fd, lease_fd))


def _use_proxies(configuration: Configuration) -> None:
    """For registries, and for git, which inherits them: the settings are stronger than the environment."""
    for key in ("http-proxy", "https-proxy", "no-proxy"):
        if configuration[key]:
            name = key.replace("-", "_")
            os.environ[name] = os.environ[name.upper()] = configuration[key]


def _warn(listeners: Sequence[Listener], tls: Tls) -> None:
    for listener in listeners:
        if not listener.is_local and listener.context is None:
            log.warning("%s has no TLS: whoever can reach it is root on this machine", listener.address)
        elif listener.context is not None and not tls.verify:
            log.warning("%s lets in whoever can reach it: give --tlsverify to ask for certificates", listener.address)


if __name__ == "__main__":
    sys.exit(main())
