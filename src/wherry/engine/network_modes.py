"""What cannot be asked of a container that has no network of its own: it shares the host's, or another container's."""

from wherry.model.config import ContainerConfig
from wherry.model.container import Container
from wherry.model.errors import Conflict, Forbidden, InvalidParameter
from wherry.model.host import HostConfig
from wherry.model.network import Network, NetworkingConfig


def check(config: ContainerConfig, host: HostConfig, networking: NetworkingConfig) -> None:
    """At the creation; ``config`` is what was asked for, without what the image says. Raises InvalidParameter."""
    joins, _, target = host.network_mode.partition(":")
    shared = joins == "container"
    if shared and not target:
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    endpoints = [each for each in networking.endpoints_config.values() if each is not None]
    published = host.port_bindings or host.publish_all_ports
    has_mac = bool(config.mac_address) or any(each.mac_address for each in endpoints)
    undefined = "can't be used with links. This would result in undefined behavior"
    conflicts = {
        "hostname and the network mode": shared and config.hostname,
        f"container type network {undefined}": shared and host.links,
        "dns and the network mode": shared and host.dns,
        "custom host-to-IP mapping and the network mode": shared and host.extra_hosts,
        "port publishing and the container type network mode": shared and published,
        "port exposing and the container type network mode": shared and config.exposed_ports,
        "hostname and the UTS mode": host.uts_mode == "host" and config.hostname,
        f"host type networking {undefined}": host.network_mode == "host" and host.links,
        "mac-address and the network mode": (shared or host.network_mode == "host") and has_mac,
    }
    for what, holds in conflicts.items():
        if holds:
            raise InvalidParameter(f"conflicting options: {what}")
    if shared and any(each.ipam_config for each in endpoints):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")


def check_connect(record: Container, network: Network) -> None:
    """Raises Forbidden and Conflict."""
    mode = record.host_config.network_mode
    if network.driver == "host" or mode == "host":
        raise Forbidden("container cannot be disconnected from host network or connected to host network")
    if mode.startswith("container:"):
        raise Conflict(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if network.driver == "null" or "none" in record.networks:
        raise Forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
