"""What rules of nftables are made of: expressions, as bytes, each of which reads into registers or from them.

There are sixteen registers of four bytes each. A value may stretch over several that follow one another, which is also
how concatenated keys are put together.
"""

import socket
import struct

from wherry.linux.netlink import attribute, nested, text

ACCEPT, DROP, JUMP, RETURN = 1, 0, -3, -5
"""Verdicts."""

LIST_ELEMENT = 1
_BASE_NETWORK, _BASE_TRANSPORT = 1, 2
_META_PROTOCOL, _META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 1, 6, 7, 15, 16
_CT_STATE, _CT_STATUS = 0, 2
STATE_ESTABLISHED, STATE_RELATED, STATE_NEW = 2, 4, 8
_STATUS_DNAT = 0x20
_FIB_OIF, _FIB_ADDRTYPE = 1, 3
_FIB_SADDR, _FIB_DADDR, _FIB_IIF = 1, 2, 8
_RTN_LOCAL = 2
_NAT_SNAT, _NAT_DNAT = 0, 1

FIRST = 8
"""The first register. Every match starts here; only keys and addresses to translate to need to know."""
_VERDICT = 0


def be(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def bebe_number(kind: int, value: int) -> bytes:
    """A u32 in network byte order, as nftables has them."""
    return attribute(kind, be(value & 0xFFFFFFFF))


def data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def interface_name(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def padded(*fields: bytes) -> bytes:
    """A concatenated key: each field starts a register."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)


# --- expressions


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(LIST_ELEMENT, text(1, name), nested(2, *parts))


def load_meta(key: int, register: int = FIRST) -> bytes:
    return _expression("meta", be_number(2, key), be_number(1, register))


def load_payload(base: int, offset: int, length: int, register: int = FIRST) -> bytes:
    return _expression("payload", be_number(1, register), be_number(2, base), be_number(3, offset), be_number(4, length))


def compare(value: bytes, *, differs: bool = False, register: int = FIRST) -> bytes:
    return _expression("cmp", be_number(1, register), be_number(2, int(differs)), data(3, value))


def masked(mask: bytes, register: int = FIRST) -> bytes:
    """The register's bits that are in ``mask``."""
    zero = bytes(len(mask))
    parts = (be_number(1, register), be_number(2, register), be_number(3, len(mask)), data(4, mask), data(5, zero))
    return _expression("bitwise", *parts)


def look_up(name: str, *, into: int | None = None, absent: bool = False, register: int = FIRST) -> bytes:
    """Goes on when the key in ``register`` is in the set (``absent``: is not); of a map, its value goes ``into``."""
    parts = [text(1, name), be_number(2, register)]
    if into is not None:
        parts.append(be_number(3, into))
    if absent:
        parts.append(be_number(5, 1))
    return _expression("lookup", *parts)


def verdict(code: int, chain: str = "") -> bytes:
    inner = be_number(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", be_number(1, _VERDICT), nested(2, nested(2, inner)))


def input_interface(register: int = FIRST) -> bytes:
    return load_meta(_META_IIFNAME, register)


def output_interface(register: int = FIRST) -> bytes:
    return load_meta(_META_OIFNAME, register)


def is_ip(version: int) -> bytes:
    return load_meta(_META_NFPROTO) + compare(bytes([socket.AF_INET if version == 4 else socket.AF_INET6]))


def is_ethertype(value: int) -> bytes:
    return load_meta(_META_PROTOCOL) + compare(be(value, 2))


def load_protocol(register: int = FIRST) -> bytes:
    return load_meta(_META_L4PROTO, register)


def load_source(version: int, register: int = FIRST) -> bytes:
    return load_payload(_BASE_NETWORK, *((12, 4) if version == 4 else (8, 16)), register)


def load_destination(version: int, register: int = FIRST) -> bytes:
    return load_payload(_BASE_NETWORK, *((16, 4) if version == 4 else (24, 16)), register)


def load_source_port(register: int = FIRST) -> bytes:
    return load_payload(_BASE_TRANSPORT, 0, 2, register)


def load_destination_port(register: int = FIRST) -> bytes:
    """Of TCP, UDP and SCTP alike."""
    return load_payload(_BASE_TRANSPORT, 2, 2, register)


def state_is(*states: int) -> bytes:
    load = _expression("ct", be_number(1, FIRST), be_number(2, _CT_STATE))
    return load + masked(struct.pack("=I", sum(states))) + compare(bytes(4), differs=True)


def is_published() -> bytes:
    """The packet's connection has its destination translated."""
    load = _expression("ct", be_number(1, FIRST), be_number(2, _CT_STATUS))
    return load + masked(struct.pack("=I", _STATUS_DNAT)) + compare(bytes(4), differs=True)


def is_for_this_host() -> bytes:
    load = _expression("fib", be_number(1, FIRST), be_number(2, _FIB_ADDRTYPE), be_number(3, _FIB_DADDR))
    return load + compare(struct.pack("=I", _RTN_LOCAL))


def source_is_elsewhere() -> bytes:
    """There is no route to the packet's source by the interface that it came from: it lies about who it is from."""
    load = _expression("fib", be_number(1, FIRST), be_number(2, _FIB_OIF), be_number(3, _FIB_SADDR | _FIB_IIF))
    return load + compare(bytes(4))


def translate_destination(version: int, address: int, port: int) -> bytes:
    """To the address and the port in these registers."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    parts = (be_number(1, _NAT_DNAT), be_number(2, family), be_number(3, address), be_number(5, port))
    return _expression("nat", *parts)


def load_constant(value: bytes, register: int) -> bytes:
    return _expression("immediate", be_number(1, register), data(2, value))


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    return _expression("counter")
