"""Who has an address now: told to the neighbours on a bridge, which may remember that somebody else had it.

They would go on sending to the old hardware address for half a minute. A container that has just been started cannot be
heard yet, so this host says it from its own place on the bridge, by a gratuitous ARP request (RFC 5227) or by an
unsolicited advertisement (RFC 4861).
"""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable

from wherry.linux.rtnetlink import mac_bytes

_ETHER_ARP, _ETHER_IPV6 = 0x0806, 0x86DD
_EVERYBODY = b"\xff" * 6
_EVERY_NODE, _EVERY_NODE_MAC = ipaddress.IPv6Address("ff02::1").packed, bytes.fromhex("333300000001")
_REQUEST = 1
_ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_LAYER_ADDRESS = 136, 0x20000000, 2
_HOPS = 255  # as neighbours demand, since no router lets that through


class Announcer:
    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def announce(self, bridge: str, mac: str, addresses: Iterable[str]) -> None:
        """Says on the bridge that all of these are at ``mac``. Where that fails, they are found out in time."""
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0
                )  # hears nothing
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
