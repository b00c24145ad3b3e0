"""The firewall's rules: published ports, masquerading, and who may reach whom. One table, one transaction a change.

The rules themselves hardly ever change. They look things up in sets and maps, and it is their elements that come and go
with networks and containers: a published port is one element of a map, found by one look-up however many there are.

    guard        before anything else: 127.0.0.0/8 is this host's alone, whatever the routes say (CVE-2020-8558), and a
                 container cannot send as somebody that its network does not have
    publish      what is sent to a published port of this host goes to the container instead, from outside, from the
                 host itself, and from containers (by way of the host's address, even to themselves)
    forward      into a container's network comes what was answered or published, and what is allowed between
                 neighbours; out of an internal network goes nothing
    masquerade   what leaves for the outside does so with the host's address
    neighbours   in a table of the family bridge: ports of a bridge without communication between its containers reach
                 each other only where there is a link
"""

import errno
import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wherry.linux import nftables
from wherry.linux.errors import SyscallError
from wherry.linux.netlink import Request
from wherry.linux.nftables import (
    ACCEPT,
    BRIDGE,
    DROP,
    FIRST,
    FORWARD,
    INET,
    INTERFACE,
    IP,
    IP6,
    JUMP,
    OUTPUT,
    PORT,
    POSTROUTING,
    PREROUTING,
    PROTOCOL,
    RETURN,
    STATE_ESTABLISHED,
    STATE_NEW,
    STATE_RELATED,
    Element,
    Hook,
    Nftables,
    be,
    compare,
    input_interface,
    interface_name,
    is_ip,
    load_destination,
    load_destination_port,
    load_protocol,
    load_source,
    load_source_port,
    look_up,
    output_interface,
    padded,
    rule,
    state_is,
    verdict,
)
from wherry.network.ports import PROTOCOLS

_RAW, _MANGLE, _DSTNAT, _SRCNAT = -300, -150, -100, 100
_BEFORE_FILTER = -10  # what is dropped here is not asked of other firewalls
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_ETHER_ARP, _ETHER_IPV4 = 0x0806, 0x0800


_Change = Callable[[int, str, str, Iterable[Element]], list[Request]]
_Load = Callable[[int, int], bytes]


class BridgeRules(NamedTuple):
    """What holds for a bridge. ``subnets`` of both versions; ``icc``: its containers reach each other."""

    interface: str
    subnets: tuple[str, ...] = ()
    masquerade: bool = True
    internal: bool = False
    icc: bool = True


class Published(NamedTuple):
    """``host_address`` "0.0.0.0" and "::" are all; it is of the same version as ``address``."""

    protocol: str
    host_address: str
    host_port: int
    address: str
    port: int


class Link(NamedTuple):
    """``source`` may reach ``port`` of ``target``, both IPv4 addresses, where there is no other communication."""

    source: str
    target: str
    protocol: str
    port: int


