"""DNS messages, as much of them as a name service for containers needs (RFC 1035, and 6891 for the size of answers)."""

import ipaddress
import socket
import struct
from typing import NamedTuple

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
_IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_POINTER = 0xC0
_NAME_OF_QUESTION = b"\xc0\x0c"  # a pointer to right behind the header
_TTL = 600  # seconds; Docker's figure
SMALL = 512
"""Bytes of an answer over UDP to who does not say that he takes more."""


class Malformed(Exception):
    pass


class Question(NamedTuple):
    """``name`` without the dot at its end, in lower case; ``size`` is how large an answer over UDP may be; ``section``
    the question as it was put, since it is repeated in the answer."""

    name: str
    kind: int
    flags: int
    size: int
    section: bytes

    @property
    def is_query(self) -> bool:
        return not self.flags & _OPCODE


def parse(packet: bytes) -> Question:
    """Raises Malformed."""
    try:
        _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
        if flags & _RESPONSE or questions != 1:
            raise Malformed
        labels, offset = [], _HEADER.size
        while length := packet[offset]:
            if length >= _POINTER:
                raise Malformed
            labels.append(packet[offset + 1 : offset + 1 + length].decode("latin-1"))
            offset += 1 + length
        kind, _ = _QUESTION.unpack_from(packet, offset + 1)
        end = offset + 1 + _QUESTION.size
        size = SMALL
        if additional and not answers and not authorities and packet[end] == 0:
            record, limit = struct.unpack_from(">HH", packet, end + 1)
            if record == OPT:
                size = max(SMALL, limit)
    except (struct.error, IndexError):
        raise Malformed from None
    return Question(".".join(labels).lower(), kind, flags, size, packet[_HEADER.size : end])


def answer(question: Question, code: int, records: list[bytes], *, limit: int) -> bytes:
    """Everything behind the first two bytes, which are the query's own. What does not fit in ``limit`` bytes is left
    out, and the asker is told to ask again by TCP."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | question.flags & (_RECURSION_DESIRED | _OPCODE) | code
    if code in (NOERROR, NXDOMAIN):
        flags |= _AUTHORITATIVE
    body = question.section + b"".join(records)
    if _HEADER.size + len(body) > limit:
        flags, records, body = flags | _TRUNCATED, [], question.section
    return _HEADER.pack(0, flags, 1, len(records), 0, 0)[2:] + body


def refusal(packet: bytes, code: int) -> bytes:
    """A whole answer to a packet that cannot be read further than its header."""
    number, flags = struct.unpack_from(">HH", packet)
    return _HEADER.pack(
        number, _RESPONSE | _RECURSION_AVAILABLE | flags & (_RECURSION_DESIRED | _OPCODE) | code, 0, 0, 0, 0
    )


def address_record(address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed
    kind = A if len(packed) == 4 else AAAA
    return _NAME_OF_QUESTION + _RECORD.pack(kind, _IN, _TTL, len(packed)) + packed


def pointer_record(name: str) -> bytes:
    encoded = b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".")) + b"\0"
    return _NAME_OF_QUESTION + _RECORD.pack(PTR, _IN, _TTL, len(encoded)) + encoded


def asked_address(name: str) -> str:
    """The address that a reverse look-up is for, "" when the name is not one."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(reversed(labels[:32]))))
    except ValueError:
        return ""
    return ""


def code_of(packet: bytes) -> int:
    return packet[3] & 0x0F if len(packet) > 3 else SERVFAIL
