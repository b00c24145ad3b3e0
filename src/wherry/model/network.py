"""How a container is connected to a network."""

import msgspec


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


class NetworkingConfig(msgspec.Struct, rename="pascal"):
    endpoints_config: dict[str, EndpointSettings | None] = {}
