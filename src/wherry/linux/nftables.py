"""nftables over nfnetlink: tables, chains, rules, maps and their elements, changed in transactions.

with Nftables() as firewall:
    firewall.commit(table(INET, "wherry"), chain(...), rule(...), add_elements(...))

The functions in lower case make requests, ``Nftables.commit`` carries any number of them out, all or none. An
expression reads into registers or from them; there are sixteen of four bytes each, and a value may stretch over several
that follow one another, which is also how concatenated keys are put together.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wherry.linux.errors import SyscallError
from wherry.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    Netlink,
    Request,
    attribute,
    attributes,
    nested,
    text,
)

INET, IPV4, IPV6, BRIDGE = 1, 2, 10, 7
"""Families of tables. INET sees IPv4 and IPv6, BRIDGE what passes between the ports of a bridge."""

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
"""Hooks."""

ACCEPT, DROP, JUMP, RETURN = 1, 0, -3, -5
"""Verdicts."""

GROUP = 7  # of notifications
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11

_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN = 0, 2, 3, 4, 5
_NEWRULE, _GETRULE, _DELRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 6, 7, 8, 9, 12, 14
NEWGEN = _SUBSYSTEM | 15
"""The kind of the notification that ends a transaction."""

_GENERATION = struct.Struct(">BBH")
_LIST_ELEM = 1
_ELEMENTS_AT_ONCE = 400  # an attribute has no more than 64 KiB
_USERDATA_COMMENT = 0
_HOST_ORDER = struct.pack("=BBI", 0, 4, 1)  # how nft(8) is to print names of interfaces

_NFT_SET_MAP = 0x8

_BASE_NETWORK, _BASE_TRANSPORT = 1, 2

_META_PROTOCOL, _META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 1, 6, 7, 15, 16
_CT_STATE, _CT_STATUS = 0, 2
STATE_ESTABLISHED, STATE_RELATED, STATE_NEW = 2, 4, 8
_STATUS_DNAT = 0x20
_FIB_OIF, _FIB_ADDRTYPE = 1, 3
_FIB_SADDR, _FIB_DADDR, _FIB_IIF = 1, 2, 8
_RTN_LOCAL = 2
_NAT_DNAT = 1

FIRST = 8
"""The first register. Every match starts here; only keys and addresses to translate to need to know."""
_VERDICT = 0


def be(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def _number(kind: int, value: int) -> bytes:
    """A u32 in network byte order, as nftables has them."""
    return attribute(kind, be(value & 0xFFFFFFFF))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def interface_name(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def padded(*fields: bytes) -> bytes:
    """A concatenated key: each field starts a register."""
    return b"".join(field + bytes(-len(field) % 4) for field in fields)


# --- expressions


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(_LIST_ELEM, text(1, name), nested(2, *parts))


def load_meta(key: int, register: int = FIRST) -> bytes:
    return _expression("meta", _number(2, key), _number(1, register))


def load_payload(base: int, offset: int, length: int, register: int = FIRST) -> bytes:
    return _expression("payload", _number(1, register), _number(2, base), _number(3, offset), _number(4, length))


def compare(value: bytes, *, differs: bool = False, register: int = FIRST) -> bytes:
    return _expression("cmp", _number(1, register), _number(2, int(differs)), _data(3, value))


def masked(mask: bytes, register: int = FIRST) -> bytes:
    """The register's bits that are in ``mask``."""
    zero = bytes(len(mask))
    parts = (_number(1, register), _number(2, register), _number(3, len(mask)), _data(4, mask), _data(5, zero))
    return _expression("bitwise", *parts)


def look_up(name: str, *, into: int | None = None, absent: bool = False, register: int = FIRST) -> bytes:
    """Goes on when the key in ``register`` is in the set (``absent``: is not); of a map, its value goes ``into``."""
    parts = [text(1, name), _number(2, register)]
    if into is not None:
        parts.append(_number(3, into))
    if absent:
        parts.append(_number(5, 1))
    return _expression("lookup", *parts)


