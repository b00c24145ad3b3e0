"""Bridges: the interfaces that networks are on the host, and what the host's own network leaves room for."""

import contextlib
import errno
import fcntl
import hashlib
import ipaddress
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from wherry.linux import rtnetlink
from wherry.linux.namespaces import NetworkNamespace
from wherry.linux.nftables import Nftables
from wherry.linux.rtnetlink import Link, Route, mac_bytes
from wherry.linux.syscalls import SyscallError
from wherry.network.ipam import AddressError, IpNetwork, network_of

# The network namespace that bridges and the firewall's rules are in: this process's own; with an ordinary user's
# engine, one that was made for it.

_T = TypeVar("_T")

_namespace: NetworkNamespace | None = None


def move_to(path: str) -> None:
    """Has bridges made in the network namespace of this file from now on."""
    global _namespace
    _namespace = NetworkNamespace(path)


def is_elsewhere() -> bool:
    """Whether it is not the one that this process is in."""
    return _namespace is not None


def at_home(work: Callable[[], _T]) -> _T:
    """What ``work`` answers or raises, in there: sockets that it makes, and /proc/sys/net, are that namespace's."""
    return work() if _namespace is None else _namespace.run(work)


def open_route() -> Route:
    return at_home(Route)


def open_firewall(*groups: int) -> Nftables:
    return at_home(lambda: Nftables(groups=groups))


_ALIAS = "wherry network "
_LOCK = "/run/wherry-networks.lock"  # of all engines on this machine
_DEFAULT_MTU = 1500
_VLANS = 4095
_ARP_IGNORE_ALL = "8"
_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


class BridgeError(Exception):
    """A bridge cannot be had; the text says why."""


class Device(NamedTuple):
    """``addresses`` have their subnet's prefix: "172.17.0.1/16"."""

    name: str
    network_id: str
    mtu: int
    addresses: tuple[str, ...]


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Keeps other engines from choosing, from a look at what is free on this host until it is taken."""
    if is_elsewhere():  # where nobody else is
        yield
        return
    with open(_LOCK, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(device: Device) -> None:
    """Makes the bridge, or completes one that is there. Raises BridgeError when the name is somebody else's."""
    try:
        with open_route() as route:
            found = route.link(device.name)
            if found is None:
                mac = "02:57:" + hashlib.sha256(f"{device.network_id}{device.name}".encode()).digest()[:4].hex(":")
                route.execute(rtnetlink.bridge(device.name, mac=mac, mtu=device.mtu))
                route.execute(rtnetlink.set_alias(route.index(device.name), _ALIAS + device.network_id))
                found = route.link(device.name)
            elif found.kind != "bridge":
                raise BridgeError(f"existing interface {device.name} is not a bridge")
            assert found is not None
            _set_up(route, found, device)
    except SyscallError as error:
        raise BridgeError(f"bridge {device.name} cannot be made: {error}") from error


def _set_up(route: Route, link: Link, device: Device) -> None:
    _write(f"net/ipv6/conf/{device.name}/accept_ra", "0")
    has_ipv6 = any(":" in address for address in device.addresses)
    if link.alias == _ALIAS + device.network_id:  # one that somebody else made is used as it is
        _write(f"net/ipv6/conf/{device.name}/accept_dad", "0")  # or no neighbour is asked for in the first two seconds
        _write(f"net/ipv6/conf/{device.name}/disable_ipv6", str(int(not has_ipv6)))
    missing = [each for each in device.addresses if (link.index, each) not in route.addresses()]
    route.execute(rtnetlink.bring_up(link.index), *(rtnetlink.add_address(link.index, each) for each in missing))


def allow_localhost(name: str) -> None:
    """Lets packets that a process here sends from 127.0.0.1 leave by the bridge, for published ports.

    Only with rules in place that keep everybody else from 127.0.0.0/8 (CVE-2020-8558).
    """
    _write(f"net/ipv4/conf/{name}/route_localnet", "1")


def remove(name: str, network_id: str) -> None:
    """Removes the interface, if it is there and was made for this network."""
    with contextlib.suppress(SyscallError), open_route() as route:
        found = route.link(name)
        if found is not None and found.alias == _ALIAS + network_id:
            route.execute(rtnetlink.delete_link(found.index))


def exists(name: str) -> bool:
    try:
        return at_home(lambda: socket.if_nametoindex(name)) > 0
    except OSError:
        return False


def any_left() -> bool:
    """Whether there is a bridge on this host, whoever's."""
    with open_route() as route:
        return any(link.kind == "bridge" for link in route.links())


