"""A container's place on a network: addresses, names of interfaces, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.config import EngineConfig
from wherry.engine.network import endpoint, options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.model.container import Container, ContainerConfig, HostConfig, PortBinding
from wherry.model.network import EndpointSettings, Ipam, IpamConfig, IpamPool, Network


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[NetworkDrivers]:
    found = NetworkDrivers("id", EngineConfig(data_root=str(tmp_path), exec_root=str(tmp_path), iptables=False))
    yield found
    found.close({"something"})  # which leaves the host as it is


def network(
    drivers: NetworkDrivers, *subnets: str, name: str = "net", driver: str = "bridge", **fields: Any
) -> Network:
    ipam = Ipam(config=[IpamPool(subnet=subnet) for subnet in subnets or ("10.231.0.0/24",)])
    found = Network(name * 20, name, 1, driver, ipam=ipam, **fields)
    drivers.register(found)
    return found


def container(name: str = "net", settings: EndpointSettings | None = None, host: HostConfig | None = None) -> Container:
    return Container(
        id="ab" * 32, name="web", created=1, image="", image_id="", chain_id="", path="", args=[],
        config=ContainerConfig(hostname="box"), host_config=host or HostConfig(),
        networks={name: settings or EndpointSettings()},
    )  # fmt: skip


def connect(record: Container, net: Network, drivers: NetworkDrivers) -> None:
    """As a start does for each network."""
    endpoint.connect(record, net, drivers)
    endpoint.name_interfaces(record, [net])


def test_the_best_way_out_is_eth0(drivers: NetworkDrivers) -> None:
    record = container()
    wanted = {"net": 0, "best": 5, "inside": 0, "another": 0}
    nets = []
    for number, (name, priority) in enumerate(wanted.items()):
        record.networks[name] = EndpointSettings(gw_priority=priority)
        nets.append(network(drivers, f"10.231.{number}.0/24", name=name, internal=name == "inside"))
        endpoint.connect(record, nets[-1], drivers)
    endpoint.name_interfaces(record, nets)
    found = {each.interface: name for name, each in record.attachments.items()}
    assert found == {"eth0": "best", "eth1": "another", "eth2": "net", "eth3": "inside"}


def test_it_gets_the_next_address_and_gives_it_back(drivers: NetworkDrivers) -> None:
    net = network(drivers)
    first, second = container(), container()
    for each in (first, second):
        connect(each, net, drivers)
    settings = first.networks["net"]
    assert (settings.ip_address, settings.ip_prefix_len, settings.gateway) == ("10.231.0.2", 24, "10.231.0.1")
    assert second.networks["net"].ip_address == "10.231.0.3"
    assert len(settings.endpoint_id) == 64 and settings.network_id == net.id
    assert settings.mac_address.startswith("02:57:")
    assert settings.dns_names == ["web", "ab" * 6, "box"]
    assert first.attachments["net"].interface == "eth0"
    endpoint.disconnect(first, net, drivers)
    assert (settings.ip_address, settings.endpoint_id, settings.mac_address, settings.ip_prefix_len) == ("", "", "", 0)
    assert first.attachments["net"].interface == ""
    connect(first, net, drivers)
    assert settings.ip_address == "10.231.0.2", "the same as before, since nobody has taken it"


def test_both_versions_of_ip(drivers: NetworkDrivers) -> None:
    net = network(drivers, "10.231.0.0/24", "fd00:231::/64", enable_ipv6=True)
    record = container()
    connect(record, net, drivers)
    settings = record.networks["net"]
    assert settings.global_ipv6_address and settings.global_ipv6_prefix_len == 64
    assert settings.ipv6_gateway == "fd00:231::1"


def test_the_address_that_is_asked_for(drivers: NetworkDrivers) -> None:
    net = network(drivers)
    asked = IpamConfig(ipv4_address="10.231.0.77", link_local_ips=["169.254.1.1", "fe80::5"])
    record = container(settings=EndpointSettings(ipam_config=asked))
    connect(record, net, drivers)
    found = endpoint.interface(record, net, drivers, ("10.231.0.1",))
    assert found.addresses == ("10.231.0.77/24", "169.254.1.1/16", "fe80::5/64")
    assert found.gateways == ("10.231.0.1",)
    other = container(settings=EndpointSettings(ipam_config=IpamConfig(ipv4_address="10.231.0.77")))
    with pytest.raises(EngineError, match="failed to set up container networking"):
        connect(other, net, drivers)
    assert other.networks["net"].ip_address == ""
    strange = container(settings=EndpointSettings(ipam_config=IpamConfig(ipv4_address="10.99.0.1")))
    with pytest.raises(EngineError, match=r"no configured subnet contains IP address 10.99.0.1"):
        connect(strange, net, drivers)


def test_what_was_taken_is_given_back_when_the_rest_cannot_be_had(drivers: NetworkDrivers) -> None:
    net = network(drivers, "10.231.0.0/30", "fd00:231::/64", enable_ipv6=True)
    broken = container(settings=EndpointSettings(ipam_config=IpamConfig(ipv6_address="fd00:9::1")))
    with pytest.raises(EngineError):
        connect(broken, net, drivers)
    record = container()
    connect(record, net, drivers)
    assert record.networks["net"].ip_address == "10.231.0.2"


def test_a_network_that_is_full(drivers: NetworkDrivers) -> None:
    net = network(drivers, "10.231.0.0/30")
    connect(container(), net, drivers)
    with pytest.raises(EngineError, match="no available IPv4 addresses on this network's address pools: net"):
        connect(container(), net, drivers)


def test_an_address_of_a_container_that_runs_is_nobody_else_s(drivers: NetworkDrivers) -> None:
    net = network(drivers)
    running = container(settings=EndpointSettings(ip_address="10.231.0.2"))
    endpoint.adopt(running, net, drivers)
    record = container()
    connect(record, net, drivers)
    assert record.networks["net"].ip_address == "10.231.0.3"


def test_an_internal_bridge_leads_nowhere(drivers: NetworkDrivers) -> None:
    net = network(drivers, internal=True)
    record = container()
    connect(record, net, drivers)
    assert record.networks["net"].gateway == ""


def test_names_of_interfaces(drivers: NetworkDrivers) -> None:
    net = network(drivers, options={options.INTERFACE_PREFIX: "lan"})
    other = network(drivers, "10.232.0.0/24", name="other")
    record = container(settings=EndpointSettings(driver_opts={options.ENDPOINT_INTERFACE: "up0"}))
    record.networks["other"] = EndpointSettings()
    connect(record, net, drivers)
    connect(record, other, drivers)
    assert record.attachments["net"].interface == "up0"
    assert record.attachments["other"].interface == "eth0"
    plain = container()
    connect(plain, net, drivers)
    assert plain.attachments["net"].interface == "lan0"


def test_settings_of_the_kernel_for_the_interface(drivers: NetworkDrivers) -> None:
    net = network(drivers)
    wanted = "net.ipv4.conf.IFNAME.log_martians=1,net/ipv6/conf/ifname/forwarding=0"
    record = container(settings=EndpointSettings(driver_opts={options.ENDPOINT_SYSCTLS: wanted}))
    connect(record, net, drivers)
    assert endpoint.interface(record, net, drivers, ()).sysctls == {
        "net/ipv4/conf/eth0/log_martians": "1",
        "net/ipv6/conf/eth0/forwarding": "0",
    }
    for bad in ("net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.log_martians=1", "net.ipv4.conf.IFNAME.log_martians"):
        record.networks["net"].driver_opts = {options.ENDPOINT_SYSCTLS: bad}
        with pytest.raises(InvalidParameter, match="invalid sysctl"):
            endpoint.interface(record, net, drivers, ())


def test_macvlan_and_ipvlan_stand_on_the_parent(drivers: NetworkDrivers) -> None:
    for driver, subnet in (("macvlan", "10.231.0.0/24"), ("ipvlan", "10.232.0.0/24")):
        net = network(
            drivers, subnet, name=driver, driver=driver, options={"parent": "eth7", f"{driver}_mode": "private"}
        )
        record = container(driver)
        connect(record, net, drivers)
        found = endpoint.interface(record, net, drivers, ())
        assert (found.kind, found.parent, found.mode, found.mtu) == (driver, "eth7", "private", 0)
        assert bool(found.mac) is (driver == "macvlan"), "all of an ipvlan have the parent's"
        assert found.host_name == ""


def test_a_bridge_turns_packets_back_for_who_publishes_ports(drivers: NetworkDrivers) -> None:
    net = network(drivers)
    for host, expected in ((HostConfig(), False), (HostConfig(port_bindings={"80/tcp": [PortBinding()]}), True)):
        record = container(host=host)
        connect(record, net, drivers)
        assert endpoint.interface(record, net, drivers, ()).hairpin is expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EndpointSettings(ipam_config=IpamConfig(ipv4_address="fd00::1")), "invalid IPv4 address: fd00::1"),
        (EndpointSettings(ipam_config=IpamConfig(ipv6_address="x")), "invalid IPv6 address: x"),
        (EndpointSettings(ipam_config=IpamConfig(link_local_ips=["x"])), "invalid link-local IP address: x"),
        (EndpointSettings(mac_address="02:00"), "invalid MAC address 02:00"),
        (EndpointSettings(mac_address="zz:00:00:00:00:00"), "invalid MAC address"),
    ],
)
def test_what_cannot_be_asked_for(settings: EndpointSettings, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        endpoint.check(Network("1", "net", 1, "bridge"), settings)


def test_what_only_user_defined_networks_give() -> None:
    default = Network("1", "bridge", 1, "bridge")
    endpoint.check(default, EndpointSettings(mac_address="02:00:00:00:00:01"))
    with pytest.raises(InvalidParameter, match="supported on user defined networks only"):
        endpoint.check(default, EndpointSettings(ipam_config=IpamConfig(ipv4_address="10.0.0.1")))
    with pytest.raises(InvalidParameter, match="network-scoped alias is supported only"):
        endpoint.check(default, EndpointSettings(aliases=["db"]))
