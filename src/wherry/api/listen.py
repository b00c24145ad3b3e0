"""Where the API listens: unix sockets for who may open them, TCP for who holds a certificate."""

import errno
import grp
import os
import socket
import stat
from typing import TYPE_CHECKING, NamedTuple

from wherry.linux.sockets import take_sockets

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


def listen(address: str, tls: Tls, group: str | None = "") -> list[Listener]:
    """Listens on "unix:///path" or "tcp://host:port"; "fd://" are the sockets that systemd has opened. With the group
    None a unix socket is its owner's alone. Raises ListenError."""
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
    sockets = take_sockets()
    if not sockets:
        raise ListenError(f"cannot listen on {address}: no sockets were passed; start this by a socket unit of systemd")
    found = []
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            _check_secured(f"{address} (TCP)", tls)
        is_secured = sock.family != socket.AF_UNIX and _is_secured(tls)
        found.append(Listener(address, sock, _context(tls) if is_secured else None))
    return found


def _listen_unix(path: str, group: str | None) -> socket.socket:
    """The socket is made unreadable for others from its first moment on (0660 or 0600), then given to the group."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o711, exist_ok=True)
    _remove_stale(path)
    group_id = -1 if group is None else _group_id(group)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177 if group is None else 0o117)
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
