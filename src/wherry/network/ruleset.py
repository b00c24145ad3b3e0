"""What the firewall's tables hold: published ports, masquerading, and who may reach whom. ``rules`` puts it there.

The rules themselves hardly ever change. They look things up in sets and maps, and it is their elements that come and go
with networks and containers: a published port is one element of a map, found by one look-up however many there are.

    prerouting-notrack      of a bridge behind a network's first one, which is shown here where there is br_netfilter,
                            no connection is made, since it comes by again at the first; nothing else comes from there
    prerouting-antispoof    before anything else: 127.0.0.0/8 is this host's alone, whatever the routes say
                            (CVE-2020-8558); "mark-spoofed" marks who sends as somebody that its network does not have
    input-antispoof         to this host itself what is marked cannot come, and in "forward-from-containers" to no other
                            network; what it says to its neighbours is bridged
    published-ports         from "prerouting-published" and "output-published": what is sent to a published port of this
                            host goes to the container instead, from outside, from the host itself, and from containers
                            (by way of the host's address, even to themselves)
    forward-to-containers   from "forward": into a container's network comes what was answered or published, and what is
                            allowed between its containers; by "forward-from-containers" nothing leaves an internal one
    postrouting-masquerade  what leaves for the outside does so with the host's address
    forward-isolated        in a table of the family bridge: ports of a bridge without communication between its
                            containers reach each other only where there is a link

Administrators read these names, and the rules' comments, in ``nft list ruleset``.
"""

