"""Where an engine is: addresses, and the byte streams that lead there.

An address is `unix:///path`, `tcp://host:port` (with TLS when a `TLS` is given) or `ssh://[user@]host[:port][/path]`.
A stream is anything that looks like a connected socket: `fileno`, `recv_into`, `send`, `sendall`, `shutdown`,
`setblocking` and `close`. TLS has one of its own (tls.py), as it must be closed in one direction.
"""

from __future__ import annotations

import os

from wherry.client.c_modules import sockets
from wherry.client.transport import ConnectionFailed, HostError, PermissionMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Stream(Protocol):
        """A connected byte stream, as far as HTTP and a taken-over connection need it."""

        def fileno(self) -> int: ...
        def recv_into(self, buffer: memoryview | bytearray, /) -> int: ...
        def send(self, data: bytes | memoryview, /) -> int: ...
        def sendall(self, data: bytes | memoryview, /) -> None: ...
        def shutdown(self, how: int, /) -> None: ...
        def setblocking(self, flag: bool, /) -> None: ...
        def close(self) -> object: ...


# Docker's ports: plain, and with TLS.
PLAIN_PORT, TLS_PORT = 2375, 2376


class TLS:
    """How to speak TLS: files in PEM, any of which may be empty; `verify` checks the engine's certificate."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str = "", cert: str = "", key: str = "", *, verify: bool = True) -> None:
        self.ca, self.cert, self.key, self.verify = ca, cert, key, verify


class Host:
    """An engine's address, taken apart. `connect()` opens a new stream to it."""

    def __init__(self, address: str, tls: TLS | None = None) -> None:
        """Raises HostError when the address has a scheme that is not known or a port that is no number."""
        scheme, separator, rest = address.partition("://")
        if not separator:
            scheme, rest = "tcp", address
        self.address = f"{scheme}://{rest}"
        self.tls = tls
        self.scheme = scheme
        self.path = ""
        self.user = ""
        self.name = ""
        self.port = 0
        if scheme == "unix":
            self.path = rest
        elif scheme in ("tcp", "http", "https", "ssh"):
            self._take_network(rest)
        else:
            raise HostError(f"unable to parse docker host `{address}`: use unix://, tcp:// or ssh://")

    def _take_network(self, rest: str) -> None:
        authority, slash, path = rest.partition("/")
        self.path = slash + path if path else ""
        user, at, place = authority.rpartition("@")
        self.user = user if at else ""
        if place.startswith("["):
            name, _, after = place[1:].partition("]")
            port = after.removeprefix(":")
        else:
            name, _, port = place.partition(":")
        if port and not (port.isdigit() and int(port) < 65536):
            raise HostError(f"unable to parse docker host `{self.address}`: invalid port {port!r}")
        self.name = name or "127.0.0.1"
        default = {"ssh": 0}.get(self.scheme, TLS_PORT if self.tls or self.scheme == "https" else PLAIN_PORT)
        self.port = int(port) if port else default
        if self.scheme == "ssh" and not name:
            raise HostError(f"unable to parse docker host `{self.address}`: no host name")

    @property
    def header(self) -> str:
        """What HTTP's Host header says."""
        return f"{self.name}:{self.port}" if self.scheme in ("tcp", "http", "https") else "wherry"

    def connect(self, *, wait: bool = True) -> Stream:
        """A new stream to the engine. Raises ConnectionFailed when nothing listens, PermissionMissing when this user
        may not open the socket, ConnectionLost when TLS fails; BlockingIOError for a unix socket that has no room for
        one more and is not to be waited for."""
        try:
            if self.scheme == "unix":
                return self._connect_unix(wait)
            if self.scheme == "ssh":
                from wherry.client.ssh import connect_ssh

                return connect_ssh(self)
            return self._connect_tcp()
        except BlockingIOError:
            raise
        except OSError as error:
            if not isinstance(error, PermissionError) or self.scheme != "unix":
                refused = isinstance(error, (ConnectionRefusedError, FileNotFoundError))
                raise ConnectionFailed(self.address, "" if refused else error.strerror or str(error)) from error
            from wherry.client.local import way_to_permission

            raise PermissionMissing(self.address, way_to_permission(self.path)) from error

    def _connect_unix(self, wait: bool) -> Stream:
        stream = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            stream.setblocking(wait)
            stream.connect(self.path)
        except BaseException:
            stream.close()
            raise
        return stream

    def _connect_tcp(self) -> Stream:
        failure: OSError = ConnectionRefusedError(111, os.strerror(111))
        for family, kind, protocol, _, place in sockets.getaddrinfo(self.name, self.port, 0, sockets.SOCK_STREAM):
            stream = sockets.socket(family, kind, protocol)
            try:
                stream.connect(place)
                stream.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            except OSError as error:
                stream.close()
                failure = error
                continue
            if self.tls is None and self.scheme != "https":
                return stream
            from wherry.client.tls import TLSStream

            return TLSStream(stream, self.name, self.tls or TLS())
        raise failure
