"""What may be asked of a network, and what its options come to."""

from typing import Any

import msgspec
import pytest

from wherry.common.errors import EngineError, Forbidden, InvalidParameter, NotFound, NotSupported
from wherry.engine.config import EngineConfig
from wherry.engine.network import options
from wherry.model.network import Network, NetworkCreate
from wherry.network.ipam import network_of
from wherry.network.ruleset import Subnet

BRIDGE = "com.docker.network.bridge."


def asked(**fields: Any) -> NetworkCreate:
    return msgspec.convert({"Name": "net"} | fields, NetworkCreate)


def network(driver: str = "bridge", *, ipv6: bool = False, **of_bridge: str) -> Network:
    return Network("1" * 64, "net", 1, driver, enable_ipv6=ipv6, options={BRIDGE + k: v for k, v in of_bridge.items()})


def subnets(*pools: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(pools)}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Driver": "macvlan", "Options": {"macvlan_mode": "private", "parent": "eth0"}},
        {"Driver": "ipvlan", "Options": {"ipvlan_mode": "l3"}},
        {"Options": {"com.docker.network.driver.mtu": "1400", "mine": "anything"}},
        {"Internal": True, "Options": {f"{BRIDGE}gateway_mode_ipv4": "isolated"}},
        subnets({"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.1/16"}),
        {"EnableIPv6": True} | subnets({"Subnet": "fd00:1::/64"}),
    ],
)
def test_good_networks(fields: dict[str, Any]) -> None:
    options.check(asked(**fields))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"Scope": "swarm"}, Forbidden, "when swarm is not active"),
        ({"Driver": "overlay"}, Forbidden, "This node is not a swarm manager"),
        ({"Ingress": True}, Forbidden, "Ingress network can only be global scope network"),
        ({"ConfigOnly": True}, NotSupported, "config-only"),
        ({"Driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"Driver": "mine"}, NotFound, 'plugin "mine" not found'),
        ({"IPAM": {"Driver": "mine"}}, NotFound, 'plugin "mine" not found'),
        ({"EnableIPv4": False}, InvalidParameter, "IPv4 or IPv6 must be enabled"),
        ({"Options": {"com.docker.network.enable_ipv6": "ja"}}, InvalidParameter, "enable_ipv6 value: ja"),
        ({"Options": {f"{BRIDGE}colour": "red"}}, InvalidParameter, "this engine does not know it"),
        ({"Options": {f"{BRIDGE}enable_icc": "maybe"}}, InvalidParameter, "strconv.ParseBool"),
        ({"Options": {"com.docker.network.driver.mtu": "67"}}, InvalidParameter, "invalid MTU number: 67"),
        ({"Options": {"mtu": "many"}}, InvalidParameter, "mtu value: many .*invalid syntax"),
        ({"Options": {f"{BRIDGE}name": "a" * 16}}, InvalidParameter, "invalid bridge name"),
        ({"Options": {f"{BRIDGE}name": "a b"}}, InvalidParameter, "invalid bridge name"),
        ({"Options": {f"{BRIDGE}host_binding_ipv4": "::1"}}, InvalidParameter, "value: ::1"),
        ({"Options": {f"{BRIDGE}host_binding_ipv4": "here"}}, InvalidParameter, "here"),
        ({"Options": {f"{BRIDGE}gateway_mode_ipv6": "wild"}}, InvalidParameter, "unknown gateway mode wild"),
        ({"Options": {f"{BRIDGE}gateway_mode_ipv4": "isolated"}}, InvalidParameter, "only be used for an internal"),
        ({"Driver": "macvlan", "Options": {"macvlan_mode": "l2"}}, InvalidParameter, "requested macvlan mode"),
        ({"Driver": "ipvlan", "Options": {"ipvlan_mode": "bridge"}}, InvalidParameter, "requested ipvlan mode"),
        (subnets({"Gateway": "10.0.0.1"}), InvalidParameter, "invalid subnet : invalid CIDR"),
        (subnets({"Subnet": "10.0.0.0/99"}), InvalidParameter, "invalid network config"),
        (subnets({"Subnet": "10.0.0.0/24", "Gateway": "10.0.1.1"}), InvalidParameter, "doesn't contain this address"),
        (subnets({"Subnet": "10.0.0.0/24", "IPRange": "10.0.1.0/25"}), InvalidParameter, "doesn't contain ip-range"),
        (
            subnets({"Subnet": "10.0.0.0/24", "AuxiliaryAddresses": {"a": "10.1.0.1"}}),
            InvalidParameter,
            "invalid auxiliary address a: parent subnet 10.0.0.0/24",
        ),
        (subnets({"Subnet": "fd00::/64"}), InvalidParameter, "IPv6 has not been enabled"),
        (subnets({"Subnet": "10.0.0.0/16"}, {"Subnet": "10.0.1.0/24"}), Forbidden, "Pool overlaps with other one"),
    ],
)
def test_bad_networks(fields: dict[str, Any], error: type[EngineError], message: str) -> None:
    with pytest.raises(error, match=message):
        options.check(asked(**fields))


def test_an_option_says_which_versions_of_ip_there_are_unless_the_field_does() -> None:
    both = asked(Options={"com.docker.network.enable_ipv6": "1", "com.docker.network.enable_ipv4": "false"})
    options.check(both)
    assert (both.enable_ipv4, both.enable_ipv6) == (False, True)
    said = asked(EnableIPv6=False, Options={"com.docker.network.enable_ipv6": "1"})
    options.check(said)
    assert (said.enable_ipv4, said.enable_ipv6) == (True, False)


def test_the_gateway_loses_its_length() -> None:
    wanted = asked(**subnets({"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.9/16"}))
    options.check(wanted)
    assert wanted.ipam.config[0].gateway == "10.1.0.9"


def test_what_the_firewall_is_told_of_a_subnet() -> None:
    subnet = network_of("10.1.0.0/16")
    assert options.subnet(network(), subnet) == Subnet("10.1.0.0/16", masquerade=True)
    assert options.subnet(network(gateway_mode_ipv4="routed"), subnet) == Subnet(
        "10.1.0.0/16", masquerade=False, routed=True
    )
    assert options.subnet(network(gateway_mode_ipv4="nat-unprotected"), subnet).unprotected
    assert options.subnet(network(gateway_mode_ipv4="isolated"), subnet).strange
    assert options.subnet(network(inhibit_ipv4="true"), subnet).strange
    assert not options.subnet(network(enable_ip_masquerade="false"), subnet).masquerade


def test_a_network_without_ipv6_has_what_is_published_for_it_led_to_ipv4() -> None:
    routed = network(gateway_mode_ipv4="routed")
    assert options.is_routed(routed, 4) and options.is_routed(routed, 6)
    both = network(ipv6=True, gateway_mode_ipv4="routed")
    assert options.is_routed(both, 4) and not options.is_routed(both, 6)


def test_the_rest() -> None:
    assert options.trusted(network(trusted_host_interfaces="eth0::eth1")) == ("eth0", "eth1")
    assert options.trusted(network()) == ()
    found = Network("1", "n", 1, "bridge", options={"mtu": "9000"})
    assert (options.mtu(found), options.mtu(network())) == (9000, 0)
    assert options.macvlan_mode({}) == "bridge" and options.ipvlan_mode({}) == "l2"
    assert options.of_the_default_bridge(EngineConfig(icc=False))[options.ICC] == "false"
