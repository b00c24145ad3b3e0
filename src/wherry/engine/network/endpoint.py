"""One container's place on one network: what may be asked for, what it gets, and what is told of it."""

import ipaddress
import os
from collections.abc import Iterable, Iterator

import msgspec

from wherry.common.errors import EngineError, Forbidden, InvalidParameter
from wherry.engine.network import options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.linux.rtnetlink import mac_bytes
from wherry.model.container import Container
from wherry.model.network import Attachment, EndpointSettings, IpamConfig, Network
from wherry.network.bridge import BridgeError
from wherry.network.ipam import AddressError, AddressInUse, PoolExhausted, mac_for, network_of, pick
from wherry.runtime.spec import Interface


def check(network: Network, settings: EndpointSettings) -> None:
    """Raises InvalidParameter for what a network of this kind does not give."""
    wrong = list(_wrong_settings(network, settings))
    if wrong:
        listed = wrong if len(wrong) == 1 else [f"* {each}" for each in wrong]
        raise InvalidParameter("\n".join(("invalid endpoint settings:", *listed)))
    for text in settings.ipam_config.link_local_ips if settings.ipam_config is not None else ():
        if not ipaddress.ip_address(text).is_link_local:
            raise InvalidParameter(f"invalid link local IP address: {text}")
    if settings.mac_address and not is_mac(settings.mac_address):
        raise InvalidParameter(f"invalid MAC address {settings.mac_address}")


def is_mac(text: str) -> bool:
    """Whether an interface can have it: the kernel takes neither the address of a group nor that of nobody."""
    try:
        address = mac_bytes(text)
    except ValueError:
        return False
    return len(address) == 6 and not address[0] & 1 and any(address)


def _wrong_settings(network: Network, settings: EndpointSettings) -> Iterator[str]:
    asked = settings.ipam_config or IpamConfig()
    addresses = [(version, text) for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)) if text]
    if addresses and network.is_predefined:
        yield "user specified IP address is supported on user defined networks only"
    if settings.aliases and network.is_predefined:
        yield "network-scoped alias is supported only for containers in user defined networks"
    valid = []
    for version, text in addresses:
        try:
            valid.append(ipaddress.ip_address(text))
        except ValueError:
            yield f"invalid IPv{version} address: {text}"
            continue
        if valid[-1].version != version:
            yield f"invalid IPv{version} address: {valid.pop()}"
    for text in asked.link_local_ips:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            yield f"invalid link-local IP address: {text}"
    subnets = [network_of(pool.subnet) for pool in network.ipam.config if pool.subnet]
    for address in valid if not network.is_predefined else ():
        of_version = [subnet for subnet in subnets if subnet.version == address.version]
        if not of_version:
            yield "user specified IP address is supported only when connecting to networks with user configured subnets"
        elif not any(address in subnet for subnet in of_version):
            yield f"no configured subnet or ip-range contain the IP address {address}"


def connect(container: Container, network: Network, drivers: NetworkDrivers) -> None:
    """Gives the container its addresses, and writes them into its record. Raises EngineError, and then has nothing."""
    settings = container.networks[network.name]
    attachment = container.attachments.setdefault(network.name, Attachment())
    asked = settings.ipam_config
    taken: list[str] = []
    try:
        for version in (4, 6):
            wanted = ""
            if asked is not None:
                wanted = asked.ipv4_address if version == 4 else asked.ipv6_address
            _allocate(network, drivers, settings, version, wanted, attachment.last_addresses, taken)
        attachment.bridge = drivers.plug(network)
    except (AddressError, BridgeError) as error:
        for address in taken:
            drivers.give_back(network, address)
        clear(settings, attachment)
        kind = Forbidden if isinstance(error, AddressInUse) else EngineError
        raise kind(f"failed to set up container networking: {error}") from None
    settings.network_id, settings.endpoint_id = network.id, os.urandom(32).hex()
    settings.mac_address = attachment.asked_mac or _mac(network, settings)
    settings.dns_names = names(container, settings) if not network.is_predefined else None
    attachment.host_interface = drivers.host_interface(settings.endpoint_id) if network.driver == "bridge" else ""
    attachment.interface = (settings.driver_opts or {}).get(options.ENDPOINT_INTERFACE, "")


def in_order(container: Container, networks: Iterable[Network]) -> list[Network]:
    """The best way out first, as Docker has it: that with the highest priority, not an internal one, one with gateways
    of both versions of IP rather than of one, the first by name."""

    def rank(network: Network) -> tuple[int, bool, int, str]:
        settings = container.networks[network.name]
        gateways = bool(settings.gateway) + bool(settings.ipv6_gateway)
        return -settings.gw_priority, network.internal, -gateways, network.name

    return sorted(networks, key=rank)


def name_interfaces(container: Container, networks: Iterable[Network]) -> None:
    """Names the interfaces that have no name of their own: eth0 is the best way out."""
    for network in in_order(container, networks):
        attachment = container.attachments[network.name]
        attachment.interface = attachment.interface or _free_name(container, network)


