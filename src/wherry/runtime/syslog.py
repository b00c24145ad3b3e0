"""Log lines as syslog messages, in Docker's three formats: to the machine's own syslog, or to one in the network."""

import os
import socket
import time
from collections.abc import Callable

from wherry.runtime.outlet import Connection
from wherry.runtime.spec import Syslog

_ERROR, _INFORMATION = 3, 6  # severities
_CONNECT_SECONDS = 5.0  # at the start of a container; later nobody waits for it
_HANDSHAKE_SECONDS = 2.0
_UNTAKEN_AT_MOST = 10_000  # milliseconds; then the connection counts as broken

Compose = Callable[[int, bytes, bool], bytes]


def composer(to: Syslog) -> Compose:
    """Makes a message of a line, the stream it came from, and whether it goes on. An empty line is no message."""
    host, pid = os.uname().nodename, os.getpid()
    secure = to.protocol == "tcp+tls"
    head = {
        "": f"{to.tag}[{pid}]: ",
        "rfc3164": f"{host} {to.tag}[{pid}]: ",
    }.get(to.format, f"{host} {to.tag} {pid} {to.tag} - ").encode()

    def compose(stream: int, line: bytes, partial: bool) -> bytes:
        if not line:
            return b""
        priority = to.facility | (_ERROR if stream == 2 else _INFORMATION)
        message = b"<%d>%s %s%s\n" % (priority, _now(to.format), head, line)
        return b"%d %s" % (len(message), message) if secure and to.format.startswith("rfc5424") else message

    return compose


def _now(form: str) -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    local = time.localtime(seconds)
    if not form.startswith("rfc5424"):
        return time.strftime("%b %e %H:%M:%S", local).encode()
    fraction = f".{nanoseconds // 1000:06}" if form == "rfc5424micro" else ""
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"1 {time.strftime('%Y-%m-%dT%H:%M:%S', local)}{fraction}{zone}".encode()


class Dialer:
    """Connects, and again. A host's name is looked up once, when the container starts: that may take its time."""

    def __init__(self, to: Syslog) -> None:
        """Raises OSError for a name that is not known, and for certificates that cannot be read."""
        self._to = to
        self._kind = socket.SOCK_DGRAM if to.protocol in ("unixgram", "udp") else socket.SOCK_STREAM
        if to.protocol in ("unix", "unixgram"):
            self._addresses: list[tuple[int, str | tuple[object, ...]]] = [(socket.AF_UNIX, to.address)]
        else:
            found = socket.getaddrinfo(to.address, to.port, type=self._kind)
            self._addresses = [(family, address) for family, _, _, _, address in found]
        self._context = _tls_context(to) if to.protocol == "tcp+tls" else None

    def first(self) -> Connection:
        """Waits for it. Raises OSError when there is nobody, or nobody to be trusted."""
        return self.established(self._reach_any())

    def connect(self) -> socket.socket:
        """A socket on its way, or there."""
        self._addresses = [*self._addresses[1:], self._addresses[0]]  # perhaps it is the next that answers
        family, address = self._addresses[0]
        link = self._socket(family)
        try:
            link.setblocking(False)
            link.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            link.close()
            raise
        return link

    def established(self, link: socket.socket) -> Connection:
        return link if self._context is None else _Tls(self._context, link, self._to.address)

    def _reach_any(self) -> socket.socket:
        failure: OSError | None = None
        for family, address in self._addresses:
            link = self._socket(family)
            try:
                link.settimeout(_CONNECT_SECONDS)
                link.connect(address)
                link.setblocking(False)
            except OSError as error:
                failure = error
                link.close()
            else:
                return link
        raise failure or OSError(f"{self._to.address} has no address")

    def _socket(self, family: int) -> socket.socket:
        link = socket.socket(family, self._kind | socket.SOCK_CLOEXEC)
        if self._kind == socket.SOCK_STREAM and family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_AT_MOST)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return link


class _Tls:
    """TLS over a connection, once both sides have agreed. ssl is loaded by those alone who need it."""

    def __init__(self, context: object, link: socket.socket, host: str) -> None:
        import ssl

        assert isinstance(context, ssl.SSLContext)
        self._again = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        link.settimeout(_HANDSHAKE_SECONDS)
        self._socket = context.wrap_socket(link, server_hostname=host)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: memoryview, /) -> int:
        try:
            return self._socket.send(data)
        except self._again:
            raise BlockingIOError from None

    def recv(self, size: int, /) -> bytes:
        try:
            return self._socket.recv(size)
        except self._again:
            raise BlockingIOError from None

    def close(self) -> None:
        self._socket.close()


def _tls_context(to: Syslog) -> object:
    import ssl

    context = ssl.create_default_context(cafile=to.ca_cert or None)
    if to.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if to.cert:
        context.load_cert_chain(to.cert, to.key or None)
    return context
