"""What the firewall's tables hold: published ports, masquerading, and who may reach whom. ``rules`` puts it there.

The rules themselves hardly ever change. They look things up in sets and maps, and it is their elements that come and go
with networks and containers: a published port is one element of a map, found by one look-up however many there are.

    extensions   of what is bridged behind a network's first bridge, which is shown here where there is br_netfilter, no
                 connection is made, since it comes by again at the first; nothing else comes from there
    guard        before anything else: 127.0.0.0/8 is this host's alone, whatever the routes say (CVE-2020-8558), and
                 who sends as somebody that its network does not have is marked
    arriving     to this host itself, an impostor cannot send, and in "out" to no other network; what it says to its
                 neighbours is bridged, and comes by here where there is br_netfilter
    publish      what is sent to a published port of this host goes to the container instead, from outside, from the
                 host itself, and from containers (by way of the host's address, even to themselves)
    forward      into a container's network comes what was answered or published, and what is allowed between
                 neighbours; out of an internal network goes nothing
    masquerade   what leaves for the outside does so with the host's address
    neighbours   in a table of the family bridge: ports of a bridge without communication between its containers reach
                 each other only where there is a link
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from wherry.linux.netlink import Request
from wherry.linux.nft_expressions import (
    ACCEPT,
    DROP,
    FIRST,
    JUMP,
    RETURN,
    STATE_ESTABLISHED,
    STATE_NEW,
    STATE_RELATED,
    be,
    comes_by,
    compare,
    input_interface,
    interface_name,
    is_ethertype,
    is_for_this_host,
    is_ip,
    is_marked,
    is_protocol,
    is_published,
    leaves_by,
    load_destination,
    load_destination_port,
    load_protocol,
    load_source,
    load_source_port,
    look_up,
    mark,
    masked,
    masquerade,
    not_tracked,
    output_interface,
    padded,
    source_is_elsewhere,
    state_is,
    translate_destination,
    translate_source,
    verdict,
)
from wherry.linux.nftables import (
    BRIDGE,
    FORWARD,
    INET,
    INPUT,
    INTERFACE,
    IP,
    IP6,
    OUTPUT,
    PORT,
    POSTROUTING,
    PREROUTING,
    PROTOCOL,
    Element,
    Hook,
    Table,
)
from wherry.network.ports import PROTOCOLS

_RAW, _MANGLE, _DSTNAT, _SRCNAT = -300, -150, -100, 100
_BEFORE_FILTER = -10  # what is dropped here is not asked of other firewalls
_AFTER_BRIDGE_NETFILTER = 1  # by which the chain "forward" sees what is bridged
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
_ETHER_ARP, _ETHER_IPV4 = 0x0806, 0x0800
_BY_THE_HOST = 1 << 29  # bits of a packet's mark, from one table or chain to the other
_IMPOSTOR = 1 << 30
_PING = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}

_Change = Callable[[str, Iterable[Element]], list[Request]]
_Load = Callable[[int, int], bytes]


class Subnet(NamedTuple):
    """What leaves ``network`` has the host's address, that of the interface that it leaves by or ``source``, unless
    ``masquerade`` is off. From outside, ``routed``: its published ports are reached at the containers' own addresses,
    and pings; ``unprotected``: everything is. ``strange``: this host has no address in it."""

    network: str
    masquerade: bool = True
    source: str = ""
    routed: bool = False
    unprotected: bool = False
    strange: bool = False


class BridgeRules(NamedTuple):
    """What holds for a bridge. ``icc``: its containers reach each other. From ``trusted`` interfaces they are reached
    at all ports."""

    interface: str
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    icc: bool = True
    trusted: tuple[str, ...] = ()


class Published(NamedTuple):
    """``host_address`` "0.0.0.0" and "::" are all; it is of the same version as ``address``. With ``host_port`` 0 the
    port is reached at ``address`` itself, by who has a route to it."""

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


class Ruleset:
    """Both tables of the name ``table``, as they are to be, and the requests that make them so."""

    def __init__(self, table: str) -> None:
        self.inet, self.bridge = Table(INET, table), Table(BRIDGE, table)
        self.bridges: dict[str, BridgeRules] = {}
        self.published: dict[Published, None] = {}
        self.links: dict[Link, int] = {}
        self.isolated: dict[str, None] = {}
        self.extensions: dict[str, None] = {}
        self.apart: dict[int, tuple[str, ...]] = {}

    def nothing(self) -> list[Request]:
        return [request for table in (self.inet, self.bridge) for request in (table.create(), table.delete())]

    def everything(self) -> list[Request]:
        return [
            *self.nothing(),
            self.inet.create(),
            self.bridge.create(),
            *self._sets(),
            *self._guard(),
            *self._publish(),
            *self._forward(),
            *self._masquerade(),
            *self._neighbours(),
            *self._elements(),
        ]

    def _sets(self) -> Iterator[Request]:
        sets = {
            "bridges": [INTERFACE],
            "extensions": [INTERFACE],
            "internal": [INTERFACE],
            "friendly": [INTERFACE, INTERFACE],
            "links": [IP, IP, PROTOCOL, PORT],
            "routed4": [IP, PROTOCOL, PORT],
            "routed6": [IP6, PROTOCOL, PORT],
            "apart4": [INTERFACE],
            "apart6": [INTERFACE],
        }
        maps = {
            "anywhere4": ([PROTOCOL, PORT], [IP, PORT]),
            "anywhere6": ([PROTOCOL, PORT], [IP6, PORT]),
            "somewhere4": ([IP, PROTOCOL, PORT], [IP, PORT]),
            "somewhere6": ([IP6, PROTOCOL, PORT], [IP6, PORT]),
        }
        for own, (name, key) in enumerate(sets.items(), 1):
            yield self.inet.set(name, key, own=own)
        for own, (name, (key, value)) in enumerate(maps.items(), len(sets) + 1):
            yield self.inet.set(name, key, value, own=own)
        yield self.bridge.set("links", [IP, IP, PROTOCOL, PORT], own=1)
        yield self.bridge.set("isolated", [INTERFACE], own=2)

    def _guard(self) -> Iterator[Request]:
        """Every packet comes by here, so what tells most of them apart is asked first."""
        rule, drop, elsewhere = self.inet.rule, verdict(DROP), comes_by("lo", differs=True)
        yield self.inet.chain("extensions", Hook("filter", PREROUTING, _RAW))
        yield rule("extensions", input_interface(), look_up("extensions"), not_tracked())
        yield self.inet.chain("guard", Hook("filter", PREROUTING, _MANGLE))
        yield rule("guard", is_ip(4), load_destination(4), _within(_LOOPBACK), elsewhere, drop)
        yield rule("guard", is_ip(4), load_source(4), _within(_LOOPBACK), elsewhere, drop)
        yield self.inet.chain("impostors")
        yield rule("guard", state_is(STATE_NEW), input_interface(), look_up("bridges"), verdict(JUMP, "impostors"))
        for bridge in self.bridges.values():  # of a strange network, there is no route to a source that is its own
            for network in (ipaddress.ip_network(subnet.network) for subnet in bridge.subnets if subnet.strange):
                own = is_ip(network.version) + load_source(network.version) + _within(network)
                yield rule("impostors", comes_by(bridge.interface), own, verdict(ACCEPT))
        yield rule("impostors", source_is_elsewhere(), mark(_IMPOSTOR))
        yield self.inet.chain("arriving", Hook("filter", INPUT, _BEFORE_FILTER))
        yield rule("arriving", is_marked(_IMPOSTOR), input_interface(), look_up("bridges"), drop)
        yield rule("arriving", input_interface(), look_up("extensions"), drop)

    def _publish(self) -> Iterator[Request]:
        rule = self.inet.rule
        yield self.inet.chain("publish")
        for name, hook in (("publish-arriving", PREROUTING), ("publish-local", OUTPUT)):
            yield self.inet.chain(name, Hook("nat", hook, _DSTNAT))
            yield rule(name, is_for_this_host(), verdict(JUMP, "publish"))
        # ::1 cannot leave by another interface, so the forwarder serves it.
        loopback = compare(ipaddress.IPv6Address("::1").packed)
        yield rule("publish", is_ip(6), load_destination(6), loopback, verdict(RETURN))
        for version, after in ((4, FIRST + 1), (6, FIRST + 4)):  # the register behind an address
            translate = translate_destination(version, FIRST, after)
            somewhere = _target(version), look_up(f"somewhere{version}", into=FIRST)
            yield rule("publish", is_ip(version), *somewhere, translate)
            anywhere = load_protocol(), load_destination_port(FIRST + 1), look_up(f"anywhere{version}", into=FIRST)
            yield rule("publish", is_ip(version), *anywhere, translate)

    def _forward(self) -> Iterator[Request]:
        rule, accept, drop = self.inet.rule, verdict(ACCEPT), verdict(DROP)
        # With br_netfilter, frames between two ports of one bridge come by here as well.
        among_friends = input_interface() + output_interface(FIRST + 4) + look_up("friendly") + accept
        yield self.inet.chain("into")
        yield self.inet.chain("out")
        yield self.inet.chain("forward", Hook("filter", FORWARD, _BEFORE_FILTER))
        for bridge in self.bridges.values():
            if not bridge.icc:  # by way of a published port, neighbours reach each other all the same
                between = comes_by(bridge.interface) + leaves_by(bridge.interface)
                yield rule("forward", between, is_published(), mark(_BY_THE_HOST))
        from_behind = input_interface() + look_up("extensions")  # to the hardware address of a bridge without others
        yield rule("forward", from_behind, output_interface(), look_up("extensions", absent=True), drop)
        yield rule("forward", state_is(STATE_ESTABLISHED, STATE_RELATED), accept)
        yield rule("forward", input_interface(), look_up("bridges"), verdict(JUMP, "out"))
        yield rule("forward", output_interface(), look_up("bridges"), verdict(JUMP, "into"))
        yield rule("into", among_friends)
        yield rule("into", is_published(), accept)
        yield rule("into", is_ip(4), _link_key(load_source, load_destination), look_up("links"), accept)
        for version in (4, 6):
            yield rule("into", is_ip(version), _target(version), look_up(f"routed{version}"), accept)
        for bridge in self.bridges.values():
            for interface in bridge.trusted:
                yield rule("into", leaves_by(bridge.interface), comes_by(interface), accept)
            for subnet in bridge.subnets:
                version = ipaddress.ip_network(subnet.network).version
                if subnet.unprotected:
                    yield rule("into", leaves_by(bridge.interface), is_ip(version), accept)
                if subnet.routed:
                    yield rule("into", leaves_by(bridge.interface), is_ip(version), is_protocol(_PING[version]), accept)
        yield rule("into", drop)
        yield rule("out", among_friends)
        yield rule("out", is_marked(_IMPOSTOR), drop)
        # Of an internal network, not to a published port, and to nowhere else.
        from_inside = input_interface() + look_up("internal")
        yield rule("out", from_inside, is_published(), drop)
        yield rule("out", from_inside, output_interface(), look_up("bridges", absent=True), drop)
        for version in (4, 6):
            apart = look_up(f"apart{version}")
            yield rule("forward", is_ip(version), input_interface(), apart, output_interface(), apart, drop)

    def _masquerade(self) -> Iterator[Request]:
        rule, name = self.inet.rule, "masquerade"
        yield self.inet.chain(name, Hook("nat", POSTROUTING, _SRCNAT))
        # From 127.0.0.1 of this host to a published port.
        from_here = is_ip(4) + load_source(4) + _within(_LOOPBACK)
        yield rule(name, output_interface(), look_up("bridges"), from_here, masquerade())
        for bridge in self.bridges.values():
            for subnet in bridge.subnets:
                network = ipaddress.ip_network(subnet.network)
                own = is_ip(network.version) + load_source(network.version) + _within(network)
                # To a published port of a neighbour, or of its own: the answer has to come back by here.
                yield rule(name, own, leaves_by(bridge.interface), is_published(), masquerade())
                if subnet.masquerade and not bridge.internal:
                    source = ipaddress.ip_address(subnet.source).packed if subnet.source else b""
                    translate = translate_source(network.version, source) if source else masquerade()
                    yield rule(name, own, leaves_by(bridge.interface, differs=True), translate)

    def _neighbours(self) -> Iterator[Request]:
        """Without connection tracking, which bridges need not have: the way back is allowed by the port it is from."""
        rule, accept, isolated = self.bridge.rule, verdict(ACCEPT), look_up("isolated")
        forth = _link_key(load_source, load_destination)
        back = _link_key(load_destination, load_source, load_source_port)
        yield self.bridge.chain("strangers")
        yield self.bridge.chain("neighbours", Hook("filter", FORWARD, _AFTER_BRIDGE_NETFILTER))
        between = input_interface() + isolated + output_interface() + isolated
        yield rule("neighbours", between, verdict(JUMP, "strangers"))
        yield rule("strangers", is_ethertype(_ETHER_ARP), accept)
        yield rule("strangers", is_marked(_BY_THE_HOST), accept)  # with br_netfilter they are bridged
        yield rule("strangers", is_ethertype(_ETHER_IPV4), forth, look_up("links"), accept)
        yield rule("strangers", is_ethertype(_ETHER_IPV4), back, look_up("links"), accept)
        yield rule("strangers", verdict(DROP))

    def _elements(self) -> Iterator[Request]:
        add = self.inet.add
        yield from add("bridges", interfaces(self.bridges))
        yield from add("extensions", interfaces(self.extensions))
        yield from add("internal", interfaces(name for name, bridge in self.bridges.items() if bridge.internal))
        friendly = [name for name, bridge in self.bridges.items() if bridge.icc]
        yield from add("friendly", [(interface_name(name) * 2, b"") for name in friendly])
        for version, names in self.apart.items():
            yield from add(f"apart{version}", interfaces(names))
        yield from published_elements(self.published, add)
        yield from add("links", map(link_element, self.links))
        yield from self.bridge.add("links", map(link_element, self.links))
        yield from self.bridge.add("isolated", interfaces(self.isolated))


def published_elements(ports: Iterable[Published], change: _Change) -> list[Request]:
    found: dict[str, list[Element]] = {}
    for port in ports:
        target, protocol = ipaddress.ip_address(port.address), bytes([PROTOCOLS[port.protocol]])
        if not port.host_port:
            name, key, value = "routed", padded(target.packed, protocol, be(port.port, 2)), b""
        else:
            host = ipaddress.ip_address(port.host_address)
            name = "anywhere" if host.is_unspecified else "somewhere"
            key = padded(b"" if host.is_unspecified else host.packed, protocol, be(port.host_port, 2))
            value = padded(target.packed, be(port.port, 2))
        found.setdefault(f"{name}{target.version}", []).append((key, value))
    return [request for name, elements in found.items() for request in change(name, elements)]


def _within(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bytes:
    """The address in the first registers is in ``subnet``."""
    return masked(subnet.netmask.packed) + compare(subnet.network_address.packed)


def _target(version: int) -> bytes:
    """A key: where the packet goes to."""
    after = FIRST + (1 if version == 4 else 4)
    return load_destination(version) + load_protocol(after) + load_destination_port(after + 1)


def _link_key(source: _Load, target: _Load, port: Callable[[int], bytes] = load_destination_port) -> bytes:
    return source(4, FIRST) + target(4, FIRST + 1) + load_protocol(FIRST + 2) + port(FIRST + 3)


def link_element(link: Link) -> Element:
    source, target = socket.inet_aton(link.source), socket.inet_aton(link.target)
    return padded(source, target, bytes([PROTOCOLS[link.protocol]]), be(link.port, 2)), b""


def interfaces(names: Iterable[str]) -> list[Element]:
    return [(interface_name(name), b"") for name in names]
