"""More than a bridge has ports for, and more networks than Docker has subnets for."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import CACHE, Engine
from tests.support.networks import interfaces, own_network
from tests.support.outside import Outside, outside
from tests.support.talking import address_of, connect, free_port, inspect, listen, reach, wait_for_listener
from wherry.linux.rtnetlink import Route

# The daemon with bridges of two ports: a thousand containers take long.
_SMALL_BRIDGES = """
import runpy, sys
import wherry.network.bridge
wherry.network.bridge.PORTS = 2
sys.argv = sys.argv[3:]
runpy.run_module("wherry.daemon", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(autouse=True)
def _own_network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture(params=["0", "1"], ids=["bridged", "bridged past iptables"])
def crowded(request: pytest.FixtureRequest, _own_network: None, _images: None) -> Iterator[Engine]:
    filters = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if filters.exists():
        filters.write_text(request.param, encoding="ascii")
    engine = Engine(prefix=[sys.executable, "-c", _SMALL_BRIDGES])
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.remove_containers()
        engine.stop()
        assert not interfaces(engine.data_root)
    finally:
        engine.discard()


def test_a_network_goes_on_behind_a_bridge_that_is_full(crowded: Engine) -> None:
    engine, port = crowded, free_port()
    engine.docker("network", "create", "net", check=True)
    names = [f"c{number}" for number in range(7)]
    with outside() as world:
        for name in names:
            ports = ("-p", f"{port}:80") if name == "c6" else ()
            listen(engine, name, "--network", "net", *ports)
        assert len(_bridges(engine)) == 4
        _check(engine, names, world, port)
        engine.kill()
        engine.start()
        engine.docker("restart", "-t", "0", "c5", check=True)
        wait_for_listener(engine, "c5", 80)
        listen(engine, "c7", "--network", "net")
        assert len(_bridges(engine)) == 4
        _check(engine, [*names, "c7"], world, port)
    engine.docker("rm", "-f", *names, "c7", check=True)
    engine.docker("network", "rm", "net", check=True)
    assert _bridges(engine) == []


def _check(engine: Engine, names: list[str], world: Outside, port: int) -> None:
    outer = world.serve()
    for client in ("c0", "c3", "c6"):
        assert [reach(engine, client, name) for name in names] == names
        assert reach(engine, client, world.address, outer) == world.host
        assert reach(engine, client, world.host, port) == "c6"
    assert world.connect(world.host, port) == "c6"
    assert connect("127.0.0.1", port) == "c6"
    assert connect(address_of(engine, "c5", "net"), 80) == "c5"


def _bridges(engine: Engine) -> list[str]:
    """Those of user-defined networks."""
    return [name for name in interfaces(engine.data_root) if name.startswith("br")]


def test_nothing_leaves_by_the_hardware_address_of_a_bridge_behind_another(crowded: Engine) -> None:
    """The rules know where a packet comes from by the network's first bridge."""
    engine = crowded
    engine.docker("network", "create", "--internal", "net", check=True)
    for number in range(3):
        listen(engine, f"c{number}", "--network", "net")
    with outside() as world:
        (behind,) = [name for name in _bridges(engine) if name.startswith("br1-")]
        gateway = engine.request("GET", "/networks/net").body["IPAM"]["Config"][0]["Gateway"]
        with Route() as route:
            mac = next(link.mac for link in route.links() if link.name == behind)
        inside = ["nsenter", "--net", "--target", str(inspect(engine, "c2")["State"]["Pid"]), "ip"]
        subprocess.run([*inside, "neigh", "replace", gateway, "lladdr", mac, "dev", "eth0"], check=True)
        subprocess.run([*inside, "route", "add", "default", "via", gateway], check=True)
        world.run("ip", "route", "add", "172.16.0.0/12", "via", world.host)
        assert reach(engine, "c2", world.address, world.serve()) == ""
        with socket.create_server(("0.0.0.0", 0)) as server:
            server.settimeout(2)
            assert reach(engine, "c2", gateway, server.getsockname()[1]) == ""


def test_without_communication_there_is_none_behind_bridges(crowded: Engine) -> None:
    engine = crowded
    engine.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "net", check=True)
    for number in range(5):
        listen(engine, f"c{number}", "--network", "net")
    addresses = [address_of(engine, f"c{number}", "net") for number in range(5)]
    for client in (0, 2, 4):
        reached = [reach(engine, f"c{client}", address) for address in addresses]
        assert [bool(each) for each in reached] == [number == client for number in range(5)]
    assert connect(addresses[4], 80) == "c4"


def test_more_networks_than_docker_has_subnets(crowded: Engine) -> None:
    engine = crowded
    for number in range(40):
        assert engine.request("POST", "/networks/create", {"Name": f"net{number}"}).status == 201
    listen(engine, "last", "--network", "net39")
    assert connect(address_of(engine, "last", "net39"), 80) == "last"
    networks = engine.request("GET", "/networks").body
    subnets = {pool["Subnet"] for network in networks for pool in network["IPAM"]["Config"] or ()}
    assert len(subnets) == 41
