"""Where the API listens: unix sockets for who may open them, TCP for who holds a certificate."""

import asyncio
import contextlib
import errno
import grp
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from wherry.api.connection import Caller, Connection
from wherry.api.hijack import NearEnd, Side
from wherry.linux import systemd

if TYPE_CHECKING:
    import ssl

BACKLOG = 4096  # what Linux allows (net.core.somaxconn): clients wait while the engine is busy
_DEFAULT_GROUP = "docker"
_PORTS = {True: 2376, False: 2375}  # Docker's, with TLS and without


class ListenError(Exception):
    """An address that cannot be listened on; the text says why and what to do."""


class Tls(NamedTuple):
    """``enabled`` is None when nothing was said of it; with ``verify`` a client must show a certificate of ``ca``."""

    enabled: bool | None = None
    verify: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Listener(NamedTuple):
    """``path`` is that of a unix socket, to be removed when nobody listens any more; "" for one of somebody else's."""

    address: str
    sock: socket.socket
    context: "ssl.SSLContext | None" = None
    path: str = ""

    @property
    def is_local(self) -> bool:
        return self.sock.family == socket.AF_UNIX

    def close(self) -> None:
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
        self.sock.close()


def listen(address: str, tls: Tls, group: str = "") -> list[Listener]:
    """Listens on "unix:///path" or "tcp://host:port"; "fd://" are the sockets that systemd has opened. Raises
    ListenError."""
    scheme, separator, rest = address.partition("://")
    if scheme == "unix" and rest:
        return [Listener(address, _listen_unix(rest, group), path=rest)]
    if scheme == "tcp":
        return [_listen_tcp(address, rest, tls)]
    if scheme == "fd" and separator:
        return _take_over(address, rest, tls)
    raise ListenError(f"cannot listen on {address!r}: it is neither unix://PATH nor tcp://HOST:PORT")


def _take_over(address: str, rest: str, tls: Tls) -> list[Listener]:
    """All the sockets from systemd, which are its to remove."""
    if rest not in ("", "*"):
        raise ListenError(f"cannot listen on {address}: give fd://, which takes all the sockets of the unit")
    sockets = systemd.take_sockets()
    if not sockets:
        raise ListenError(f"cannot listen on {address}: no sockets were passed; start this by a socket unit of systemd")
    found = []
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            _check_secured(f"{address} (TCP)", tls)
        is_secured = sock.family != socket.AF_UNIX and _is_secured(tls)
        found.append(Listener(address, sock, _context(tls) if is_secured else None))
    return found


