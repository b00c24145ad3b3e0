"""The engine as a process: `daemon`, which is another program, of the engine's side; and `system stop`."""

from __future__ import annotations

import os
import select
import sys

from wherry.cli.session import CommandError, Session, command
from wherry.client.c_modules import signals, sockets
from wherry.client.endpoint import Host
from wherry.client.transport import ConnectionFailed
from wherry.common.flags import Options
from wherry.common.settings import daemon_flags

_PEER = "iii"  # struct ucred: process, user, group


@command(*daemon_flags(), passes_on=True)
def run_daemon(session: Session, options: Options) -> None:
    from wherry.client.local import python

    sys.stdout.flush()
    os.execv(sys.executable, [*python(), "-m", "wherry.daemon", *session.before, *options.arguments])


def run_stop(session: Session, options: Options) -> None:
    """Asks the engine behind the socket to end, and waits until it has."""
    host = Host(session.endpoint.address)
    if host.scheme != "unix" or not hasattr(os, "pidfd_open"):
        raise CommandError(f"cannot stop the engine at {host.address}: this has to be done on its own machine")
    try:
        stream = host.connect()
    except ConnectionFailed:
        print(f"no engine is running at {host.address}")
        return
    live_restore = session.client.system.info().get("LiveRestoreEnabled")
    number, process = _open_process(stream.fileno(), host.address)
    try:
        signals.pidfd_send_signal(process, signals.SIGTERM)
        select.select([process], [], [])
    except PermissionError:
        raise CommandError(f"you may not end process {number}: run this with sudo") from None
    finally:
        os.close(process)
        stream.close()
    print(f"the engine has ended (process {number}); its containers {'run on' if live_restore else 'have ended, too'}")


def _open_process(connection: int, address: str) -> tuple[int, int]:
    """The number and a descriptor of the process that listens at the other end."""
    import struct

    sock = sockets.socket(fileno=os.dup(connection))
    credentials = sock.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, struct.calcsize(_PEER))
    sock.close()
    number = struct.unpack(_PEER, credentials)[0]
    if not number:
        raise CommandError(f"cannot stop the engine at {address}: it is in another process namespace")
    return number, os.pidfd_open(number)
