"""Networks, and how a container is connected to one."""

from typing import Any

import msgspec

PREDEFINED = ("bridge", "host", "none")


class IpamPool(msgspec.Struct, omit_defaults=True):
    """One subnet of a network. ``auxiliary_addresses`` are those no container gets, by the names of who has them."""

    subnet: str = msgspec.field(default="", name="Subnet")
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = msgspec.field(default="", name="Gateway")
    auxiliary_addresses: dict[str, str] = msgspec.field(default_factory=dict, name="AuxiliaryAddresses")


class Ipam(msgspec.Struct):
    driver: str = msgspec.field(default="default", name="Driver")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")
    config: list[IpamPool] = msgspec.field(default_factory=list, name="Config")


class NetworkCreate(msgspec.Struct):
    """What a client asks for. ``enable_ipv4`` and ``enable_ipv6`` None are what the engine does by itself."""

    name: str = msgspec.field(default="", name="Name")
    driver: str = msgspec.field(default="", name="Driver")
    scope: str = msgspec.field(default="", name="Scope")
    internal: bool = msgspec.field(default=False, name="Internal")
    attachable: bool = msgspec.field(default=False, name="Attachable")
    ingress: bool = msgspec.field(default=False, name="Ingress")
    config_only: bool = msgspec.field(default=False, name="ConfigOnly")
    config_from: dict[str, Any] | None = msgspec.field(default=None, name="ConfigFrom")
    ipam: Ipam = msgspec.field(default_factory=Ipam, name="IPAM")
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: dict[str, str] = msgspec.field(default_factory=dict, name="Options")
    labels: dict[str, str] = msgspec.field(default_factory=dict, name="Labels")


class Network(msgspec.Struct):
    """A network as the engine keeps it. ``created`` in nanoseconds since the epoch."""

    id: str
    name: str
    created: int
    driver: str
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ipam: Ipam = msgspec.field(default_factory=Ipam)
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def is_predefined(self) -> bool:
        return self.name in PREDEFINED


class IpamConfig(msgspec.Struct, omit_defaults=True):
    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: list[str] = msgspec.field(default_factory=list, name="LinkLocalIPs")


class EndpointSettings(msgspec.Struct):
    """A container's place on one network: what was asked for, and, once it is there, what it got."""

    ipam_config: IpamConfig | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = msgspec.field(default=None, name="Links")
    aliases: list[str] | None = msgspec.field(default=None, name="Aliases")
    mac_address: str = msgspec.field(default="", name="MacAddress")
    driver_opts: dict[str, str] | None = msgspec.field(default=None, name="DriverOpts")
    gw_priority: int = msgspec.field(default=0, name="GwPriority")
    network_id: str = msgspec.field(default="", name="NetworkID")
    endpoint_id: str = msgspec.field(default="", name="EndpointID")
    gateway: str = msgspec.field(default="", name="Gateway")
    ip_address: str = msgspec.field(default="", name="IPAddress")
    ip_prefix_len: int = msgspec.field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = msgspec.field(default="", name="IPv6Gateway")
    global_ipv6_address: str = msgspec.field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = msgspec.field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: list[str] | None = msgspec.field(default=None, name="DNSNames")


class Attachment(msgspec.Struct):
    """What the API does not show of an endpoint: the address that was asked for, its interface's names in the
    container and on the host, the bridge that this is a port of, and the addresses that it had when the container last
    ran."""

    asked_mac: str = ""
    interface: str = ""
    host_interface: str = ""
    bridge: str = ""
    last_addresses: tuple[str, ...] = ()


class NetworkingConfig(msgspec.Struct, rename="pascal"):
    endpoints_config: dict[str, EndpointSettings | None] = {}