def verdict(code: int, chain: str = "") -> bytes:
    inner = _number(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", _number(1, _VERDICT), nested(2, nested(2, inner)))


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
    load = _expression("ct", _number(1, FIRST), _number(2, _CT_STATE))
    return load + masked(struct.pack("=I", sum(states))) + compare(bytes(4), differs=True)


def is_published() -> bytes:
    """The packet's connection has its destination translated."""
    load = _expression("ct", _number(1, FIRST), _number(2, _CT_STATUS))
    return load + masked(struct.pack("=I", _STATUS_DNAT)) + compare(bytes(4), differs=True)


def is_for_this_host() -> bytes:
    load = _expression("fib", _number(1, FIRST), _number(2, _FIB_ADDRTYPE), _number(3, _FIB_DADDR))
    return load + compare(struct.pack("=I", _RTN_LOCAL))


def source_is_elsewhere() -> bytes:
    """There is no route to the packet's source by the interface that it came from: it lies about who it is from."""
    load = _expression("fib", _number(1, FIRST), _number(2, _FIB_OIF), _number(3, _FIB_SADDR | _FIB_IIF))
    return load + compare(bytes(4))


def translate_destination(version: int, address: int, port: int) -> bytes:
    """To the address and the port in these registers."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    parts = (_number(1, _NAT_DNAT), _number(2, family), _number(3, address), _number(5, port))
    return _expression("nat", *parts)


def load_constant(value: bytes, register: int) -> bytes:
    return _expression("immediate", _number(1, register), _data(2, value))


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    return _expression("counter")


# --- tables, chains, rules, sets


class Hook(NamedTuple):
    """Where the packets of a base chain come from. ``kind`` "filter" or "nat"."""

    kind: str
    number: int
    priority: int


def _request(kind: int, family: int, body: bytes, what: str, flags: int = 0, forgiven: tuple[int, ...] = ()) -> Request:
    return Request(_SUBSYSTEM | kind, _GENERATION.pack(family, 0, 0) + body, flags, what, forgiven)


def table(family: int, name: str) -> Request:
    return _request(_NEWTABLE, family, text(1, name), f"create nftables table {name}", NLM_F_CREATE)


def delete_table(family: int, name: str) -> Request:
    """With all that is in it. Of one that may not be there, make it first, in the same transaction."""
    return _request(_DELTABLE, family, text(1, name), f"delete nftables table {name}")


def chain(family: int, table: str, name: str, hook: Hook | None = None) -> Request:
    body = text(1, table) + text(3, name)
    if hook is not None:
        body += nested(4, _number(1, hook.number), _number(2, hook.priority)) + text(7, hook.kind)
    return _request(_NEWCHAIN, family, body, f"create nftables chain {name}", NLM_F_CREATE)


def rule(
    family: int, table: str, chain: str, *expressions: bytes, comment: str = "", at_the_top: bool = False
) -> Request:
    body = text(1, table) + text(2, chain) + nested(4, *expressions)
    if comment:
        value = comment.encode() + b"\0"
        body += attribute(7, bytes((_USERDATA_COMMENT, len(value))) + value)
    flags = NLM_F_CREATE | (0 if at_the_top else NLM_F_APPEND)
    return _request(_NEWRULE, family, body, f"add a rule to nftables chain {chain}", flags)


def delete_rule(family: int, table: str, chain: str, handle: int) -> Request:
    body = text(1, table) + text(2, chain) + attribute(3, be(handle, 8))
    return _request(_DELRULE, family, body, f"delete a rule of nftables chain {chain}")


class Field(NamedTuple):
    """A field of a key, as nft(8) names its type, which it needs to print a set."""

    number: int
    size: int


IP, IP6, PORT, PROTOCOL, INTERFACE = Field(7, 4), Field(8, 16), Field(13, 2), Field(12, 1), Field(41, 16)


def _typed(fields: Sequence[Field]) -> tuple[int, int]:
    """(type, length) of a concatenation."""
    kind = 0
    for field in fields:
        kind = kind << 6 | field.number
    if len(fields) == 1:
        return kind, fields[0].size
    return kind, sum((field.size + 3) & ~3 for field in fields)


def table_of(
    family: int, table: str, name: str, key: Sequence[Field], value: Sequence[Field] = (), *, number: int
) -> Request:
    """A set, or with ``value`` a map. ``number`` tells it from the others of one transaction."""
    kind, length = _typed(key)
    body = text(1, table) + text(2, name) + _number(3, _NFT_SET_MAP if value else 0)
    body += _number(4, kind) + _number(5, length) + _number(10, number)
    if key == [INTERFACE]:
        body += attribute(13, _HOST_ORDER)
    if value:
        kind, length = _typed(value)
        body += _number(6, kind) + _number(7, length)
    return _request(_NEWSET, family, body, f"create nftables set {name}", NLM_F_CREATE)


Element = tuple[bytes, bytes]
"""A key and a value, which is empty in a set."""


def add_elements(family: int, table: str, name: str, elements: Iterable[Element]) -> list[Request]:
    return [
        _request(_NEWSETELEM, family, body, f"add to nftables set {name}", NLM_F_CREATE)
        for body in _elements(table, name, elements)
    ]


def delete_elements(family: int, table: str, name: str, elements: Iterable[Element]) -> list[Request]:
    keys = ((key, b"") for key, _ in elements)
    return [
        _request(_DELSETELEM, family, body, f"delete from nftables set {name}") for body in _elements(table, name, keys)
    ]


def _elements(table: str, name: str, elements: Iterable[Element]) -> Iterable[bytes]:
    packed = [nested(_LIST_ELEM, _data(1, key) + (_data(2, value) if value else b"")) for key, value in elements]
    for start in range(0, len(packed), _ELEMENTS_AT_ONCE):
        yield text(1, table) + text(2, name) + nested(3, *packed[start : start + _ELEMENTS_AT_ONCE])


class BaseChain(NamedTuple):
    """``policy`` is ACCEPT or DROP."""

    family: int
    table: str
    name: str
    hook: int
    policy: int


class RuleOf(NamedTuple):
    chain: str
    handle: int
    comment: str


class Nftables(Netlink):
    """A socket of nftables, for the network namespace that it was made in."""

    def __init__(self, *, groups: Sequence[int] = (), fd: int | None = None) -> None:
        super().__init__(NETLINK_NETFILTER, groups=groups, fd=fd)

    def __enter__(self) -> "Nftables":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def commit(self, *requests: Request) -> None:
        """Carries all of them out, or none, and then raises SyscallError for the first that failed."""
        body = _GENERATION.pack(0, 0, _SUBSYSTEM >> 8)
        begin = Request(_BATCH_BEGIN, body, what="change nftables")
        self.execute(begin, *requests, Request(_BATCH_END, body, what="change nftables"))

    def is_there(self) -> bool:
        """Whether the kernel has nftables, and lets this process use them."""
        try:
            self.base_chains()
        except SyscallError:
            return False
        return True

    def base_chains(self) -> list[BaseChain]:
        found = []
        for family in (IPV4, IPV6, INET, BRIDGE):
            for message in self._dump(_GETCHAIN, family):
                values = attributes(message.body, _GENERATION.size)
                hook = attributes(values[4]) if 4 in values else {}
                if hook:
                    policy = int.from_bytes(values.get(5, be(ACCEPT)), "big")
                    number = int.from_bytes(hook[1], "big")
                    found.append(BaseChain(family, _text(values[1]), _text(values[3]), number, policy))
        return found

    def chains(self, family: int, table: str) -> list[str]:
        found = (attributes(message.body, _GENERATION.size) for message in self._dump(_GETCHAIN, family))
        return [_text(values[3]) for values in found if _text(values[1]) == table]

    def rules(self, family: int, table: str) -> list[RuleOf]:
        """The rules of a table, in their order; none when there is no such table."""
        found = []
        for message in self._dump(_GETRULE, family, text(1, table)):
            values = attributes(message.body, _GENERATION.size)
            handle = int.from_bytes(values.get(3, b""), "big")
            found.append(RuleOf(_text(values[2]), handle, _comment(values.get(7, b""))))
        return found

    def _dump(self, kind: int, family: int, body: bytes = b"") -> list[Message]:
        try:
            return self.dump(_request(kind, family, body, "list nftables"))
        except SyscallError as error:
            if error.errno in (errno.ENOENT, errno.EAFNOSUPPORT):
                return []
            raise


def table_name(message: Message) -> str:
    """The table that a notification is about."""
    return _text(attributes(message.body, _GENERATION.size).get(1, b""))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _comment(userdata: bytes) -> str:
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == _USERDATA_COMMENT:
            return _text(userdata[2 : 2 + length])
        userdata = userdata[2 + length :]
    return ""