import functools
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
    STATE_INVALID,
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

    def __init__(self, table: str, uplink: str = "") -> None:
        """``uplink`` is the interface of a program that speaks for this network namespace in another one."""
        self.inet, self.bridge = Table(INET, table), Table(BRIDGE, table)
        self.uplink = uplink
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

    def _rule(self, chain: str, comment: str, *expressions: bytes) -> Request:
        return self.inet.rule(chain, *expressions, comment=comment)

    def _rules(self, *chains: str) -> Iterator[Callable[..., Request]]:
        return (functools.partial(self._rule, chain) for chain in chains)

    def _sets(self) -> Iterator[Request]:
        sets = {
            "bridges": [INTERFACE],
            "bridges-behind": [INTERFACE],
            "internal-bridges": [INTERFACE],
            "icc-bridges": [INTERFACE, INTERFACE],
            "links": [IP, IP, PROTOCOL, PORT],
            "routed-ports-ipv4": [IP, PROTOCOL, PORT],
            "routed-ports-ipv6": [IP6, PROTOCOL, PORT],
            "unrouted-ipv4": [INTERFACE],
            "unrouted-ipv6": [INTERFACE],
        }
        maps = {
            "published-ipv4": ([PROTOCOL, PORT], [IP, PORT]),
            "published-ipv6": ([PROTOCOL, PORT], [IP6, PORT]),
            "published-at-address-ipv4": ([IP, PROTOCOL, PORT], [IP, PORT]),
            "published-at-address-ipv6": ([IP6, PROTOCOL, PORT], [IP6, PORT]),
        }
        for own, (name, key) in enumerate(sets.items(), 1):
            yield self.inet.set(name, key, own=own)
        for own, (name, (key, value)) in enumerate(maps.items(), len(sets) + 1):
            yield self.inet.set(name, key, value, own=own)
        yield self.bridge.set("links", [IP, IP, PROTOCOL, PORT], own=1)
        yield self.bridge.set("isolated-ports", [INTERFACE], own=2)

    def _guard(self) -> Iterator[Request]:
        """Every packet comes by here, so what tells most of them apart is asked first."""
        drop, elsewhere = verdict(DROP), comes_by("lo", differs=True)
        guard, spoofed, arriving = self._rules("prerouting-antispoof", "mark-spoofed", "input-antispoof")
        yield self.inet.chain("prerouting-notrack", Hook("filter", PREROUTING, _RAW))
        yield self._rule(
            "prerouting-notrack",
            "seen again at the first bridge",
            input_interface(),
            look_up("bridges-behind"),
            not_tracked(),
        )
        yield self.inet.chain("prerouting-antispoof", Hook("filter", PREROUTING, _MANGLE))
        yield guard(
            "127.0.0.0/8 is this host's alone", is_ip(4), load_destination(4), _within(_LOOPBACK), elsewhere, drop
        )
        yield guard("127.0.0.0/8 is this host's alone", is_ip(4), load_source(4), _within(_LOOPBACK), elsewhere, drop)
        yield self.inet.chain("mark-spoofed")
        yield guard(
            "what containers begin",
            state_is(STATE_NEW),
            input_interface(),
            look_up("bridges"),
            verdict(JUMP, "mark-spoofed"),
        )
        for bridge in self.bridges.values():  # of a strange network, there is no route to a source that is its own
            for network in (ipaddress.ip_network(subnet.network) for subnet in bridge.subnets if subnet.strange):
                own = is_ip(network.version) + load_source(network.version) + _within(network)
                yield spoofed("its own subnet, which has no route", comes_by(bridge.interface), own, verdict(ACCEPT))
        yield spoofed("spoofed: the source is not on this network", source_is_elsewhere(), mark(_IMPOSTOR))
        yield self.inet.chain("input-antispoof", Hook("filter", INPUT, _BEFORE_FILTER))
        yield arriving("spoofed, to this host", is_marked(_IMPOSTOR), input_interface(), look_up("bridges"), drop)
        yield arriving("nobody speaks to this host by it", input_interface(), look_up("bridges-behind"), drop)
        if self.uplink:
            # pasta up to 2023 sends segments without a flag: an answer would be a reset, and end the connection.
            yield arriving("no packet of a connection", comes_by(self.uplink), state_is(STATE_INVALID), drop)

    def _publish(self) -> Iterator[Request]:
        (publish,) = self._rules("published-ports")
        yield self.inet.chain("published-ports")
        for name, hook in (("prerouting-published", PREROUTING), ("output-published", OUTPUT)):
            yield self.inet.chain(name, Hook("nat", hook, _DSTNAT))
            yield self._rule(
                name, "to this host: a published port?", is_for_this_host(), verdict(JUMP, "published-ports")
            )
        # ::1 cannot leave by another interface, so the forwarder serves it.
        loopback = compare(ipaddress.IPv6Address("::1").packed)
        yield publish("the engine forwards ::1 itself", is_ip(6), load_destination(6), loopback, verdict(RETURN))
        for version, after in ((4, FIRST + 1), (6, FIRST + 4)):  # the register behind an address
            translate = translate_destination(version, FIRST, after)
            somewhere = _target(version), look_up(f"published-at-address-ipv{version}", into=FIRST)
            yield publish("published at one address", is_ip(version), *somewhere, translate)
            anywhere = load_protocol(), load_destination_port(FIRST + 1), look_up(f"published-ipv{version}", into=FIRST)
            yield publish("published at all addresses", is_ip(version), *anywhere, translate)

    def _forward(self) -> Iterator[Request]:
        accept, drop = verdict(ACCEPT), verdict(DROP)
        forward, into, out = self._rules("forward", "forward-to-containers", "forward-from-containers")
        # With br_netfilter, frames between two ports of one bridge come by here as well.
        among_friends = input_interface() + output_interface(FIRST + 4) + look_up("icc-bridges") + accept
        yield self.inet.chain("forward-to-containers")
        yield self.inet.chain("forward-from-containers")
        yield self.inet.chain("forward", Hook("filter", FORWARD, _BEFORE_FILTER))
        for bridge in self.bridges.values():
            if not bridge.icc:  # by way of a published port, neighbours reach each other all the same
                between = comes_by(bridge.interface) + leaves_by(bridge.interface)
                yield forward("to a published port of a neighbour", between, is_published(), mark(_BY_THE_HOST))
        # To the hardware address of a bridge without others
        from_behind = input_interface() + look_up("bridges-behind")
        yield forward(
            "nothing is routed from there",
            from_behind,
            output_interface(),
            look_up("bridges-behind", absent=True),
            drop,
        )
        yield forward("answers", state_is(STATE_ESTABLISHED, STATE_RELATED), accept)
        yield forward(
            "from containers", input_interface(), look_up("bridges"), verdict(JUMP, "forward-from-containers")
        )
        yield forward("to containers", output_interface(), look_up("bridges"), verdict(JUMP, "forward-to-containers"))
        yield into("containers of one network", among_friends)
        yield into("published ports", is_published(), accept)
        yield into("links", is_ip(4), _link_key(load_source, load_destination), look_up("links"), accept)
        for version in (4, 6):
            yield into(
                "published, reached at the container's own address",
                is_ip(version),
                _target(version),
                look_up(f"routed-ports-ipv{version}"),
                accept,
            )
        for bridge in self.bridges.values():
            for interface in bridge.trusted:
                yield into("a trusted interface", leaves_by(bridge.interface), comes_by(interface), accept)
            for subnet in bridge.subnets:
                version = ipaddress.ip_network(subnet.network).version
                if subnet.unprotected:
                    yield into("gateway mode nat-unprotected", leaves_by(bridge.interface), is_ip(version), accept)
                if subnet.routed:
                    yield into(
                        "ping, in gateway mode routed",
                        leaves_by(bridge.interface),
                        is_ip(version),
                        is_protocol(_PING[version]),
                        accept,
                    )
        yield into("all else", drop)
        yield out("containers of one network", among_friends)
        yield out("spoofed, to another network", is_marked(_IMPOSTOR), drop)
        # Of an internal network, not to a published port, and to nowhere else.
        from_inside = input_interface() + look_up("internal-bridges")
        yield out("an internal network: not to published ports", from_inside, is_published(), drop)
        yield out(
            "an internal network: not out", from_inside, output_interface(), look_up("bridges", absent=True), drop
        )
        for version in (4, 6):
            apart = look_up(f"unrouted-ipv{version}")
            yield forward(
                "this host was no router before",
                is_ip(version),
                input_interface(),
                apart,
                output_interface(),
                apart,
                drop,
            )

    def _masquerade(self) -> Iterator[Request]:
        rule, name = self._rule, "postrouting-masquerade"
        yield self.inet.chain(name, Hook("nat", POSTROUTING, _SRCNAT))
        # From 127.0.0.1 of this host to a published port.
        from_here = is_ip(4) + load_source(4) + _within(_LOOPBACK)
        yield rule(
            name, "from 127.0.0.1 to a published port", output_interface(), look_up("bridges"), from_here, masquerade()
        )
        for bridge in self.bridges.values():
            for subnet in bridge.subnets:
                network = ipaddress.ip_network(subnet.network)
                own = is_ip(network.version) + load_source(network.version) + _within(network)
                # To a published port of a neighbour, or of its own: the answer has to come back by here.
                yield rule(
                    name,
                    "to a neighbour's published port, and back by here",
                    own,
                    leaves_by(bridge.interface),
                    is_published(),
                    masquerade(),
                )
                if subnet.masquerade and not bridge.internal:
                    source = ipaddress.ip_address(subnet.source).packed if subnet.source else b""
                    translate = translate_source(network.version, source) if source else masquerade()
                    yield rule(
                        name,
                        "leaves with the host's address",
                        own,
                        leaves_by(bridge.interface, differs=True),
                        translate,
                    )

    def _neighbours(self) -> Iterator[Request]:
        """Without connection tracking, which bridges need not have: the way back is allowed by the port it is from."""
        accept, isolated = verdict(ACCEPT), look_up("isolated-ports")

        def rule(chain: str, comment: str, *expressions: bytes) -> Request:
            return self.bridge.rule(chain, *expressions, comment=comment)

        forth = _link_key(load_source, load_destination)
        back = _link_key(load_destination, load_source, load_source_port)
        yield self.bridge.chain("isolated")
        yield self.bridge.chain("forward-isolated", Hook("filter", FORWARD, _AFTER_BRIDGE_NETFILTER))
        between = input_interface() + isolated + output_interface() + isolated
        yield rule("forward-isolated", "from one isolated port to another", between, verdict(JUMP, "isolated"))
        yield rule("isolated", "ARP", is_ethertype(_ETHER_ARP), accept)
        yield rule(
            "isolated", "by a published port", is_marked(_BY_THE_HOST), accept
        )  # with br_netfilter they are bridged
        yield rule("isolated", "links", is_ethertype(_ETHER_IPV4), forth, look_up("links"), accept)
        yield rule("isolated", "links, answers", is_ethertype(_ETHER_IPV4), back, look_up("links"), accept)
        yield rule("isolated", "no other communication between containers", verdict(DROP))

    def _elements(self) -> Iterator[Request]:
        add = self.inet.add
        yield from add("bridges", interfaces(self.bridges))
        yield from add("bridges-behind", interfaces(self.extensions))
        yield from add("internal-bridges", interfaces(name for name, bridge in self.bridges.items() if bridge.internal))
        friendly = [name for name, bridge in self.bridges.items() if bridge.icc]
        yield from add("icc-bridges", [(interface_name(name) * 2, b"") for name in friendly])
        for version, names in self.apart.items():
            yield from add(f"unrouted-ipv{version}", interfaces(names))
        yield from published_elements(self.published, add)
        yield from add("links", map(link_element, self.links))
        yield from self.bridge.add("links", map(link_element, self.links))
        yield from self.bridge.add("isolated-ports", interfaces(self.isolated))


def published_elements(ports: Iterable[Published], change: _Change) -> list[Request]:
    found: dict[str, list[Element]] = {}
    for port in ports:
        target, protocol = ipaddress.ip_address(port.address), bytes([PROTOCOLS[port.protocol]])
        if not port.host_port:
            name, key, value = "routed-ports", padded(target.packed, protocol, be(port.port, 2)), b""
        else:
            host = ipaddress.ip_address(port.host_address)
            name = "published" if host.is_unspecified else "published-at-address"
            key = padded(b"" if host.is_unspecified else host.packed, protocol, be(port.host_port, 2))
            value = padded(target.packed, be(port.port, 2))
        found.setdefault(f"{name}-ipv{target.version}", []).append((key, value))
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
