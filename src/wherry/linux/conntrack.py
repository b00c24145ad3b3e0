"""Connection tracking: the flows of packets that the kernel remembers.

Where a flow is translated to is decided with its first packet. For datagrams, which nobody opens or closes, that holds
as long as somebody goes on sending, whatever the rules have come to say: such a flow has to be forgotten.
"""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from wherry.linux.netlink import NETLINK_NETFILTER, Netlink, Request, attribute, attributes, nested, number

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_HEADER = struct.Struct(">BBH")  # the family, a version, nothing
_TUPLE_ORIGINAL, _FILTER = 1, 25
_TUPLE_ADDRESSES, _TUPLE_PROTOCOL = 1, 2
_DESTINATION: dict[int, int] = {socket.AF_INET: 2, socket.AF_INET6: 4}
_PROTOCOL_NUMBER, _PROTOCOL_DESTINATION_PORT = 1, 3
_FILTER_ORIGINAL = 1
_BY_PROTOCOL = 1 << 3


class Flow(NamedTuple):
    """``destination`` and ``port`` are where its first packet was sent to, before it was translated; ``original`` names
    it to the kernel."""

    family: int
    destination: str
    port: int
    original: bytes


class Conntrack(Netlink):
    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def flows(self, family: int, protocol: int) -> list[Flow]:
        """Those of a protocol with ports. Raises SyscallError."""
        wanted = attribute(_PROTOCOL_NUMBER, bytes([protocol]))
        body = _HEADER.pack(family, 0, 0) + nested(_TUPLE_ORIGINAL, nested(_TUPLE_PROTOCOL, wanted))
        body += nested(_FILTER, number(_FILTER_ORIGINAL, _BY_PROTOCOL))
        found = []
        for message in self.dump(Request(_GET, body, what="list connections")):
            original = attributes(message.body, _HEADER.size)[_TUPLE_ORIGINAL]
            parts = attributes(original)
            destination = attributes(parts[_TUPLE_ADDRESSES])[_DESTINATION[family]]
            port = attributes(parts[_TUPLE_PROTOCOL])[_PROTOCOL_DESTINATION_PORT]
            found.append(Flow(family, socket.inet_ntop(family, destination), int.from_bytes(port, "big"), original))
        return found

    def forget(self, flows: Iterable[Flow]) -> None:
        """Of the next packet of each it is decided anew. Raises SyscallError."""
        requests = [
            Request(
                _DELETE,
                _HEADER.pack(flow.family, 0, 0) + nested(_TUPLE_ORIGINAL, flow.original),
                what=f"forget a connection to {flow.destination}",
                forgiven=(errno.ENOENT,),
            )
            for flow in flows
        ]
        if requests:
            self.execute(*requests)
