"""Netlink: how the kernel is asked about networking, and told. rtnetlink and nftables stand on it.

A request is bytes; several go into one packet, and the kernel works through them before ``send`` returns, so whatever
it has to say is there to be read at once. Nobody asks for acknowledgements: what went wrong is told without.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from wherry.linux.syscalls import SyscallError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x001
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLA_F_NESTED = 0x8000
_KIND = 0x3FFF  # without the flags above

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_BUFFERS = {socket.SO_SNDBUF: 32, socket.SO_RCVBUF: 33}  # SO_SNDBUFFORCE and SO_RCVBUFFORCE: past the system's limit
_BUFFER = 8 << 20  # a transaction is one packet, and must fit
_PACKET = 1 << 16

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


class Request(NamedTuple):
    """``what`` is for the error's text: "add address 172.17.0.2/16". ``forgiven`` are errors that are none."""

    kind: int
    body: bytes
    flags: int = 0
    what: str = ""
    forgiven: tuple[int, ...] = ()


class Message(NamedTuple):
    """What the kernel says. ``port`` is whose request it answers or tells others of."""

    kind: int
    flags: int
    number: int
    port: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A u32 in the machine's byte order, as rtnetlink has them."""
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from ``offset`` on; of those that come more than once, the last."""
    return dict(each_attribute(data, offset))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _KIND, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


class Netlink:
    """A netlink socket in the network namespace that it was made in, wherever its process goes later."""

    def __init__(self, protocol: int, *, groups: Sequence[int] = (), fd: int | None = None) -> None:
        """``fd``: one that is open already, in another namespace perhaps. ``groups``: notifications to listen to."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = (
            socket.socket(socket.AF_NETLINK, kind, protocol)
            if fd is None
            else socket.socket(socket.AF_NETLINK, kind, protocol, fileno=fd)
        )
        self._socket.setblocking(False)
        self._number = 0
        if fd is None:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.bind((0, 0))
        for group in groups:
            self._widen(socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The address of this socket, which notifications name as who made a change."""
        address: tuple[int, int] = self._socket.getsockname()
        return address[0]

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _widen(self, buffer: int, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _BUFFERS[buffer], size)
        except PermissionError:  # root of a user namespace
            self._socket.setsockopt(socket.SOL_SOCKET, buffer, size)

    def execute(self, *requests: Request) -> None:
        """Sends all in one packet. Raises SyscallError for the first that fails; those after it are done all the same
        (but for a transaction of nftables, which is done whole or not at all)."""
        first = self._number + 1
        packet = bytearray()
        for request in requests:
            packet += self._pack(request, request.flags)
        self._send(bytes(packet), requests[0].what)
        failed: SyscallError | None = None
        for message in self._drain():
            position = message.number - first
            if message.kind != _NLMSG_ERROR or not 0 <= position < len(requests) or failed is not None:
                continue
            request = requests[position]
            (code,) = _ERROR.unpack_from(message.body)
            if code and -code not in request.forgiven:
                failed = SyscallError(-code, request.what, detail=_explanation(message))
        if failed is not None:
            raise failed

    def ask(self, request: Request) -> list[Message]:
        """What the kernel answers. Raises SyscallError."""
        self._send(self._pack(request, request.flags), request.what)
        found = []
        for message in self._drain():
            if message.kind == _NLMSG_ERROR:
                (code,) = _ERROR.unpack_from(message.body)
                if code:
                    raise SyscallError(-code, request.what, detail=_explanation(message))
            elif message.kind != _NLMSG_DONE:
                found.append(message)
        return found

    def dump(self, request: Request) -> list[Message]:
        """All there is of a kind; asked again when it changed meanwhile."""
        while True:
            found = self.ask(request._replace(flags=request.flags | NLM_F_DUMP))
            if not any(message.flags & _NLM_F_DUMP_INTR for message in found):
                return found

    def notifications(self) -> list[Message]:
        """What has been told since. Raises OSError with ENOBUFS when so much was told that some of it is lost."""
        return list(self._drain())

    def _pack(self, request: Request, flags: int) -> bytes:
        self._number += 1
        length = _HEADER.size + len(request.body)
        header = _HEADER.pack(length, request.kind, flags | NLM_F_REQUEST, self._number, 0)
        return header + request.body + bytes(-length % 4)

    def _send(self, packet: bytes, what: str) -> None:
        try:
            if len(packet) > _PACKET:
                self._widen(socket.SO_SNDBUF, len(packet) * 2)
                self._widen(socket.SO_RCVBUF, _BUFFER)
            self._socket.sendto(packet, (0, 0))
        except OSError as error:
            raise SyscallError(error.errno or errno.EIO, what) from None

    def _drain(self) -> Iterator[Message]:
        while True:
            try:
                packet = self._socket.recv(_PACKET * 4)
            except BlockingIOError:
                return
            offset = 0
            while offset + _HEADER.size <= len(packet):
                length, kind, flags, sequence, port = _HEADER.unpack_from(packet, offset)
                yield Message(kind, flags, sequence, port, packet[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3


def _explanation(message: Message) -> str:
    """The kernel's own words about an error, if it has some."""
    if not message.flags & _NLM_F_ACK_TLVS:
        return ""
    echoed = _HEADER.size if message.flags & _NLM_F_CAPPED else _HEADER.unpack_from(message.body, _ERROR.size)[0]
    found = attributes(message.body, _ERROR.size + echoed)
    return os.fsdecode(found.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0"))


# Connection tracking: the flows of packets that the kernel remembers.
#
# Where a flow is translated to is decided with its first packet. For datagrams, which nobody opens or closes, that
# holds as long as somebody goes on sending, whatever the rules have come to say: such a flow has to be forgotten.

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_conntrack_HEADER = struct.Struct(">BBH")  # the family, a version, nothing
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
        """The flows of a protocol with ports. Raises SyscallError."""
        wanted = attribute(_PROTOCOL_NUMBER, bytes([protocol]))
        body = _conntrack_HEADER.pack(family, 0, 0) + nested(_TUPLE_ORIGINAL, nested(_TUPLE_PROTOCOL, wanted))
        body += nested(_FILTER, number(_FILTER_ORIGINAL, _BY_PROTOCOL))
        found = []
        for message in self.dump(Request(_GET, body, what="list connections")):
            original = attributes(message.body, _conntrack_HEADER.size)[_TUPLE_ORIGINAL]
            parts = attributes(original)
            destination = attributes(parts[_TUPLE_ADDRESSES])[_DESTINATION[family]]
            port = attributes(parts[_TUPLE_PROTOCOL])[_PROTOCOL_DESTINATION_PORT]
            found.append(Flow(family, socket.inet_ntop(family, destination), int.from_bytes(port, "big"), original))
        return found

    def forget(self, flows: Iterable[Flow]) -> None:
        """Forgets these flows: where the next packet of each goes is decided anew. Raises SyscallError."""
        requests = [
            Request(
                _DELETE,
                _conntrack_HEADER.pack(flow.family, 0, 0) + nested(_TUPLE_ORIGINAL, flow.original),
                what=f"forget a connection to {flow.destination}",
                forgiven=(errno.ENOENT,),
            )
            for flow in flows
        ]
        if requests:
            self.execute(*requests)