def make_vlan(name: str, network_id: str) -> None:
    """Makes "eth0.50", which is what of eth0's is tagged 50. Raises BridgeError, for other names as well."""
    parent, _, tag = name.rpartition(".")
    if not tag.isdigit() or not 0 < int(tag) < _VLANS or not exists(parent):
        raise BridgeError(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    try:
        with open_route() as route:
            route.execute(rtnetlink.vlan(name, parent=route.index(parent), tag=int(tag)))
            index = route.index(name)
            route.execute(rtnetlink.set_alias(index, _ALIAS + network_id), rtnetlink.bring_up(index))
    except SyscallError as error:
        raise BridgeError(f"interface {name} cannot be made: {error}") from error


def join(first: str, other: str, pair: tuple[str, str]) -> None:
    """Makes two bridges one link, by a pair of interfaces of these names; also where part of it is there already. This
    host is on the first of them: by the other it would answer who asks for its addresses, too."""
    _write(f"net/ipv4/conf/{other}/arp_ignore", _ARP_IGNORE_ALL)
    try:
        with open_route() as route:
            if route.link(pair[0]) is None:
                route.execute(rtnetlink.stub(*pair))
            for name, port in zip((first, other), pair, strict=True):
                index = route.index(port)
                route.execute(rtnetlink.set_master(index, route.index(name)), rtnetlink.bring_up(index))
            # From one container on the other bridge to another there, by a published port.
            route.execute(rtnetlink.hairpin(pair[0]))
    except SyscallError as error:
        raise BridgeError(f"bridge {other} cannot be joined to {first}: {error}") from error


def expect_broadcasts(ports: int) -> None:
    """A broadcast is queued for every port at once, and what finds the queue full is lost: the answer, too. Only the
    host's first network namespace has a say in it."""
    now = _read("/proc/sys/net/core/netdev_max_backlog").strip()
    if now.isdigit() and int(now) < ports:
        _write("net/core/netdev_max_backlog", str(ports))


def place(mac: str, port: str) -> None:
    """Tells the bridge of ``port`` where this hardware address is now: it may have been behind another bridge before,
    and with br_netfilter what it sends to a published port comes back from there as if it were. Where that fails, it
    is found out in time."""
    with contextlib.suppress(SyscallError), open_route() as route:
        route.execute(rtnetlink.place(mac, route.index(port)))


def make_stub(name: str) -> None:
    """An interface that leads nowhere, for a macvlan network without a parent."""
    with open_route() as route:
        try:
            route.execute(rtnetlink.stub(name, _peer(name)))
            route.execute(rtnetlink.bring_up(route.index(_peer(name))))
        except SyscallError as error:
            if error.errno != errno.EEXIST:
                raise BridgeError(f"interface {name} cannot be made: {error}") from error


def remove_stub(name: str) -> None:
    remove_pair(_peer(name))


def remove_pair(name: str) -> None:
    """Removes an interface, and its other end with it."""
    with contextlib.suppress(SyscallError), open_route() as route:
        found = route.link(name)
        if found is not None:
            route.execute(rtnetlink.delete_link(found.index))


def _peer(name: str) -> str:
    return f"dp-{name[3:]}"


def interfaces() -> list[str]:
    """The host's, but for the loopback, what is on bridges, and the bridges of networks."""
    with open_route() as route:
        links = [link for link in route.links() if link.name != "lo" and not link.master]
    return [link.name for link in links if not link.alias.startswith(_ALIAS)]


def host_mtu() -> int:
    """The MTU of the interface that the default route leads to, 1500 without one."""
    with open_route() as route:
        links = {link.index: link for link in route.links()}
        for destination in _DEFAULT_ROUTES:
            for each in route.routes():
                if each.destination == destination and each.interface in links:
                    return links[each.interface].mtu
    return _DEFAULT_MTU


def host_networks(except_for: str = "") -> list[IpNetwork]:
    """What the host's routes, addresses and name servers take: no new subnet may overlap it.

    ``except_for`` is an interface whose own subnets do not count.
    """
    found = []
    for opened in (open_route, Route) if is_elsewhere() else (Route,):
        with opened() as route:
            links = {link.index: link.name for link in route.links()}
            found += [each.destination for each in route.routes() if links.get(each.interface) != except_for]
            found += [address for index, address in route.addresses() if links.get(index) != except_for]
    found += name_servers(_read("/etc/resolv.conf"))
    networks = []
    for text in found:
        if text not in _DEFAULT_ROUTES:
            with contextlib.suppress(AddressError):
                networks.append(network_of(text))
    return networks


def name_servers(resolv_conf: str) -> list[str]:
    lines = (line.split() for line in resolv_conf.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def has_ipv6() -> bool:
    return os.path.exists("/proc/net/if_inet6") and _read("/proc/sys/net/ipv6/conf/all/disable_ipv6").strip() == "0"


def forwards(version: int) -> bool:
    return _read(f"/proc/sys/{_FORWARDING[version]}").strip() == "1"


def set_forwarding(version: int, on: bool) -> None:
    """For all interfaces. The kernel of a router of IPv6 does not listen to routers, unless it is told to; this host
    keeps what it has learned from them."""
    if forwards(version) == on:
        return
    if version == 6 and on:
        for name in at_home(lambda: os.listdir("/proc/sys/net/ipv6/conf")):
            if _read(f"/proc/sys/net/ipv6/conf/{name}/accept_ra").strip() == "1":
                _write(f"net/ipv6/conf/{name}/accept_ra", "2")
    _write(_FORWARDING[version], str(int(on)))


_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def _read(path: str) -> str:
    try:
        with at_home(lambda: open(path, encoding="utf-8", errors="replace")) as file:
            return file.read()
    except OSError:
        return ""


def _write(name: str, value: str) -> None:
    """A sysctl that this kernel may not have."""
    with (
        contextlib.suppress(FileNotFoundError),
        at_home(lambda: open(f"/proc/sys/{name}", "w", encoding="ascii")) as file,
    ):
        file.write(value)


# Who has an address now: told to the neighbours on a bridge, which may remember that somebody else had it.
#
# They would go on sending to the old hardware address for half a minute. A container that has just been started cannot
# be heard yet, so this host says it from its own place on the bridge, by a gratuitous ARP request (RFC 5227) or by an
# unsolicited advertisement (RFC 4861).

_ETHER_ARP, _ETHER_IPV6 = 0x0806, 0x86DD
_EVERYBODY = b"\xff" * 6
_EVERY_NODE, _EVERY_NODE_MAC = ipaddress.IPv6Address("ff02::1").packed, bytes.fromhex("333300000001")
_REQUEST = 1
_ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_LAYER_ADDRESS = 136, 0x20000000, 2
_HOPS = 255  # as neighbours demand, since no router lets that through


class GratuitousArp:
    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def announce(self, bridge: str, mac: str, addresses: Iterable[str]) -> None:
        """Says on the bridge that all of these are at ``mac``. Where that fails, they are found out in time."""
        with contextlib.suppress(OSError):
            if self._socket is None:
                kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
                self._socket = at_home(lambda: socket.socket(socket.AF_PACKET, kind, 0))  # hears nothing
            for address in addresses:
                self._socket.sendto(frame(mac_bytes(mac), address), (bridge, 0))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def frame(mac: bytes, address: str) -> bytes:
    found = ipaddress.ip_address(address)
    if found.version == 4:
        head = _EVERYBODY + mac + struct.pack(">HHHBBH", _ETHER_ARP, 1, 0x0800, 6, 4, _REQUEST)
        return head + mac + found.packed + bytes(6) + found.packed
    message = struct.pack(">BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + found.packed
    message += bytes((_TARGET_LINK_LAYER_ADDRESS, 1)) + mac
    message = message[:2] + _checksum(found.packed, message) + message[4:]
    head = struct.pack(">IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, _HOPS)
    return _EVERY_NODE_MAC + mac + struct.pack(">H", _ETHER_IPV6) + head + found.packed + _EVERY_NODE + message


def _checksum(source: bytes, message: bytes) -> bytes:
    data = source + _EVERY_NODE + struct.pack(">II", len(message), socket.IPPROTO_ICMPV6) + message
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", total ^ 0xFFFF)


# More bridges behind a network's first one, since the kernel gives a bridge 1,023 ports and no more.
#
# Each hangs on the first by a pair of interfaces, so that all of them are one link. The first alone has this host's
# addresses, and to the firewall's rules what comes from behind another comes from the first.

PORTS = 1000
"""Of a bridge, for containers. The others are for the pairs, and for what an administrator plugs in."""

_BRIDGES = 1 + 20
_BROADCASTS = 4  # that may be under way at once


def uplink(extension: str) -> str:
    """The port of the network's first bridge that an extension hangs on."""
    return f"up{extension[2:]}"


class BridgePorts:
    """How many ports of which bridge are containers'."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._made: set[str] = set()  # by this engine

    def take(self, first: Device) -> str:
        """The bridge for one more container: ``first``, or an extension, which is made then. Raises BridgeError."""
        for number, name in enumerate((first.name, *_extensions(first.network_id))):
            if self._taken[name] < PORTS:
                if number and not (name in self._made and exists(name)):
                    expect_broadcasts(_BROADCASTS * (number + 1) * PORTS)
                    make(first._replace(name=name, addresses=()))
                    join(first.name, name, (uplink(name), f"dn{name[2:]}"))
                    self._made.add(name)
                self._taken[name] += 1
                return name
        raise BridgeError(f"the network of {first.name} has {_BRIDGES * PORTS} containers, and no room for more")

    def is_extended(self, network_id: str) -> bool:
        return next(_extensions(network_id)) in self._taken

    def adopt(self, name: str) -> None:
        """Notes the port of a container that runs."""
        self._taken[name] += 1

    def release(self, name: str) -> None:
        self._taken[name] -= 1

    def remove(self, network_id: str) -> list[str]:
        """Removes the extensions of a network that no container is on, and says which."""
        removed = []
        for name in _extensions(network_id):
            if not exists(name):
                break
            remove_pair(uplink(name))
            remove(name, network_id)
            removed.append(name)
        return removed


def _extensions(network_id: str) -> Iterator[str]:
    for number in range(1, _BRIDGES):
        yield f"br{number}-{network_id[:10]}"
