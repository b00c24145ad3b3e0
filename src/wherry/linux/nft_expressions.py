"""What rules of nftables are made of: expressions, as bytes, each of which reads into registers or from them.

There are sixteen registers of four bytes each. A value may stretch over several that follow one another, which is also
how concatenated keys are put together.
"""

import socket
import struct

from wherry.linux.netlink import attribute, nested, text

ACCEPT, DROP, JUMP, RETURN = 1, 0, -3, -5
"""Verdicts."""

FIRST = 8
"""The first register. Every match starts here; only keys and addresses to translate to need to know."""

STATE_INVALID, STATE_ESTABLISHED, STATE_RELATED, STATE_NEW = 1, 2, 4, 8

_VERDICT = 0
_BASE_NETWORK, _BASE_TRANSPORT = 1, 2
_META_PROTOCOL, _META_MARK, _META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 1, 3, 6, 7, 15, 16
_CT_STATE, _CT_STATUS = 0, 2
_STATUS_DNAT = 0x20
_FIB_OIF, _FIB_ADDRTYPE = 1, 3
_FIB_SADDR, _FIB_DADDR, _FIB_IIF = 1, 2, 8
_RTN_LOCAL = 2
_NAT_SNAT, _NAT_DNAT = 0, 1
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def be(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def number(kind: int, value: int) -> bytes:
    """An attribute: a u32 in network byte order, as nftables has them."""
    return attribute(kind, be(value & 0xFFFFFFFF))


def data(kind: int, value: bytes) -> bytes:
    """An attribute: a value for registers."""
    return nested(kind, attribute(1, value))


def element(*attributes: bytes) -> bytes:
    """One of a list."""
    return nested(1, *attributes)


def interface_name(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def padded(*fields: bytes) -> bytes:
    """A concatenated key: each field starts a register."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)


def _expression(name: str, *parts: bytes) -> bytes:
    return element(text(1, name), nested(2, *parts))


# --- into registers


def load_constant(value: bytes, register: int = FIRST) -> bytes:
    return _expression("immediate", number(1, register), data(2, value))


def input_interface(register: int = FIRST) -> bytes:
    return _load_meta(_META_IIFNAME, register)


def output_interface(register: int = FIRST) -> bytes:
    return _load_meta(_META_OIFNAME, register)


def load_protocol(register: int = FIRST) -> bytes:
    return _load_meta(_META_L4PROTO, register)


def load_source(version: int, register: int = FIRST) -> bytes:
    return _load_payload(_BASE_NETWORK, *((12, 4) if version == 4 else (8, 16)), register)


def load_destination(version: int, register: int = FIRST) -> bytes:
    return _load_payload(_BASE_NETWORK, *((16, 4) if version == 4 else (24, 16)), register)


def load_source_port(register: int = FIRST) -> bytes:
    return _load_payload(_BASE_TRANSPORT, 0, 2, register)


def load_destination_port(register: int = FIRST) -> bytes:
    """Loads the port, of TCP, UDP and SCTP alike."""
    return _load_payload(_BASE_TRANSPORT, 2, 2, register)


def _load_meta(key: int, register: int = FIRST) -> bytes:
    return _expression("meta", number(2, key), number(1, register))


def _load_payload(base: int, offset: int, length: int, register: int) -> bytes:
    return _expression("payload", number(1, register), number(2, base), number(3, offset), number(4, length))


# --- matches


def compare(value: bytes, *, differs: bool = False, register: int = FIRST) -> bytes:
    return _expression("cmp", number(1, register), number(2, int(differs)), data(3, value))


def masked(mask: bytes, flipped: bytes = b"", register: int = FIRST) -> bytes:
    """The register's bits that are in ``mask``, and of these those in ``flipped`` the other way round."""
    flipped = flipped or bytes(len(mask))
    parts = (number(1, register), number(2, register), number(3, len(mask)), data(4, mask), data(5, flipped))
    return _expression("bitwise", *parts)


def look_up(name: str, *, into: int | None = None, absent: bool = False, register: int = FIRST) -> bytes:
    """Goes on when the key in ``register`` is in the set (``absent``: is not); of a map, its value goes ``into``."""
    parts = [text(1, name), number(2, register)]
    if into is not None:
        parts.append(number(3, into))
    if absent:
        parts.append(number(5, 1))
    return _expression("lookup", *parts)


def comes_by(name: str, *, differs: bool = False) -> bytes:
    return input_interface() + compare(interface_name(name), differs=differs)


def leaves_by(name: str, *, differs: bool = False) -> bytes:
    return output_interface() + compare(interface_name(name), differs=differs)


def is_ip(version: int) -> bytes:
    return _load_meta(_META_NFPROTO) + compare(bytes([_FAMILY[version]]))


def is_ethertype(value: int) -> bytes:
    return _load_meta(_META_PROTOCOL) + compare(be(value, 2))


def is_protocol(value: int) -> bytes:
    return load_protocol() + compare(bytes([value]))


def state_is(*states: int) -> bytes:
    return _has_flag(_CT_STATE, sum(states))


def is_published() -> bytes:
    """The packet's connection has its destination translated."""
    return _has_flag(_CT_STATUS, _STATUS_DNAT)


def is_marked(bit: int) -> bytes:
    return _load_meta(_META_MARK) + masked(struct.pack("=I", bit)) + compare(bytes(4), differs=True)


def is_for_this_host() -> bytes:
    load = _expression("fib", number(1, FIRST), number(2, _FIB_ADDRTYPE), number(3, _FIB_DADDR))
    return load + compare(struct.pack("=I", _RTN_LOCAL))


def source_is_elsewhere() -> bytes:
    """There is no route to the packet's source by the interface that it came from: it lies about who it is from."""
    load = _expression("fib", number(1, FIRST), number(2, _FIB_OIF), number(3, _FIB_SADDR | _FIB_IIF))
    return load + compare(bytes(4))


def _has_flag(key: int, flags: int) -> bytes:
    load = _expression("ct", number(1, FIRST), number(2, key))
    return load + masked(struct.pack("=I", flags)) + compare(bytes(4), differs=True)


# --- what is done


def verdict(code: int, chain: str = "") -> bytes:
    inner = number(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", number(1, _VERDICT), nested(2, nested(2, inner)))


def not_tracked() -> bytes:
    """No connection is looked up for the packet, nor made."""
    return _expression("notrack")


def mark(bit: int) -> bytes:
    """Sets one bit of the packet's mark, and leaves the others, which may be somebody else's."""
    load = _load_meta(_META_MARK) + masked(struct.pack("=I", 0xFFFFFFFF ^ bit), struct.pack("=I", bit))
    return load + _expression("meta", number(2, _META_MARK), number(3, FIRST))


def translate_destination(version: int, address: int, port: int) -> bytes:
    """Translates to the address and the port in these registers."""
    parts = (number(1, _NAT_DNAT), number(2, _FAMILY[version]), number(3, address), number(5, port))
    return _expression("nat", *parts)


def translate_source(version: int, address: bytes) -> bytes:
    parts = (number(1, _NAT_SNAT), number(2, _FAMILY[version]), number(3, FIRST))
    return load_constant(address) + _expression("nat", *parts)


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    return _expression("counter")
