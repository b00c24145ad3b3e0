"""Addresses: which subnet a network gets, and which address an endpoint. Pure: nothing is asked of the kernel here."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# (block, length of the subnets that are cut from it). The first are Docker's, which hold 31 networks; the last goes on
# where no default of routers, clouds or clusters lies.
_POOLS = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
    ("10.192.0.0/11", 24),
)
_LENGTH_6 = 64


class AddressError(Exception):
    """No address, or not this one; the text says why."""


class AddressInUse(AddressError):
    def __init__(self) -> None:
        super().__init__("Address already in use")


def network_of(text: str) -> IpNetwork:
    """ "10.1.2.3/24" is 10.1.2.0/24. Raises AddressError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise AddressError(f"invalid CIDR address: {text}") from None


def address_of(text: str) -> IpAddress:
    """Raises AddressError."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise AddressError(f"invalid IP address: {text}") from None


def overlap(one: IpNetwork, other: IpNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def choose_subnet(taken: Iterable[IpNetwork], pools: Iterable[tuple[str, int]] = ()) -> str:
    """The first subnet of ``pools`` that overlaps none of ``taken``. Raises AddressError when all do."""
    in_use = list(taken)
    for block, length in pools or _POOLS:
        found = _first_gap(network_of(block), length, in_use)
        if found is not None:
            return str(found)
    raise AddressError("all predefined address pools have been fully subnetted")


def choose_subnet_6(taken: Iterable[IpNetwork], engine_id: str) -> str:
    """A unique local subnet (RFC 4193) below a /48 that is this engine's own."""
    site = b"\xfd" + hashlib.sha256(engine_id.encode()).digest()[:5]
    return choose_subnet(taken, [(f"{ipaddress.IPv6Address(site + bytes(10))}/48", _LENGTH_6)])


def _first_gap(block: IpNetwork, length: int, taken: Iterable[IpNetwork]) -> IpNetwork | None:
    """One walk over what is taken, in order: there may be thousands of networks."""
    size = 1 << block.max_prefixlen - length
    start = int(block.network_address)
    ends = ((int(each[0]), int(each[-1])) for each in taken if each.version == block.version)
    for first, last in sorted(ends):
        if first >= start + size:
            break
        if last >= start:
            start = (last // size + 1) * size
    if start > int(block.broadcast_address):
        return None
    return ipaddress.IPv4Network((start, length)) if block.version == 4 else ipaddress.IPv6Network((start, length))


def mac_for(address: str) -> str:
    """A locally administered address that belongs to an IPv4 address, so that whoever remembers where that was is still
    right when another container has it."""
    return b"\x02\x57".hex(":") + ":" + address_of(address).packed[-4:].hex(":")


class PoolExhausted(AddressError):
    """There is no address left."""


class Pool:
    """The addresses of one subnet. Nothing is handed out twice before it was given back."""

    def __init__(
        self, subnet: str, *, ip_range: str = "", gateway: str = "", reserved: Mapping[str, str] | None = None
    ) -> None:
        """``reserved`` are auxiliary addresses by their names. Raises AddressError for what is not in the subnet."""
        self.subnet = network_of(subnet)
        self._range = network_of(ip_range) if ip_range else self.subnet
        if not overlap(self._range, self.subnet):
            raise AddressError(f"ip-range {ip_range} is not in the subnet {subnet}")
        first = int(self.subnet.network_address)
        last = first + self.subnet.num_addresses - 1
        self._lowest = int(self._range.network_address)  # no address of the range below it is free
        self._in_use: set[int] = set()
        if self.subnet.num_addresses > 2:
            self._in_use.add(first)
            if self.subnet.version == 4:
                self._in_use.add(last)
        for address in (reserved or {}).values():
            self._in_use.add(self._inside(address, "auxiliary address"))
        if gateway:
            number = self._inside(gateway, "gateway")
            if number in self._in_use and gateway in (reserved or {}).values():
                raise AddressError("failed to allocate gateway: Address already in use")
            self._in_use.add(number)
            self.gateway = str(address_of(gateway))
        else:
            self.gateway = str(self._take(self._first_free()))

    @property
    def length(self) -> int:
        return self.subnet.prefixlen

    def allocate(self, asked: str = "", *, before: str = "") -> str:
        """An address: the one that is asked for, or that the same endpoint had ``before`` if it is free, or the lowest
        that is. Raises AddressError."""
        if asked:
            number = self._inside(asked, "address")
            if number in self._in_use:
                raise AddressInUse
            return str(self._take(number))
        if before and int(address_of(before)) not in self._in_use:
            return str(self._take(self._inside(before, "address")))
        return str(self._take(self._first_free()))

    def adopt(self, address: str) -> None:
        """Notes an address that a running container has."""
        number = int(address_of(address))
        self._in_use.add(number)

    def release(self, address: str) -> None:
        number = int(address_of(address))
        self._in_use.discard(number)
        if number >= int(self._range.network_address):
            self._lowest = min(self._lowest, number)

    @property
    def used(self) -> int:
        """How many addresses are not to be had any more, those that no endpoint has among them."""
        return len(self._in_use)

    @property
    def free(self) -> int:
        """How many can still be handed out to who asks for any."""
        first = int(self._range.network_address)
        last = first + self._range.num_addresses
        return self._range.num_addresses - sum(first <= number < last for number in self._in_use)

    def __contains__(self, address: str) -> bool:
        found = address_of(address)
        return found.version == self.subnet.version and found in self.subnet

    def _inside(self, text: str, what: str) -> int:
        address = address_of(text)
        if address.version != self.subnet.version or address not in self.subnet:
            raise AddressError(f"{what} {text} is not in the subnet {self.subnet}")
        return int(address)

    def _first_free(self) -> int | None:
        last = int(self._range.broadcast_address)
        while self._lowest <= last and self._lowest in self._in_use:
            self._lowest += 1
        return self._lowest if self._lowest <= last else None

    def _take(self, number: int | None) -> IpAddress:
        if number is None:
            raise PoolExhausted(f"no available addresses in the pool {self._range}")
        self._in_use.add(number)
        return ipaddress.IPv4Address(number) if self.subnet.version == 4 else ipaddress.IPv6Address(number)


def pick(pools: Sequence[Pool], asked: str) -> Pool | None:
    """The pool that ``asked`` lies in; the first when nothing is asked."""
    for pool in pools:
        if not asked or asked in pool:
            return pool
    return None
