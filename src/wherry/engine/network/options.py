"""What may be asked of a network: drivers, their options, and subnets that make sense."""

import os
from collections.abc import Iterator, Mapping

from wherry.common.errors import Forbidden, InvalidParameter, NotFound, NotSupported
from wherry.common.values import parse_int, quoted
from wherry.engine.config import EngineConfig
from wherry.linux.rtnetlink import IPVLAN_MODES, MACVLAN_MODES
from wherry.model.network import IpamPool, Network, NetworkCreate
from wherry.network.ipam import AddressError, IpNetwork, address_of, network_of, overlap
from wherry.network.ruleset import Subnet

_PREFIX = "com.docker.network."
NAME = f"{_PREFIX}bridge.name"
MTU = f"{_PREFIX}driver.mtu"
MASQUERADE = f"{_PREFIX}bridge.enable_ip_masquerade"
ICC = f"{_PREFIX}bridge.enable_icc"
HOST_BINDING = f"{_PREFIX}bridge.host_binding_ipv4"
INHIBIT_IPV4 = f"{_PREFIX}bridge.inhibit_ipv4"
INTERFACE_PREFIX = f"{_PREFIX}container_iface_prefix"
ENDPOINT_INTERFACE = f"{_PREFIX}endpoint.ifname"
ENDPOINT_SYSCTLS = f"{_PREFIX}endpoint.sysctls"

_ENABLE_IPV4, _ENABLE_IPV6 = f"{_PREFIX}enable_ipv4", f"{_PREFIX}enable_ipv6"
_GATEWAY_MODE = {4: f"{_PREFIX}bridge.gateway_mode_ipv4", 6: f"{_PREFIX}bridge.gateway_mode_ipv6"}
_HOST_ADDRESS = {4: f"{_PREFIX}host_ipv4", 6: f"{_PREFIX}host_ipv6"}
_TRUSTED = f"{_PREFIX}bridge.trusted_host_interfaces"
_OF_BRIDGES = {
    *(NAME, MTU, MASQUERADE, ICC, HOST_BINDING, INHIBIT_IPV4, INTERFACE_PREFIX, _TRUSTED),
    *(_ENABLE_IPV4, _ENABLE_IPV6),
    *_GATEWAY_MODE.values(),
    *_HOST_ADDRESS.values(),
}
_MODES = ("nat", "nat-unprotected", "routed", "isolated")

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
_DRIVERS = ("bridge", "macvlan", "ipvlan")
_INTERFACE_NAME_AT_MOST = 15
_MTU_AT_LEAST, _MTU_AT_MOST = 68, 65535


def check(asked: NetworkCreate) -> None:
    """Also settles what versions of IP the network has, which an option may say as well.

    Raises InvalidParameter, NotFound for a driver that is not there, NotSupported for what needs a swarm."""
    driver = asked.driver or "bridge"
    if driver == "overlay":
        raise Forbidden(NOT_A_MANAGER)
    if asked.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if asked.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if asked.config_only or asked.config_from:
        raise NotSupported("config-only networks are for swarm mode, which this engine does not have")
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver not in _DRIVERS:
        raise NotFound(f'plugin "{driver}" not found')
    if asked.ipam.driver not in ("", "default", "null"):
        raise NotFound(f'plugin "{asked.ipam.driver}" not found')
    if asked.enable_ipv4 is None:
        asked.enable_ipv4 = truth(asked.options, _ENABLE_IPV4, default=True)
    if asked.enable_ipv6 is None:
        asked.enable_ipv6 = truth(asked.options, _ENABLE_IPV6, default=False)
    if not asked.enable_ipv4 and not asked.enable_ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    _check_options(driver, asked.options, internal=asked.internal)
    _check_subnets(asked)


def of_the_default_bridge(engine: EngineConfig) -> dict[str, str]:
    return {
        f"{_PREFIX}bridge.default_bridge": "true",
        ICC: "true" if engine.icc else "false",
        MASQUERADE: "true" if engine.ip_masq else "false",
        HOST_BINDING: engine.ip,
        **({MTU: str(engine.mtu)} if engine.mtu else {}),
    }