class Rules:
    """The tables of one engine, both of the name ``table``."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._bridges: dict[str, BridgeRules] = {}
        self._published: dict[Published, None] = {}
        self._links: dict[Link, int] = {}
        self._isolated: dict[str, None] = {}
        self._apart: dict[int, tuple[str, ...]] = {}
        self._firewall = Nftables()
        self._made = False

    @property
    def port(self) -> int:
        """The address of the socket by which changes are made."""
        return self._firewall.port

    @property
    def bridges(self) -> list[str]:
        return list(self._bridges)

    def is_supported(self) -> bool:
        """Whether the kernel has all that is needed: tried in a transaction that is taken back."""
        try:
            self._firewall.commit(*self._everything(), *self._removal())
        except SyscallError:
            return False
        return True

    def close(self) -> None:
        self._firewall.close()

    def keep_apart(self, version: int, interfaces: Iterable[str]) -> None:
        """Nothing is forwarded between these interfaces: they were not connected before this host became a router."""
        self._apart[version] = tuple(interfaces)

    def add_bridge(self, bridge: BridgeRules) -> None:
        self._bridges[bridge.interface] = bridge
        self.write()

    def remove_bridge(self, interface: str) -> None:
        """With the last one the tables go, too."""
        if self._bridges.pop(interface, None) is not None:
            if self._bridges:
                self.write()
            else:
                self.remove()

    def publish(self, ports: Iterable[Published]) -> None:
        new = dict.fromkeys(ports)
        self._published |= new
        self._change(*self._published_elements(new, nftables.add_elements))

    def withdraw(self, ports: Iterable[Published]) -> None:
        old = [port for port in ports if port in self._published]
        for port in old:
            del self._published[port]
        self._change(*self._published_elements(old, nftables.delete_elements))

    def isolate(self, interface: str) -> None:
        """The port ``interface`` of a bridge without communication between its containers."""
        self._isolated[interface] = None
        self._change(*nftables.add_elements(BRIDGE, self.table, "isolated", [(interface_name(interface), b"")]))

    def forget_port(self, interface: str) -> None:
        if interface in self._isolated:
            del self._isolated[interface]
            self._change(*nftables.delete_elements(BRIDGE, self.table, "isolated", [(interface_name(interface), b"")]))

    def link(self, links: Iterable[Link]) -> None:
        """Each is counted: two containers may be linked twice."""
        new = [each for each in links if not self._links.get(each)]
        for each in links:
            self._links[each] = self._links.get(each, 0) + 1
        self._change(*self._link_elements(new, nftables.add_elements))

    def unlink(self, links: Iterable[Link]) -> None:
        old = []
        for each in links:
            count = self._links.get(each, 0) - 1
            if count > 0:
                self._links[each] = count
            elif each in self._links:
                del self._links[each]
                old.append(each)
        self._change(*self._link_elements(old, nftables.delete_elements))

    def write(self) -> None:
        """Everything anew, in one transaction: there is no moment without rules. Raises SyscallError."""
        if self._bridges:
            self._firewall.commit(*self._everything())
            self._made = True

    def remove(self) -> None:
        if self._made:
            self._firewall.commit(*self._removal())
            self._made = False

    def _change(self, *requests: Request) -> None:
        if not requests or not self._made:
            return
        try:
            self._firewall.commit(*requests)
        except SyscallError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                raise
            self.write()  # somebody has changed our table, and is overruled

    def _removal(self) -> list[Request]:
        found = []
        for family in (INET, BRIDGE):
            found += [nftables.table(family, self.table), nftables.delete_table(family, self.table)]
        return found

    def _everything(self) -> list[Request]:
        return [
            *self._removal(),
            nftables.table(INET, self.table),
            nftables.table(BRIDGE, self.table),
            *self._sets(),
            *self._guard(),
            *self._publish(),
            *self._forward(),
            *self._masquerade(),
            *self._neighbours(),
            *self._elements(),
        ]

    def _sets(self) -> list[Request]:
        t = self.table
        return [
            nftables.table_of(INET, t, "bridges", [INTERFACE], number=1),
            nftables.table_of(INET, t, "internal", [INTERFACE], number=2),
            nftables.table_of(INET, t, "friendly", [INTERFACE, INTERFACE], number=3),
            nftables.table_of(INET, t, "anywhere4", [PROTOCOL, PORT], [IP, PORT], number=4),
            nftables.table_of(INET, t, "anywhere6", [PROTOCOL, PORT], [IP6, PORT], number=5),
            nftables.table_of(INET, t, "somewhere4", [IP, PROTOCOL, PORT], [IP, PORT], number=6),
            nftables.table_of(INET, t, "somewhere6", [IP6, PROTOCOL, PORT], [IP6, PORT], number=7),
            nftables.table_of(INET, t, "links", [IP, IP, PROTOCOL, PORT], number=8),
            nftables.table_of(INET, t, "apart4", [INTERFACE], number=9),
            nftables.table_of(INET, t, "apart6", [INTERFACE], number=10),
            nftables.table_of(BRIDGE, t, "links", [IP, IP, PROTOCOL, PORT], number=1),
            nftables.table_of(BRIDGE, t, "isolated", [INTERFACE], number=2),
        ]

    def _guard(self) -> list[Request]:
        t = self.table
        from_elsewhere = (is_ip(4), input_interface(), compare(interface_name("lo"), differs=True))
        drop = verdict(DROP)
        return [
            nftables.chain(INET, t, "guard", Hook("filter", PREROUTING, _RAW)),
            rule(INET, t, "guard", *from_elsewhere, load_destination(4), *_within(_LOOPBACK), drop),
            rule(INET, t, "guard", *from_elsewhere, load_source(4), *_within(_LOOPBACK), drop),
            nftables.chain(INET, t, "impostors", Hook("filter", PREROUTING, _MANGLE)),
            rule(
                INET,
                t,
                "impostors",
                input_interface(),
                look_up("bridges"),
                state_is(STATE_NEW),
                nftables.source_is_elsewhere(),
                drop,
            ),
        ]

    def _publish(self) -> list[Request]:
        t = self.table
        requests = [
            nftables.chain(INET, t, "publish"),
            nftables.chain(INET, t, "publish-arriving", Hook("nat", PREROUTING, _DSTNAT)),
            nftables.chain(INET, t, "publish-local", Hook("nat", OUTPUT, _DSTNAT)),
        ]
        for chain in ("publish-arriving", "publish-local"):
            requests.append(rule(INET, t, chain, nftables.is_for_this_host(), verdict(JUMP, "publish")))
        # ::1 cannot leave by another interface, so the forwarder serves it.
        loopback = ipaddress.IPv6Address("::1").packed
        requests.append(rule(INET, t, "publish", is_ip(6), load_destination(6), compare(loopback), verdict(RETURN)))
        for version, size in ((4, 4), (6, 16)):
            after = FIRST + size // 4  # the register behind an address
            translate = nftables.translate_destination(version, FIRST, after)
            somewhere = (load_destination(version), load_protocol(after), load_destination_port(after + 1))
            found = look_up(f"somewhere{version}", into=FIRST)
            requests.append(rule(INET, t, "publish", is_ip(version), *somewhere, found, translate))
            anywhere = (load_protocol(), load_destination_port(FIRST + 1))
            found = look_up(f"anywhere{version}", into=FIRST)
            requests.append(rule(INET, t, "publish", is_ip(version), *anywhere, found, translate))
        return requests

    def _forward(self) -> list[Request]:
        t = self.table
        accept, drop = verdict(ACCEPT), verdict(DROP)
        requests = [
            nftables.chain(INET, t, "into"),
            nftables.chain(INET, t, "out"),
            nftables.chain(INET, t, "forward", Hook("filter", FORWARD, _BEFORE_FILTER)),
            rule(INET, t, "forward", state_is(STATE_ESTABLISHED, STATE_RELATED), accept),
            rule(INET, t, "forward", input_interface(), look_up("bridges"), verdict(JUMP, "out")),
            rule(INET, t, "forward", output_interface(), look_up("bridges"), verdict(JUMP, "into")),
            # With br_netfilter, frames between two ports of one bridge come by here as well.
            rule(INET, t, "into", input_interface(), output_interface(FIRST + 4), look_up("friendly"), accept),
            rule(INET, t, "into", nftables.is_published(), accept),
            rule(INET, t, "into", is_ip(4), *_link_key(load_source, load_destination), look_up("links"), accept),
            rule(INET, t, "into", drop),
            # To a neighbour, as above; to anywhere else not at all.
            rule(INET, t, "out", input_interface(), output_interface(FIRST + 4), look_up("friendly"), accept),
            rule(INET, t, "out", input_interface(), look_up("internal"), nftables.is_published(), drop),
            rule(
                INET,
                t,
                "out",
                input_interface(),
                look_up("internal"),
                output_interface(),
                look_up("bridges", absent=True),
                drop,
            ),
        ]
        for version in (4, 6):
            apart = look_up(f"apart{version}")
            match = (is_ip(version), input_interface(), apart, output_interface(), apart)
            requests.append(rule(INET, t, "forward", *match, drop))
        return requests

    def _masquerade(self) -> list[Request]:
        t = self.table
        requests = [
            nftables.chain(INET, t, "masquerade", Hook("nat", POSTROUTING, _SRCNAT)),
            # From 127.0.0.1 of this host to a published port.
            rule(
                INET,
                t,
                "masquerade",
                output_interface(),
                look_up("bridges"),
                is_ip(4),
                load_source(4),
                *_within(_LOOPBACK),
                nftables.masquerade(),
            ),
        ]
        for bridge in self._bridges.values():
            name = interface_name(bridge.interface)
            for text in bridge.subnets:
                subnet = ipaddress.ip_network(text)
                source = (is_ip(subnet.version), load_source(subnet.version), *_within(subnet), output_interface())
                # To a published port of a neighbour, or of its own: the answer has to come back by here.
                back = (*source, compare(name), nftables.is_published(), nftables.masquerade())
                requests.append(rule(INET, t, "masquerade", *back))
                if bridge.masquerade and not bridge.internal:
                    leaves = (*source, compare(name, differs=True), nftables.masquerade())
                    requests.append(rule(INET, t, "masquerade", *leaves))
        return requests

    def _neighbours(self) -> list[Request]:
        """Without connection tracking, which bridges need not have: the way back is allowed by the port it is from."""
        t = self.table
        accept = verdict(ACCEPT)
        between = (input_interface(), look_up("isolated"), output_interface(), look_up("isolated"))
        forth = _link_key(load_source, load_destination)
        back = _link_key(load_destination, load_source, load_source_port)
        return [
            nftables.chain(BRIDGE, t, "strangers"),
            nftables.chain(BRIDGE, t, "neighbours", Hook("filter", FORWARD, 0)),
            rule(BRIDGE, t, "neighbours", *between, verdict(JUMP, "strangers")),
            rule(BRIDGE, t, "strangers", nftables.is_ethertype(_ETHER_ARP), accept),
            rule(BRIDGE, t, "strangers", nftables.is_ethertype(_ETHER_IPV4), *forth, look_up("links"), accept),
            rule(BRIDGE, t, "strangers", nftables.is_ethertype(_ETHER_IPV4), *back, look_up("links"), accept),
            rule(BRIDGE, t, "strangers", verdict(DROP)),
        ]

    def _elements(self) -> list[Request]:
        t = self.table
        names = {bridge.interface: interface_name(bridge.interface) for bridge in self._bridges.values()}
        internal = [(names[b.interface], b"") for b in self._bridges.values() if b.internal]
        apart = {
            f"apart{version}": [(interface_name(name), b"") for name in each] for version, each in self._apart.items()
        }
        friendly = [(names[b.interface] * 2, b"") for b in self._bridges.values() if b.icc]
        return [
            *nftables.add_elements(INET, t, "bridges", [(name, b"") for name in names.values()]),
            *nftables.add_elements(INET, t, "internal", internal),
            *nftables.add_elements(INET, t, "friendly", friendly),
            *(request for name, each in apart.items() for request in nftables.add_elements(INET, t, name, each)),
            *nftables.add_elements(BRIDGE, t, "isolated", [(interface_name(name), b"") for name in self._isolated]),
            *self._published_elements(self._published, nftables.add_elements),
            *self._link_elements(self._links, nftables.add_elements),
        ]

    def _published_elements(self, ports: Iterable[Published], change: _Change) -> list[Request]:
        found: dict[str, list[Element]] = {}
        for port in ports:
            host, target = ipaddress.ip_address(port.host_address), ipaddress.ip_address(port.address)
            key = padded(bytes([PROTOCOLS[port.protocol]]), be(port.host_port, 2))
            name = f"anywhere{host.version}"
            if not host.is_unspecified:
                key, name = host.packed + key, f"somewhere{host.version}"
            found.setdefault(name, []).append((key, padded(target.packed, be(port.port, 2))))
        return [request for name, elements in found.items() for request in change(INET, self.table, name, elements)]

    def _link_elements(self, links: Iterable[Link], change: _Change) -> list[Request]:
        elements = [
            (
                padded(
                    ipaddress.ip_address(link.source).packed,
                    ipaddress.ip_address(link.target).packed,
                    bytes([PROTOCOLS[link.protocol]]),
                    be(link.port, 2),
                ),
                b"",
            )
            for link in links
        ]
        return [request for family in (INET, BRIDGE) for request in change(family, self.table, "links", elements)]


def _within(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[bytes, bytes]:
    """The address in the first registers is in ``subnet``."""
    return nftables.masked(subnet.netmask.packed), compare(subnet.network_address.packed)


def _link_key(source: _Load, target: _Load, port: Callable[[int], bytes] = load_destination_port) -> tuple[bytes, ...]:
    return source(4, FIRST), target(4, FIRST + 1), load_protocol(FIRST + 2), port(FIRST + 3)
