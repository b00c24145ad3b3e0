"""Interfaces, addresses and routes, by rtnetlink.

with Route() as route:
    route.execute(bridge("wherry0", mac="02:57:ac:11:00:01"), ...)

The functions in lower case make requests; ``Route.execute`` sends any number of them at once.
"""

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import NamedTuple

from wherry.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    Netlink,
    Request,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from wherry.linux.syscalls import SyscallError

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH = 28

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 18, 20, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BRPORT_MODE = 4
_VETH_INFO_PEER = 1
_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE = 1
_IFLA_VLAN_ID = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN = 254
_RTPROT_STATIC = 4
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200

_NUD_NOARP, _NTF_MASTER, _NTF_STICKY = 0x40, 0x04, 0x40
_NDA_LLADDR = 2

_IFF_UP = 1
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_ROUTE = struct.Struct("=BBBBBBBBI")

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    master: int
    alias: str


class HostRoute(NamedTuple):
    """``destination`` "0.0.0.0/0" is the default route."""

    destination: str
    interface: int
    gateway: str


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", "").replace("-", ""))


def _interface(index: int = 0, *, up: bool = False, down: bool = False) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP if up else 0, _IFF_UP if up or down else 0)


def bridge(name: str, *, mac: str, mtu: int) -> Request:
    """A new bridge. One with an address of its own, since otherwise it takes on that of its lowest port."""
    body = _interface() + text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac_bytes(mac)) + number(_IFLA_MTU, mtu)
    body += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge"))
    return Request(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"create bridge {name}")


def veth(name: str, *, peer: str, namespace: int, mtu: int, peer_mac: str) -> Request:
    """A pair of interfaces: one here, its peer in ``namespace`` (a descriptor) from the first moment on, so that
    nothing is moved. Both still have to be brought up."""
    inside = _interface() + text(_IFLA_IFNAME, peer) + number(_IFLA_NET_NS_FD, namespace)
    inside += number(_IFLA_MTU, mtu) if mtu else b""
    inside += attribute(_IFLA_ADDRESS, mac_bytes(peer_mac)) if peer_mac else b""
    body = _interface() + text(_IFLA_IFNAME, name)
    body += number(_IFLA_MTU, mtu) if mtu else b""
    body += nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, inside)),
    )
    return Request(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"create interface {name}")


def bring_up_port(name: str, master: int) -> Request:
    """Makes an interface a port of the bridge ``master`` (an index), and brings it up."""
    body = _interface(up=True) + text(_IFLA_IFNAME, name) + number(_IFLA_MASTER, master)
    return Request(_RTM_NEWLINK, body, what=f"make interface {name} a bridge's port")


def hairpin(name: str) -> Request:
    """Has the bridge send out by this port what came in by it, when that is where it belongs."""
    mode = nested(_IFLA_INFO_SLAVE_DATA, attribute(_IFLA_BRPORT_MODE, b"\1"))
    information = nested(_IFLA_LINKINFO, text(_IFLA_INFO_SLAVE_KIND, "bridge"), mode)
    return Request(
        _RTM_NEWLINK, _interface() + text(_IFLA_IFNAME, name) + information, what=f"set hairpin mode of {name}"
    )


def child(kind: str, name: str, *, parent: int, namespace: int, mode: int, mac: str, mtu: int) -> Request:
    """A macvlan or ipvlan interface on ``parent`` (an index), made in ``namespace``. It still has to be brought up."""
    mode_data = (
        number(_IFLA_MACVLAN_MODE, mode) if kind == "macvlan" else attribute(_IFLA_IPVLAN_MODE, struct.pack("=H", mode))
    )
    body = _interface() + text(_IFLA_IFNAME, name) + number(_IFLA_LINK, parent) + number(_IFLA_NET_NS_FD, namespace)
    body += attribute(_IFLA_ADDRESS, mac_bytes(mac)) if mac and kind == "macvlan" else b""
    body += number(_IFLA_MTU, mtu) if mtu else b""
    body += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind), nested(_IFLA_INFO_DATA, mode_data))
    return Request(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"create {kind} interface {name}")


def vlan(name: str, *, parent: int, tag: int) -> Request:
    """What of ``parent``'s (an index) has this tag. It still has to be brought up."""
    body = _interface() + text(_IFLA_IFNAME, name) + number(_IFLA_LINK, parent)
    data = nested(_IFLA_INFO_DATA, attribute(_IFLA_VLAN_ID, struct.pack("=H", tag)))
    body += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "vlan"), data)
    return Request(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"create vlan {name}")


def stub(name: str, peer: str) -> Request:
    """An interface that leads nowhere, and is up once its peer is: both ends of a pair are here. A kernel need not have
    dummies."""
    inside = nested(_VETH_INFO_PEER, _interface(), text(_IFLA_IFNAME, peer))
    body = _interface(up=True) + text(_IFLA_IFNAME, name)
    body += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "veth"), nested(_IFLA_INFO_DATA, inside))
    return Request(_RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"create interface {name}")


def set_alias(index: int, alias: str) -> Request:
    """A note that the interface bears. It cannot be given when the interface is made."""
    body = _interface(index) + attribute(_IFLA_IFALIAS, alias.encode())
    return Request(_RTM_NEWLINK, body, what=f"set alias of interface {index}")


