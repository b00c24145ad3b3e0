import ipaddress

import pytest

from wherry.network.ipam import AddressError, Pool, choose_subnet, choose_subnet_6, mac_for, network_of


def test_a_pool_gives_each_address_once() -> None:
    pool = Pool("10.1.0.0/29", reserved={"router": "10.1.0.3"})
    assert pool.gateway == "10.1.0.1"
    assert [pool.allocate() for _ in range(4)] == ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(AddressError, match="no available addresses"):
        pool.allocate()


def test_an_address_that_was_given_back_rests_while_there_are_others() -> None:
    pool = Pool("10.1.0.0/29")
    first = pool.allocate()
    pool.release(first)
    others = [pool.allocate() for _ in range(4)]
    assert first not in others
    assert pool.allocate() == first


def test_whoever_comes_back_has_its_address_again_unless_somebody_else_has_it() -> None:
    pool = Pool("10.1.0.0/29")
    first = pool.allocate()
    pool.release(first)
    assert pool.allocate(before=first) == first
    assert pool.allocate(before=first) != first


def test_a_pool_gives_what_is_asked_for() -> None:
    pool = Pool("10.1.0.0/24", ip_range="10.1.0.128/25", gateway="10.1.0.254")
    assert pool.allocate() == "10.1.0.128"
    assert pool.allocate("10.1.0.5") == "10.1.0.5"
    for taken in ("10.1.0.5", "10.1.0.254", "10.1.0.0", "10.1.0.255"):
        with pytest.raises(AddressError, match="Address already in use"):
            pool.allocate(taken)
    with pytest.raises(AddressError, match="not in the subnet"):
        pool.allocate("10.2.0.5")


def test_what_a_running_container_has_is_not_given_out() -> None:
    pool = Pool("10.1.0.0/24")
    pool.adopt("10.1.0.2")
    assert pool.allocate() == "10.1.0.3"


def test_ipv6_has_no_broadcast_address() -> None:
    pool = Pool("fd00::/126")
    assert pool.gateway == "fd00::1"
    assert [pool.allocate(), pool.allocate()] == ["fd00::2", "fd00::3"]


def test_subnets_overlap_nothing_that_is_taken() -> None:
    assert choose_subnet([]) == "172.17.0.0/16"
    assert choose_subnet([network_of("172.17.5.0/24"), network_of("172.18.0.0/15")]) == "172.20.0.0/16"
    assert choose_subnet([network_of("172.16.0.0/12")]) == "192.168.0.0/20"
    with pytest.raises(AddressError, match="fully subnetted"):
        choose_subnet([network_of("172.16.0.0/12"), network_of("192.168.0.0/16")])


def test_ipv6_subnets_are_an_engines_own() -> None:
    one = ipaddress.ip_network(choose_subnet_6([], "one"))
    assert one.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert one.prefixlen == 64
    assert str(one) != choose_subnet_6([], "two")
    assert str(one) != choose_subnet_6([one], "one")


def test_a_mac_address_belongs_to_an_address() -> None:
    assert mac_for("172.17.0.2") == "02:57:ac:11:00:02"


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "here"])
def test_what_is_no_subnet(text: str) -> None:
    with pytest.raises(AddressError):
        network_of(text)
