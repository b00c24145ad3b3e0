"""An engine on another machine, through ssh: `ssh … wherry system dial-stdio`, which connects its standard
input and output to the engine's socket there."""

from __future__ import annotations

import os

from wherry.client.c_modules import sockets
from wherry.client.transport import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.endpoint import Host, Stream

# As long as Docker waits for ssh to connect.
CONNECT_TIMEOUT = 30


def arguments(host: Host) -> list[str]:
    """The ssh command line that leads to `host`. Whatever came from the address stands behind a `--` or an
    option that takes it, so that an address like ssh://-oProxyCommand=… runs nothing (CVE-2017-1000117)."""
    words = ["ssh", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}", "-T"]
    if host.user:
        words += ["-l", host.user]
    if host.port:
        words += ["-p", str(host.port)]
    engine = ["wherry"]
    if host.path:
        engine += ["--host", "unix://" + host.path]
    return [*words, "--", host.name, *map(_quoted, engine), "system", "dial-stdio"]


def _quoted(word: str) -> str:
    """A word for the remote shell, which takes the command apart once more."""
    if word.replace("/", "").replace("-", "").replace(":", "").replace(".", "").replace("_", "").isalnum():
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def connect_ssh(host: Host) -> Stream:
    """A stream whose other end is the standard input and output of ssh.

    ssh is started without a shell and without a terminal: keys and agents work, a password cannot be typed.
    Raises ConnectionFailed when there is no ssh; one that fails later says why on standard error, and the stream ends.
    """
    ours, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_STREAM)
    number = theirs.fileno()
    actions = [(os.POSIX_SPAWN_DUP2, number, 0), (os.POSIX_SPAWN_DUP2, number, 1)]
    try:
        # A session of its own: Ctrl-C is for the container, and must not end the way to it.
        os.posix_spawnp("ssh", arguments(host), os.environ, file_actions=actions, setsid=True)
    except OSError as error:
        ours.close()
        raise ConnectionFailed(host.address, f"ssh: {error.strerror}") from error
    finally:
        theirs.close()
    return ours
