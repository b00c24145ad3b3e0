"""Published ports: taken on the host while a container runs, so that nobody else gets them.

A socket is bound for each. One that only holds its port does not listen: who reaches it past the firewall's rules is
refused, not left waiting. Only one that the forwarder serves listens.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from wherry.network.bridge import at_home

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_ATTEMPTS = 64  # at a port that is free on all addresses of the host


class PortTaken(Exception):
    """In Docker's words: "Bind for 0.0.0.0:80 failed: port is already allocated"."""


class Wanted(NamedTuple):
    """``port`` is the container's; ``first`` and ``last`` the range of the host's, both 0 for a random one."""

    port: int
    protocol: str
    addresses: tuple[str, ...]  # of the host, "0.0.0.0" and "::" for all
    first: int = 0
    last: int = 0


class Held(NamedTuple):
    """One port of the host at one address. ``socket`` is None where the kernel has no such protocol."""

    port: int
    protocol: str
    host_address: str
    host_port: int
    socket: socket.socket | None


class Ports:
    """The ports that this engine holds."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[str]] = {}

    def hold(self, wanted: Sequence[Wanted], *, listening: Iterable[int] = (6,)) -> list[Held]:
        """All of them, or PortTaken and none. ``listening`` are the IP versions whose sockets the forwarder serves."""
        held: list[Held] = []
        versions = tuple(listening)
        try:
            for each in wanted:
                held += self._hold(each, versions)
        except PortTaken:
            self.release(held)
            raise
        return held

    def release(self, held: Iterable[Held]) -> None:
        for each in held:
            if each.socket is not None:
                each.socket.close()
            addresses = self._held.get((each.protocol, each.host_port), [])
            if each.host_address in addresses:
                addresses.remove(each.host_address)
                if not addresses:
                    del self._held[each.protocol, each.host_port]

    def _hold(self, wanted: Wanted, listening: tuple[int, ...]) -> list[Held]:
        if wanted.first == wanted.last and wanted.first:
            return self._hold_at(wanted, wanted.first, listening)
        if wanted.first:
            for port in range(wanted.first, wanted.last + 1):
                try:
                    return self._hold_at(wanted, port, listening)
                except PortTaken:
                    continue
            raise PortTaken(
                f"Bind for {_shown(wanted.addresses[0])}:{wanted.first}-{wanted.last} failed: all ports are allocated"
            )
        for _ in range(_ATTEMPTS):
            try:
                return self._hold_at(wanted, 0, listening)
            except PortTaken as error:
                failed = error
        raise failed

    def _hold_at(self, wanted: Wanted, port: int, listening: tuple[int, ...]) -> list[Held]:
        """The same port at each of the addresses; 0 is one of the kernel's choice."""
        held: list[Held] = []
        try:
            for address in wanted.addresses:
                held.append(self._hold_one(wanted, address, port, listening))
                port = held[0].host_port
        except PortTaken:
            self.release(held)
            raise
        return held

    def _hold_one(self, wanted: Wanted, address: str, port: int, listening: tuple[int, ...]) -> Held:
        for other in self._held.get((wanted.protocol, port), ()):
            if _same_family(other, address) and (other == address or _is_any(other) or _is_any(address)):
                raise PortTaken(f"Bind for {_shown(address)}:{port} failed: port is already allocated")
        version = 6 if ":" in address else 4
        try:
            bound = _bind(wanted.protocol, address, port, listen=version in listening)
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise PortTaken(
                    f"failed to bind host port {_shown(address)}:{port}/{wanted.protocol}: "
                    f"{(error.strerror or str(error)).lower()}{_cure(error)}"
                ) from None
            bound = None
        number = bound.getsockname()[1] if bound is not None else port
        self._held.setdefault((wanted.protocol, number), []).append(address)
        return Held(wanted.port, wanted.protocol, address, number, bound)


