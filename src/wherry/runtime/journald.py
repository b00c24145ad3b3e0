"""Log lines as entries of systemd's journal, by its native protocol: a datagram of fields an entry."""

import socket
import struct
from collections.abc import Callable

from wherry.runtime.spec import Journald

_ERROR, _INFORMATION = b"3", b"6"  # priorities, as syslog has them
_LENGTH = struct.Struct("<Q")


def composer(to: Journald) -> Callable[[int, bytes, bool], bytes]:
    """Makes an entry of a line, the stream it came from, and whether it goes on."""
    same = b"".join(_field(name.encode(), value.encode()) for name, value in to.fields.items())
    partial_mark = _field(b"CONTAINER_PARTIAL_MESSAGE", b"true")

    def compose(stream: int, line: bytes, partial: bool) -> bytes:
        priority = _field(b"PRIORITY", _ERROR if stream == 2 else _INFORMATION)
        return b"".join((_field(b"MESSAGE", line), priority, same, partial_mark if partial else b""))

    return compose


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, _LENGTH.pack(len(value)), value)
    return b"%s=%s\n" % (name, value)


def connect(to: Journald) -> socket.socket:
    """Raises OSError when there is no journal."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        link.setblocking(False)
        link.connect(to.address)
    except OSError:
        link.close()
        raise
    return link
