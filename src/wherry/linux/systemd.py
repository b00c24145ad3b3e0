"""What systemd and its services say to each other: sockets that it opened, and what state the service is in."""

import contextlib
import os
import socket

_FIRST = 3  # the descriptor of the first socket


def take_sockets() -> list[socket.socket]:
    """The sockets that this process was started with; the second call, and programs started from here, find none."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdigit():
        return []
    found = [socket.socket(fileno=number) for number in range(_FIRST, _FIRST + int(count))]
    for each in found:
        each.set_inheritable(False)
        each.setblocking(False)
    return found


class Notifier:
    """Tells systemd of a service of the type "notify", and nobody where there is none."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """Until ``ready`` is told again."""
        import time

        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(state.encode(), self._address)