def _bind(protocol: str, address: str, port: int, *, listen: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, _KINDS[protocol], PROTOCOLS[protocol])
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "udp":
            bound.bind((address, port))
            return bound
        # To be bound while old connections of another server linger, and then to be the only one all the same. One that
        # listens is that anyway, and its own connections are not to linger in the way of the next engine.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            bound.bind((address, port))
        else:
            _bind_to_any(bound, address)
        if not listen:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        bound.listen(128 if listen else 0)
        if not listen and protocol == "tcp":
            bound.shutdown(socket.SHUT_RD)  # it stays bound, and refuses
    except OSError:
        bound.close()
        raise
    return bound


def _bind_to_any(bound: socket.socket, address: str) -> None:
    """Binds to a port of the kernel's choice, by its number: one that was not named is let go of at the shutdown."""
    with socket.socket(bound.family, bound.type, bound.proto) as probe:
        if bound.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, 0))
        bound.bind((address, probe.getsockname()[1]))


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


def _is_any(address: str) -> bool:
    return address in ("0.0.0.0", "::")


def _cure(error: OSError) -> str:
    if not isinstance(error, PermissionError):
        return ""
    return ": low ports are root's; an administrator can give them to all: sysctl net.ipv4.ip_unprivileged_port_start=0"


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# Forwarding in user space, for what the kernel does not translate: from IPv6 to containers that have IPv4 alone, from
# ::1, and everything where the kernel has no nftables. It runs in the engine's own process, one for all ports.

_CHUNK = 1 << 16
_IDLE = 90.0  # seconds after which the sender of a datagram is forgotten; Docker's figure

Address = tuple[Any, ...]
"""As recvfrom gives it."""


class Forwarder:
    """What comes to ``listening``, a bound socket that stays the caller's to close, goes to (``address``, ``port``)."""

    def __init__(self, listening: socket.socket, address: str, port: int) -> None:
        self._socket = listening
        self._target = (address, port)
        self._loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._peers: dict[Address, _Peer] = {}
        self._is_stream = listening.type == socket.SOCK_STREAM
        self._loop.add_reader(listening, self._accept if self._is_stream else self._receive)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        for task in self._connections:
            task.cancel()
        for peer in list(self._peers.values()):
            peer.close()
        self._peers.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._socket.accept()
            client.setblocking(False)
            task = self._loop.create_task(self._relay(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _relay(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(client)
            try:
                inner = at_home(lambda: _socket(self._target, socket.SOCK_STREAM))
                stack.enter_context(inner)
                await self._loop.sock_connect(inner, self._target)
                reader, writer = await asyncio.open_connection(sock=inner)
                own_reader, own_writer = await asyncio.open_connection(sock=client)
            except OSError:
                return
            stack.callback(writer.close)
            stack.callback(own_writer.close)
            await asyncio.gather(_pump(own_reader, writer), _pump(reader, own_writer))

    def _receive(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(_CHUNK)
            except OSError:
                return
            peer = self._peers.get(sender)
            if peer is None:
                try:
                    peer = self._peers[sender] = _Peer(self, sender, self._target)
                except OSError:
                    continue
            peer.send(data)

    def answer(self, data: bytes, peer: Address) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(data, peer)

    def forget(self, peer: Address) -> None:
        self._peers.pop(peer, None)


class _Peer:
    """One sender of datagrams, and the socket that stands for it before the container."""

    def __init__(self, forwarder: Forwarder, sender: Address, target: tuple[str, int]) -> None:
        self._forwarder, self._sender = forwarder, sender
        self._loop = asyncio.get_running_loop()
        self._socket = at_home(lambda: _socket(target, socket.SOCK_DGRAM))
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)
        self._timer = self._loop.call_later(_IDLE, self.close)

    def send(self, data: bytes) -> None:
        self._stay()
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def close(self) -> None:
        self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self._forwarder.forget(self._sender)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:
            return
        self._stay()
        self._forwarder.answer(data, self._sender)

    def _stay(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE, self.close)


def _socket(target: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, kind | socket.SOCK_NONBLOCK)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; the other is told, and may go on in its direction."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