def _allocate(
    network: Network,
    drivers: NetworkDrivers,
    settings: EndpointSettings,
    version: int,
    wanted: str,
    last: Iterable[str],
    taken: list[str],
) -> None:
    pools = [pool for pool in drivers.pools(network) if pool.subnet.version == version]
    pool = pick(pools, wanted)
    if pool is None:
        if wanted:
            raise AddressError(f"no configured subnet contains IP address {wanted}")
        return
    try:
        address = pool.allocate(wanted, before=next((each for each in last if each in pool), ""))
    except PoolExhausted:
        where = f"{network.name} ({network.id})"
        raise AddressError(f"no available IPv{version} addresses on this network's address pools: {where}") from None
    taken.append(address)
    routed = network.driver == "bridge" or not network.internal
    gateway = pool.gateway if routed and not network.internal else ""
    if version == 4:
        settings.ip_address, settings.ip_prefix_len, settings.gateway = address, pool.length, gateway
    else:
        settings.global_ipv6_address, settings.global_ipv6_prefix_len = address, pool.length
        settings.ipv6_gateway = gateway


def disconnect(container: Container, network: Network, drivers: NetworkDrivers) -> None:
    """Gives the addresses back."""
    settings = container.networks[network.name]
    attachment = container.attachments[network.name]
    attachment.last_addresses = tuple(filter(None, (settings.ip_address, settings.global_ipv6_address)))
    for address in attachment.last_addresses:
        drivers.give_back(network, address, settings.mac_address)
    clear(settings, attachment)
    drivers.unplug(attachment.bridge)
    attachment.interface = attachment.host_interface = attachment.bridge = ""


def adopt(container: Container, network: Network, drivers: NetworkDrivers) -> None:
    """Notes the addresses and the port of a container that runs."""
    settings = container.networks[network.name]
    attachment = container.attachments.setdefault(network.name, Attachment())
    if network.driver == "bridge":
        attachment.bridge = attachment.bridge or drivers.bridge_name(network)
        drivers.adopt_port(network, attachment.bridge)
    for address in (settings.ip_address, settings.global_ipv6_address):
        for pool in drivers.pools(network):
            if address and address in pool:
                pool.adopt(address)


def announce(container: Container, network: Network, drivers: NetworkDrivers) -> None:
    """Tells the neighbours that its addresses are here now."""
    settings = container.networks[network.name]
    addresses = filter(None, (settings.ip_address, settings.global_ipv6_address))
    drivers.announce(network, container.attachments[network.name], settings.mac_address, addresses)


def clear(settings: EndpointSettings, attachment: Attachment) -> None:
    """What a container that does not run has not. Its network it has all the same, and what was asked for."""
    settings.mac_address = attachment.asked_mac
    settings.endpoint_id = settings.gateway = settings.ip_address = ""
    settings.ipv6_gateway = settings.global_ipv6_address = ""
    settings.ip_prefix_len = settings.global_ipv6_prefix_len = 0


def names(container: Container, settings: EndpointSettings) -> list[str]:
    """What the container is called on a user-defined network, its own name first."""
    hostname = container.config.hostname
    return list(dict.fromkeys([container.name, *(settings.aliases or ()), container.id[:12], hostname]))


def interface(container: Container, network: Network, drivers: NetworkDrivers, gateways: tuple[str, ...]) -> Interface:
    """What the runtime is told. ``gateways`` are those of this network that the container's default routes lead to."""
    settings, attachment = container.networks[network.name], container.attachments[network.name]
    found = Interface(
        name=attachment.interface,
        parent=attachment.bridge,
        host_name=attachment.host_interface,
        mac=settings.mac_address,
        mtu=drivers.mtu(network),
        addresses=tuple(f"{address}/{length}" for address, length in _addresses(settings) if address),
        gateways=gateways,
        hairpin=bool(container.host_config.port_bindings or container.host_config.publish_all_ports),
        sysctls=_sysctls(settings, attachment.interface),
    )
    if network.driver == "bridge":
        return found
    parent, _ = drivers.parent(network)
    is_macvlan = network.driver == "macvlan"
    mode = options.macvlan_mode(network.options) if is_macvlan else options.ipvlan_mode(network.options)
    return msgspec.structs.replace(
        found, kind="macvlan" if is_macvlan else "ipvlan", parent=parent, mode=mode, mtu=options.mtu(network)
    )


def _addresses(settings: EndpointSettings) -> Iterator[tuple[str, int]]:
    yield settings.ip_address, settings.ip_prefix_len
    yield settings.global_ipv6_address, settings.global_ipv6_prefix_len
    for address in settings.ipam_config.link_local_ips if settings.ipam_config is not None else ():
        yield address, 64 if ":" in address else 16


def _sysctls(settings: EndpointSettings, name: str) -> dict[str, str]:
    """Reads "net.ipv4.conf.IFNAME.log_martians=1,…"; raises InvalidParameter."""
    found = {}
    for entry in filter(None, (settings.driver_opts or {}).get(options.ENDPOINT_SYSCTLS, "").split(",")):
        key, equals, value = entry.partition("=")
        parts = key.replace("/", ".").split(".")
        if not equals or len(parts) != 5 or parts[0] != "net" or parts[3].upper() != "IFNAME":
            raise InvalidParameter(f"invalid sysctl {entry!r}: it is to be net.ipv4.conf.IFNAME.<name>=<value>")
        parts[3] = name
        found["/".join(parts)] = value
    return found


def _mac(network: Network, settings: EndpointSettings) -> str:
    if network.driver == "ipvlan":
        return ""
    if settings.ip_address:
        return mac_for(settings.ip_address)
    return "02:57:" + os.urandom(4).hex(":")


def _free_name(container: Container, network: Network) -> str:
    prefix = network.options.get(options.INTERFACE_PREFIX, "") or "eth"
    taken = {each.interface for each in container.attachments.values()}
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"