def _listen_unix(path: str, group: str) -> socket.socket:
    """The socket is made unreadable for others from its first moment on (0660), then given to the group."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o711, exist_ok=True)
    _remove_stale(path)
    group_id = _group_id(group)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        sock.bind(path)
        os.chown(path, -1, group_id)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on unix://{path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Removes the socket of an engine that is gone. Raises ListenError when one still answers, or it is no socket."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ListenError(f"cannot listen on unix://{path}: there is something that is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        found = probe.connect_ex(path)
    if found in (0, errno.EAGAIN):
        raise ListenError(f"cannot listen on unix://{path}: another engine is listening there")
    os.unlink(path)


def _group_id(name: str) -> int:
    """The group that may use the socket; -1 leaves it to root when nobody named one and there is no group "docker"."""
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name or _DEFAULT_GROUP).gr_gid
    except KeyError:
        if name:
            raise ListenError(f"there is no group {name!r} to give the socket to; make it with groupadd") from None
        return -1


def _check_secured(address: str, tls: Tls) -> None:
    if tls.enabled is None and not tls.verify:
        raise ListenError(
            f"{address} without TLS would give root on this machine to everybody who can reach it: "
            "give --tlsverify with --tlscacert, --tlscert and --tlskey, or say --tls=false if that is what you want"
        )


def _is_secured(tls: Tls) -> bool:
    return bool(tls.enabled) or tls.verify


def _listen_tcp(address: str, rest: str, tls: Tls) -> Listener:
    _check_secured(address, tls)
    secured = _is_secured(tls)
    host, port = _split(address, rest, secured)
    context = _context(tls) if secured else None
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.create_server(where, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from None
    sock.setblocking(False)
    return Listener(address, sock, context)


def _split(address: str, rest: str, secured: bool) -> tuple[str, int]:
    host, _, port = rest.rpartition(":") if not rest.endswith("]") and ":" in rest else (rest, "", "")
    if port and not (port.isdigit() and int(port) < 65536):
        raise ListenError(f"cannot listen on {address}: {port!r} is not a port")
    return host.strip("[]") or ("" if rest.startswith(":") else "127.0.0.1"), int(port or _PORTS[secured])


def _context(tls: Tls) -> "ssl.SSLContext":
    import ssl

    from wherry.common.tls import server_context

    try:
        return server_context(tls.certificate, tls.key, clients=tls.ca if tls.verify else None)
    except ssl.SSLError as error:
        files = ", ".join((tls.certificate, tls.key, *([tls.ca] if tls.verify else [])))
        raise ListenError(f"cannot use the TLS files {files}: {error.reason or error}") from None
    except OSError as error:
        raise ListenError(f"cannot open the TLS file {error.filename}: {error.strerror}") from None


# TLS with half-closed connections, which asyncio's own does not have and Docker's client needs.
#
# The docker CLI says "no more input" by ending its half of the TLS session, at once when there is no ``-i``, and goes
# on reading. asyncio takes that for the end of the whole connection, and the output of every ``docker run`` would be
# lost. So each connection is decrypted here, and handed on to the server through a socket pair::
#
#     client ⇄ TLS over TCP ⇄ TlsRelay ⇄ socket pair ⇄ the server's protocol

log = logging.getLogger("wherry.api")

_HANDSHAKE = 30.0  # seconds that a client gets for it
_PIECE = 1 << 18  # bytes decrypted at a time


class TlsRelay(Side):
    """The outer side: what comes from the client and goes to it. ``serve`` makes the protocol of a plain connection."""

    half_open = True

    def __init__(self, context: ssl.SSLContext, serve: Callable[[], Connection]) -> None:
        super().__init__()
        self._serve = serve
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._inner: NearEnd | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._established = False
        self._ended = False  # the client has ended its half
        self._finished = False  # we have ended ours

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(_HANDSHAKE, cast(asyncio.Transport, transport).abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._established:
                self._shake_hands()
            if self._inner is not None:
                self._decrypt(self._inner)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            log.info("TLS: %s", error.reason or error)
            self._flush()  # the alert that tells the client why
            self.close()

    def _shake_hands(self) -> None:
        self._session.do_handshake()
        self._flush()
        self._established = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        """Gives the server its end of a socket pair, and begins to relay."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        inner = NearEnd(self)
        await loop.create_unix_connection(lambda: inner, sock=ours)
        _, connection = await loop.create_unix_connection(self._serve, sock=theirs)
        connection.caller = self._caller()
        if self._transport is None:
            inner.abort()
            return
        self._inner = inner
        self._transport.resume_reading()
        self.data_received(b"")

    def _caller(self) -> Caller | None:
        certificate = self._session.getpeercert(binary_form=True)
        if not certificate:
            return None
        subject: Any = (self._session.getpeercert() or {}).get("subject", ())
        names = {name: value for part in subject for name, value in part}
        return Caller(names.get("commonName", ""), ssl.DER_cert_to_PEM_cert(certificate).encode())

    def _decrypt(self, inner: NearEnd) -> None:
        """Ends with SSLWantReadError when all is read, and with b"" when the client has ended its half."""
        while not self._ended:
            data = self._session.read(_PIECE)
            if data:
                inner.write(data)
            else:
                self._ended = True
                inner.end()
        self._flush()

    def send(self, data: bytes) -> None:
        if self._transport is None or self._finished:
            return
        self._session.write(data)
        self._flush()

    def near_ended(self) -> None:
        """No more comes from the server: ends our half, and the connection if the client has ended its own."""
        if self._transport is None or self._finished:
            return
        self._finished = True
        with contextlib.suppress(ssl.SSLError):  # it would also wait for the client's half to end
            self._session.unwrap()
        self._flush()
        if self._ended:
            self.close()

    def near_lost(self) -> None:
        self.near_ended()
        self.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())

    def eof_received(self) -> None:
        """The end of TCP is the end of both halves; asyncio closes."""

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.abort()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()
