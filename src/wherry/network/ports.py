"""Published ports: taken on the host while a container runs, so that nobody else gets them.

A socket is bound for each. One that only holds its port does not listen: who reaches it past the firewall's rules is
refused, not left waiting. Only one that the forwarder serves listens.
"""

import errno
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
                    f"{(error.strerror or str(error)).lower()}"
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
    """To a port of the kernel's choice, but by its number: one that was not named is let go of at the shutdown."""
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


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
