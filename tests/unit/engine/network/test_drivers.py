"""The pools of networks, and how they keep out of each other's way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.common.errors import EngineError, Forbidden
from wherry.engine.config import EngineConfig
from wherry.engine.network import options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.model.network import Ipam, IpamPool, Network
from wherry.network import bridge
from wherry.network.ipam import network_of


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[NetworkDrivers]:
    found = NetworkDrivers("id", EngineConfig(data_root=str(tmp_path), exec_root=str(tmp_path), iptables=False))
    yield found
    found.close({"something"})


def network(name: str, *subnets: str, driver: str = "bridge", ipv6: bool = False, **of: str) -> Network:
    ipam = Ipam(config=[IpamPool(subnet=subnet) for subnet in subnets])
    return Network((name * 64)[:64], name, 1, driver, ipam=ipam, enable_ipv6=ipv6, options=of)


def test_a_subnet_is_chosen_that_nobody_has(drivers: NetworkDrivers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "host_networks", lambda except_for="": [network_of("172.17.0.0/16")])
    first, second = network("a"), network("b", ipv6=True)
    for each in (first, second):
        drivers.register(each)
    subnets = [pool.subnet for pool in (*first.ipam.config, *second.ipam.config)]
    assert subnets[:2] == ["172.18.0.0/16", "172.19.0.0/16"]
    assert subnets[2].startswith("fd")
    assert first.ipam.config[0].gateway == "172.18.0.1"
    drivers.forget(first)
    third = network("c")
    drivers.register(third)
    assert third.ipam.config[0].subnet == "172.18.0.0/16"


def test_bridges_do_not_overlap_and_others_may(drivers: NetworkDrivers) -> None:
    drivers.register(network("a", "10.1.0.0/16"))
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        drivers.register(network("b", "10.1.2.0/24"))
    drivers.register(network("c", "10.1.2.0/24", driver="macvlan"))


def test_names_on_the_host(drivers: NetworkDrivers) -> None:
    default = Network("1" * 64, "bridge", 1, "bridge")
    assert len(drivers.bridge_name(default)) <= 15 and drivers.bridge_name(default) != "wherry0"
    assert drivers.bridge_name(network("ab")) == "br-abababababab"
    assert drivers.bridge_name(network("ab", **{options.NAME: "mine"})) == "mine"
    assert len(drivers.host_interface("f" * 64)) <= 15
    assert drivers.parent(network("ab", driver="macvlan")) == ("dm-abababababab", True)
    assert drivers.parent(network("ab", driver="macvlan", parent="eth0.5")) == ("eth0.5", False)
    of_the_default_root = NetworkDrivers("id", EngineConfig(iptables=False))
    assert of_the_default_root.bridge_name(default) == "wherry0"


def test_the_largest_packet(drivers: NetworkDrivers) -> None:
    assert drivers.mtu(network("a", **{options.MTU: "1300"})) == 1300
    assert drivers.mtu(network("a")) == bridge.host_mtu()


def test_without_a_firewall_nobody_can_be_kept_apart(drivers: NetworkDrivers) -> None:
    with pytest.raises(EngineError, match="cannot keep its containers apart: no firewall rules are made here"):
        drivers.make(network("a", **{options.ICC: "false"}))


def test_the_parent_of_a_macvlan_network(drivers: NetworkDrivers) -> None:
    drivers.make(network("a", driver="macvlan", parent="lo"))
    for parent in ("nothing", "lo.0", "lo.5000", "nothing.5"):
        with pytest.raises(EngineError, match="invalid subinterface vlan name"):
            drivers.make(network("b", driver="macvlan", parent=parent))