def pools_of_the_default_bridge(engine: EngineConfig) -> list[IpamPool]:
    """The pools that the settings name; the others the engine chooses."""
    found = []
    for bridge_address, fixed in ((engine.bip, engine.fixed_cidr), (engine.bip6, engine.fixed_cidr_v6)):
        if bridge_address or fixed:
            subnet = str(network_of(bridge_address or fixed))
            found.append(IpamPool(subnet=subnet, ip_range=fixed, gateway=bridge_address.partition("/")[0]))
    return found


def _check_options(driver: str, options: Mapping[str, str], *, internal: bool) -> None:
    unknown = {name for name in options if name.startswith(_PREFIX)} - _OF_BRIDGES
    if unknown:
        raise InvalidParameter(f"invalid network option {min(unknown)}: this engine does not know it")
    for name in (MASQUERADE, ICC, INHIBIT_IPV4):
        if name in options:
            truth(options, name, default=False)
    mtu = options.get(MTU) or options.get("mtu")
    if mtu is not None:
        try:
            number = parse_int(mtu, function="Atoi")
        except ValueError as error:
            raise InvalidParameter(f"failed to parse {MTU} value: {mtu} ({error})") from None
        if number and not _MTU_AT_LEAST <= number <= _MTU_AT_MOST:
            raise InvalidParameter(f"invalid MTU number: {number}")
    if options.get(NAME) and not is_interface_name(options[NAME]):
        raise InvalidParameter(
            f"invalid bridge name {options[NAME]!r}: at most {_INTERFACE_NAME_AT_MOST} bytes, no / : % or space"
        )
    for name, version in ((HOST_BINDING, 4), (_HOST_ADDRESS[4], 4), (_HOST_ADDRESS[6], 6)):
        try:
            if name in options and address_of(options[name]).version != version:
                raise AddressError
        except AddressError:
            raise InvalidParameter(f"failed to parse {name} value: {options[name]} (nil ip)") from None
    for name in _GATEWAY_MODE.values():
        mode = options.get(name, "nat")
        if mode not in _MODES:
            raise InvalidParameter(f"unknown gateway mode {mode}: it is one of {', '.join(_MODES)}")
        if mode == "isolated" and not internal:
            raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
    if driver == "macvlan" and macvlan_mode(options) not in MACVLAN_MODES:
        raise InvalidParameter(
            f"requested macvlan mode '{macvlan_mode(options)}' is not valid, "
            "'bridge' mode is the macvlan driver default"
        )
    if driver == "ipvlan" and ipvlan_mode(options) not in IPVLAN_MODES:
        raise InvalidParameter(
            f"requested ipvlan mode '{ipvlan_mode(options)}' is not valid, 'l2' mode is the ipvlan driver default"
        )
    if driver == "ipvlan" and (flag := options.get("ipvlan_flag", "bridge")) not in ("bridge", "private", "vepa"):
        raise InvalidParameter(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")


def is_interface_name(name: str) -> bool:
    """Whether the kernel gives it to an interface as it is: it would make a number of a %d."""
    return (
        0 < len(os.fsencode(name)) <= _INTERFACE_NAME_AT_MOST
        and name not in (".", "..")
        and not any(char in "/:%\0" or char.isspace() for char in name)
    )


def _check_subnets(asked: NetworkCreate) -> None:
    wrong = [text for pool in asked.ipam.config for text in _wrong_pool(pool, ipv6=bool(asked.enable_ipv6))]
    if wrong:
        listed = wrong if len(wrong) == 1 else [f"* {each}" for each in wrong]
        raise InvalidParameter("\n".join(("invalid network config:", *listed)))
    seen: list[IpNetwork] = []
    for pool in asked.ipam.config:
        subnet = network_of(pool.subnet)
        if any(overlap(subnet, other) for other in seen):
            raise Forbidden("Pool overlaps with other one on this address space")
        if asked.driver in ("", "bridge") and any(subnet.version == other.version for other in seen):
            raise Forbidden("bridge driver doesn't support multiple subnets")
        seen.append(subnet)


def _wrong_pool(pool: IpamPool, *, ipv6: bool) -> Iterator[str]:
    try:
        subnet = network_of(pool.subnet)
    except AddressError:
        yield f"invalid subnet {pool.subnet}: invalid CIDR block notation"
        return
    if not _is_masked(pool.subnet, subnet):
        yield f"invalid subnet {pool.subnet}: it should be {subnet}"
    if subnet.version == 6 and not ipv6:
        yield f"invalid subnet {subnet}: IPv6 has not been enabled for this network"
    if pool.ip_range:
        yield from _wrong_range(pool.ip_range, subnet)
    pool.gateway = pool.gateway.partition("/")[0]
    named = {"gateway": pool.gateway} if pool.gateway else {}
    named |= {f"auxiliary address {name}": address for name, address in pool.auxiliary_addresses.items()}
    for what, text in named.items():
        shown = f"invalid {what}" if what != "gateway" else f"invalid gateway {text}"
        try:
            if address_of(text) not in subnet:
                yield f"{shown}: parent subnet {subnet} doesn't contain this address"
        except AddressError:
            yield f"{shown}: invalid address"


def _wrong_range(text: str, subnet: IpNetwork) -> Iterator[str]:
    try:
        found = network_of(text)
    except AddressError:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
        return
    if found.prefixlen < subnet.prefixlen:
        yield f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
    elif not _is_masked(text, found):
        yield f"invalid ip-range {text}: it should be {found}"
    elif not overlap(found, subnet):
        yield f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"


def _is_masked(text: str, subnet: IpNetwork) -> bool:
    return address_of(text.partition("/")[0]) == subnet.network_address


def truth(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Raises InvalidParameter for what is no truth value of Go's."""
    value = options.get(name)
    if value is None:
        return default
    truths = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    if value.lower() not in truths:
        raise InvalidParameter(
            f"failed to parse {name} value: {value} (strconv.ParseBool: parsing {quoted(value)}: invalid syntax)"
        )
    return truths[value.lower()]


def mtu(network: Network) -> int:
    """0 is as the host's."""
    return int(network.options.get(MTU) or network.options.get("mtu") or 0)


def gateway_mode(network: Network, version: int) -> str:
    """How IPv4 or 6 of a bridge is reached: see ``ruleset.Subnet``. "isolated": the host has no address there."""
    return network.options.get(_GATEWAY_MODE[version], "nat")


def is_strange(network: Network, version: int) -> bool:
    """Whether this host is to have no address on the bridge."""
    inhibited = version == 4 and truth(network.options, INHIBIT_IPV4, default=False)
    return inhibited or gateway_mode(network, version) == "isolated"


def is_routed(network: Network, version: int) -> bool:
    """Whether a port published for IPv4 or 6 is reached at the container's own address, and none of the host's. A
    network without IPv6 has what is published for it led to IPv4."""
    has_it = network.enable_ipv6 if version == 6 else network.enable_ipv4
    return gateway_mode(network, version if has_it else 10 - version) == "routed"


def subnet(network: Network, subnet: IpNetwork) -> Subnet:
    """What the firewall is to know of it."""
    mode = gateway_mode(network, subnet.version)
    return Subnet(
        str(subnet),
        masquerade=mode != "routed" and truth(network.options, MASQUERADE, default=True),
        source=network.options.get(_HOST_ADDRESS[subnet.version], ""),
        routed=mode == "routed",
        unprotected=mode == "nat-unprotected",
        strange=is_strange(network, subnet.version),
    )


def trusted(network: Network) -> tuple[str, ...]:
    """The host's interfaces from which all of the network is reached: separated by colons."""
    return tuple(filter(None, network.options.get(_TRUSTED, "").split(":")))


def macvlan_mode(options: Mapping[str, str]) -> str:
    return options.get("macvlan_mode", "") or "bridge"


def ipvlan_mode(options: Mapping[str, str]) -> str:
    return options.get("ipvlan_mode", "") or "l2"
