"""nftables over nfnetlink: tables, chains, rules, maps and their elements, changed in transactions.

    own = Table(INET, "wherry")
    with Nftables() as firewall:
        firewall.commit(own.create(), own.chain("guard", Hook("filter", PREROUTING, -300)), own.rule("guard", …), …)

The methods of ``Table`` make requests, ``Nftables.commit`` carries any number of them out, all or none. What rules are
made of is in ``nft_expressions``.
"""

import errno
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wherry.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    Netlink,
    Request,
    attribute,
    attributes,
    each_attribute,
    nested,
    text,
)
from wherry.linux.nft_expressions import ACCEPT, DROP, be, data, element, number
from wherry.linux.syscalls import SyscallError

INET, IPV4, IPV6, BRIDGE = 1, 2, 10, 7
"""Families of tables. INET sees IPv4 and IPv6, BRIDGE what passes between the ports of a bridge."""

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
"""Hooks."""

GROUP = 7  # of notifications
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11

_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN = 0, 2, 3, 4
_NEWRULE, _GETRULE, _DELRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 6, 7, 8, 9, 12, 14
NEWGEN = _SUBSYSTEM | 15
"""The kind of the notification that ends a transaction."""

_GENERATION = struct.Struct(">BBH")
_ELEMENTS_AT_ONCE = 400  # an attribute has no more than 64 KiB
_USERDATA_COMMENT = 0
_HOST_ORDER = struct.pack("=BBI", 0, 4, 1)  # how nft(8) is to print names of interfaces
_NFT_SET_MAP = 0x8


class Hook(NamedTuple):
    """Where the packets of a base chain come from. ``kind`` "filter" or "nat"."""

    kind: str
    number: int
    priority: int


class Field(NamedTuple):
    """A field of a key, as nft(8) numbers its type, which it needs to print a set."""

    number: int
    size: int


IP, IP6, PORT, PROTOCOL, INTERFACE = Field(7, 4), Field(8, 16), Field(13, 2), Field(12, 1), Field(41, 16)

Element = tuple[bytes, bytes]
"""A key and a value, which is empty in a set."""


class Table(NamedTuple):
    """A table by its name, whether it is there or not. Every method makes requests."""

    family: int
    name: str

    def create(self) -> Request:
        return self._request(_NEWTABLE, "create table", text(1, self.name), NLM_F_CREATE)

    def delete(self) -> Request:
        """Deletes it with all that is in it. One that may not be there is made first, in the same transaction."""
        return self._request(_DELTABLE, "delete table", text(1, self.name))

    def chain(self, name: str, hook: Hook | None = None) -> Request:
        body = text(1, self.name) + text(3, name)
        if hook is not None:
            body += nested(4, number(1, hook.number), number(2, hook.priority)) + text(7, hook.kind)
        return self._request(_NEWCHAIN, f"create chain {name} of", body, NLM_F_CREATE)

    def rule(self, chain: str, *expressions: bytes, comment: str = "", at_the_top: bool = False) -> Request:
        body = text(1, self.name) + text(2, chain) + nested(4, *expressions)
        if comment:
            value = comment.encode() + b"\0"
            body += attribute(7, bytes((_USERDATA_COMMENT, len(value))) + value)
        flags = NLM_F_CREATE | (0 if at_the_top else NLM_F_APPEND)
        return self._request(_NEWRULE, f"add a rule to chain {chain} of", body, flags)

    def delete_rule(self, chain: str, handle: int) -> Request:
        body = text(1, self.name) + text(2, chain) + attribute(3, be(handle, 8))
        return self._request(_DELRULE, f"delete a rule of chain {chain} of", body)

    def set(self, name: str, key: Sequence[Field], value: Sequence[Field] = (), *, own: int) -> Request:
        """A set, or with ``value`` a map. ``own`` is a number that no other set of the transaction has."""
        kind, length = _typed(key)
        body = text(1, self.name) + text(2, name) + number(3, _NFT_SET_MAP if value else 0)
        body += number(4, kind) + number(5, length) + number(10, own)
        if list(key) == [INTERFACE]:
            body += attribute(13, _HOST_ORDER)
        if value:
            kind, length = _typed(value)
            body += number(6, kind) + number(7, length)
        return self._request(_NEWSET, f"create set {name} of", body, NLM_F_CREATE)

    def add(self, name: str, elements: Iterable[Element]) -> list[Request]:
        """Adds to a set or map."""
        return [
            self._request(_NEWSETELEM, f"add to set {name} of", body, NLM_F_CREATE)
            for body in self._packed(name, elements)
        ]

    def remove(self, name: str, elements: Iterable[Element]) -> list[Request]:
        keys = ((key, b"") for key, _ in elements)
        return [self._request(_DELSETELEM, f"delete from set {name} of", body) for body in self._packed(name, keys)]

    def _packed(self, name: str, elements: Iterable[Element]) -> Iterable[bytes]:
        packed = [element(data(1, key) + (data(2, value) if value else b"")) for key, value in elements]
        for start in range(0, len(packed), _ELEMENTS_AT_ONCE):
            yield text(1, self.name) + text(2, name) + nested(3, *packed[start : start + _ELEMENTS_AT_ONCE])

    def _request(self, kind: int, what: str, body: bytes, flags: int = 0) -> Request:
        return _request(kind, self.family, body, f"{what} nftables table {self.name}", flags)