def set_master(index: int, master: int) -> Request:
    """Makes an interface a port of a bridge."""
    return Request(
        _RTM_NEWLINK,
        _interface(index) + number(_IFLA_MASTER, master),
        what=f"make interface {index} a port of {master}",
    )


def place(mac: str, port: int) -> Request:
    """Tells the bridge that ``port`` (an index) is of where this hardware address is, whatever comes by elsewhere."""
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, port, _NUD_NOARP, _NTF_MASTER | _NTF_STICKY, 0)
    body += attribute(_NDA_LLADDR, mac_bytes(mac))
    return Request(_RTM_NEWNEIGH, body, NLM_F_CREATE | NLM_F_REPLACE, f"place {mac} at interface {port}")


def bring_up(index: int) -> Request:
    return Request(_RTM_NEWLINK, _interface(index, up=True), what=f"bring interface {index} up")


def delete_link(index: int) -> Request:
    what = f"delete interface {index}"
    return Request(_RTM_DELLINK, _interface(index), what=what, forgiven=(errno.ENODEV,))


def add_address(index: int, address: str) -> Request:
    """ "172.17.0.2/16". Of IPv6 it is usable at once: nobody else can have it, so nobody needs to be asked."""
    family, packed, length = _parse(address)
    body = _ADDRESS.pack(family, length, 0, _RT_SCOPE_UNIVERSE, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if family == socket.AF_INET6:
        body += number(_IFA_FLAGS, _IFA_F_NODAD)
    elif length < 31:  # else there is none
        last = int.from_bytes(packed, "big") | 0xFFFFFFFF >> length
        body += attribute(_IFA_BROADCAST, last.to_bytes(4, "big"))
    return Request(_RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL, f"add address {address}", (errno.EEXIST,))


def replace_route(destination: str, *, interface: int, gateway: str = "") -> Request:
    """``destination`` "0.0.0.0/0" is the default. Without a gateway, all of it is on the interface's link."""
    body = _route(destination, gateway, interface)
    return Request(_RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_REPLACE, f"add route to {destination}")


def _parse(text: str) -> tuple[int, bytes, int]:
    """Family, address and length of "172.17.0.0/16"."""
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address), int(length)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _route(destination: str, gateway: str, interface: int) -> bytes:
    family, packed, length = _parse(destination)
    scope = _RT_SCOPE_UNIVERSE if gateway or family == socket.AF_INET6 else _RT_SCOPE_LINK
    body = _ROUTE.pack(family, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_UNICAST, 0)
    body += attribute(_RTA_DST, packed) if length else b""
    body += attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway)) if gateway else b""
    return body + number(_RTA_OIF, interface)


class Route(Netlink):
    """A socket of rtnetlink, for the namespace that it was made in."""

    def __init__(self, fd: int | None = None) -> None:
        super().__init__(NETLINK_ROUTE, fd=fd)

    def link(self, name: str) -> Link | None:
        """The interface of that name, or None."""
        request = Request(_RTM_GETLINK, _interface() + text(_IFLA_IFNAME, name), what=f"look up interface {name}")
        try:
            return _link(self.ask(request)[0])
        except SyscallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def index(self, name: str) -> int:
        """Raises SyscallError when there is none of that name."""
        found = self.link(name)
        if found is None:
            raise SyscallError(errno.ENODEV, "look up interface", name)
        return found.index

    def links(self) -> list[Link]:
        return [_link(message) for message in self.dump(Request(_RTM_GETLINK, _interface(), what="list interfaces"))]

    def addresses(self) -> list[tuple[int, str]]:
        """Every address of this namespace with its interface: (2, "192.0.2.2/24")."""
        found = []
        for message in self.dump(Request(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), what="list addresses")):
            _, prefix, _, _, index = _ADDRESS.unpack_from(message.body)
            values = attributes(message.body, _ADDRESS.size)
            packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if packed:
                found.append((index, f"{_address(packed)}/{prefix}"))
        return found

    def routes(self) -> list[HostRoute]:
        """The main table of both families."""
        found = []
        body = _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
        for message in self.dump(Request(_RTM_GETROUTE, body, what="list routes")):
            family, length, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(message.body)
            if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
                continue
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            values = attributes(message.body, _ROUTE.size)
            destination = values.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
            gateway = values.get(_RTA_GATEWAY)
            found.append(
                HostRoute(
                    f"{_address(destination)}/{length}",
                    int.from_bytes(values.get(_RTA_OIF, b""), sys.byteorder),
                    _address(gateway) if gateway else "",
                )
            )
        return found


def _link(message: Message) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(message.body)
    values = attributes(message.body, _LINK.size)
    information = attributes(values.get(_IFLA_LINKINFO, b""))

    def word(kind: int) -> int:
        return int.from_bytes(values.get(kind, b""), sys.byteorder)

    def words(value: bytes) -> str:
        return os.fsdecode(value.rstrip(b"\0"))

    return Link(
        index=index,
        name=words(values.get(_IFLA_IFNAME, b"")),
        kind=words(information.get(_IFLA_INFO_KIND, b"")),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=word(_IFLA_MTU),
        up=bool(flags & _IFF_UP),
        master=word(_IFLA_MASTER),
        alias=words(values.get(_IFLA_IFALIAS, b"")),
    )
