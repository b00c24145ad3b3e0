import ipaddress
import itertools

import pytest

from wherry.network.ipam import AddressError, IpNetwork, Pool, choose_subnet, choose_subnet_6, mac_for, network_of


def test_a_pool_gives_each_address_once() -> None:
    pool = Pool("10.1.0.0/29", reserved={"router": "10.1.0.3"})
    assert pool.gateway == "10.1.0.1"
    assert [pool.allocate() for _ in range(4)] == ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(AddressError, match="no available addresses"):
        pool.allocate()


def test_an_address_that_was_given_back_is_taken_again() -> None:
    pool = Pool("10.1.0.0/29")
    first, second = pool.allocate(), pool.allocate()
    pool.release(first)
    assert pool.allocate() == first
    pool.release(second)
    pool.release(first)
    assert [pool.allocate(), pool.allocate()] == [first, second]


def test_an_address_from_beyond_the_range_is_given_only_to_who_asks_for_it() -> None:
    pool = Pool("10.1.0.0/24", ip_range="10.1.0.128/30")
    taken = [pool.allocate() for _ in range(3)]
    pool.release(pool.allocate("10.1.0.7"))
    with pytest.raises(AddressError, match="no available addresses"):
        pool.allocate()
    assert taken == ["10.1.0.129", "10.1.0.130", "10.1.0.131"]


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
        choose_subnet([network_of("172.16.0.0/12"), network_of("192.168.0.0/16"), network_of("10.0.0.0/8")])


def test_the_pools_do_not_end_with_dockers() -> None:
    taken: list[IpNetwork] = []
    for _ in range(40):
        taken.append(network_of(choose_subnet(taken)))
    assert [str(each) for each in (taken[0], taken[14], taken[15], taken[30], taken[31])] == [
        *("172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20", "192.168.240.0/20", "10.192.0.0/24")
    ]
    assert sum(each.num_addresses for each in ipaddress.collapse_addresses(taken)) == sum(
        each.num_addresses for each in taken
    )
    taken += itertools.islice(ipaddress.ip_network("10.192.0.0/10").subnets(new_prefix=24), 9, 969)
    assert choose_subnet(taken) == "10.195.201.0/24"
    del taken[500]
    assert choose_subnet(taken) == "10.193.213.0/24"


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