def _request(kind: int, family: int, body: bytes, what: str, flags: int = 0) -> Request:
    return Request(_SUBSYSTEM | kind, _GENERATION.pack(family, 0, 0) + body, flags, what)


def _typed(fields: Sequence[Field]) -> tuple[int, int]:
    """(type, length) of a concatenation."""
    kind = 0
    for field in fields:
        kind = kind << 6 | field.number
    if len(fields) == 1:
        return kind, fields[0].size
    return kind, sum((field.size + 3) & ~3 for field in fields)


class BaseChain(NamedTuple):
    """``policy`` is ACCEPT or DROP."""

    table: Table
    name: str
    hook: int
    policy: int


class RuleOf(NamedTuple):
    """``refuses``: whatever comes as far as this rule goes no further."""

    chain: str
    handle: int
    comment: str
    refuses: bool


class Nftables(Netlink):
    """A socket of nftables, for the network namespace that it was made in."""

    def __init__(self, *, groups: Sequence[int] = (), fd: int | None = None) -> None:
        super().__init__(NETLINK_NETFILTER, groups=groups, fd=fd)

    def commit(self, *requests: Request) -> None:
        """Carries all of them out, or none, and then raises SyscallError for the first that failed."""
        body = _GENERATION.pack(0, 0, _SUBSYSTEM >> 8)
        begin = Request(_BATCH_BEGIN, body, what="change nftables")
        self.execute(begin, *requests, Request(_BATCH_END, body, what="change nftables"))

    def base_chains(self) -> list[BaseChain]:
        found = []
        for family in (IPV4, IPV6, INET, BRIDGE):
            for message in self._dump(_GETCHAIN, family):
                values = attributes(message.body, _GENERATION.size)
                hook = attributes(values[4]) if 4 in values else {}
                if hook:
                    policy = int.from_bytes(values.get(5, be(ACCEPT)), "big")
                    table = Table(family, _text(values[1]))
                    found.append(BaseChain(table, _text(values[3]), int.from_bytes(hook[1], "big"), policy))
        return found

    def chains(self, table: Table) -> list[str]:
        found = (attributes(message.body, _GENERATION.size) for message in self._dump(_GETCHAIN, table.family))
        return [_text(values[3]) for values in found if _text(values[1]) == table.name]

    def rules(self, table: Table) -> list[RuleOf]:
        """The rules of a table, in their order; none when there is no such table."""
        found = []
        for message in self._dump(_GETRULE, table.family, text(1, table.name)):
            values = attributes(message.body, _GENERATION.size)
            handle = int.from_bytes(values.get(3, b""), "big")
            found.append(RuleOf(_text(values[2]), handle, _comment(values.get(7, b"")), _refuses(values.get(4, b""))))
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


def _refuses(expressions: bytes) -> bool:
    """No condition stands before a drop or a reject, which iptables has as a target of its own."""
    for _, expression in each_attribute(expressions):
        values = attributes(expression)
        name, inner = _text(values.get(1, b"")), attributes(values.get(2, b""))
        if name == "immediate":
            code = attributes(attributes(inner.get(2, b"")).get(2, b"")).get(1, b"")
            return bool(code) and int.from_bytes(code, "big") == DROP
        if name == "target":
            return _text(inner.get(1, b"")) in ("REJECT", "DROP")
        if name not in ("counter", "log"):
            return name == "reject"
    return False


def _comment(userdata: bytes) -> str:
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == _USERDATA_COMMENT:
            return _text(userdata[2 : 2 + length])
        userdata = userdata[2 + length :]
    return ""
