"""Networks when the engine is killed, stopped, started again, and when somebody flushes the firewall."""

import ipaddress
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.support.engine import CACHE, Engine
from tests.support.networks import instance, interfaces, own_network
from tests.support.outside import Outside, outside
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen, reach
from wherry.linux.rtnetlink import Route

PATIENCE = 5.0


@pytest.fixture(autouse=True)
def _own_network() -> Iterator[None]:
    """One for each test: they leave other firewalls behind."""
    with own_network():
        yield


@pytest.fixture
def world(_own_network: None) -> Iterator[Outside]:
    with outside() as made:
        yield made


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def nft(*arguments: str) -> str:
    if shutil.which("nft") is None:
        pytest.skip("no nft: the package nftables has it")
    return subprocess.run(["nft", *arguments], capture_output=True, text=True, check=True).stdout


def test_after_a_kill_everything_goes_on_and_is_as_before(own_engine: Engine) -> None:
    engine, port = own_engine, free_port()
    engine.docker("network", "create", "net", check=True)
    listen(engine, "server", "--network", "net", "-p", f"{port}:80")
    engine.docker("run", "-d", "--name", "client", "--network", "net", "busybox", "sleep", "1000", check=True)
    settings = inspect(engine, "server")["NetworkSettings"]
    engine.kill()
    assert connect("127.0.0.1", port) == "server"
    engine.start()
    assert inspect(engine, "server")["NetworkSettings"] == settings
    assert connect("127.0.0.1", port) == "server"
    assert connect("::1", port) == "server"
    assert reach(engine, "client", "server") == "server"
    second = engine.docker("run", "--rm", "-p", f"{port}:80", "busybox", "true")
    assert "port is already allocated" in second.stderr
    engine.docker("run", "-d", "--name", "new", "--network", "net", "busybox", "sleep", "1000", check=True)
    addresses = [address_of(engine, name, "net") for name in ("server", "client", "new")]
    assert len(set(addresses)) == 3
    assert "server" in execute(engine, "new", "nslookup", "server")
    engine.docker("stop", "-t", "0", "server", check=True)
    assert connect("127.0.0.1", port) == ""


def test_addresses_and_ports_are_never_handed_out_twice(own_engine: Engine) -> None:
    """Also by an engine that comes after one that was killed while it started containers."""
    engine = own_engine
    engine.docker("network", "create", "--subnet", "10.236.0.0/27", "net", check=True)
    options = ("--network", "net", "--expose", "80", "-p", "20000-20040:80")
    for number in range(3):
        with ThreadPoolExecutor(6) as pool:
            runs = [
                pool.submit(
                    engine.docker, "run", "-d", "--name", f"box{number}-{each}", *options, "busybox", "sleep", "1000"
                )
                for each in range(6)
            ]
            wait(runs, return_when=FIRST_COMPLETED)
            engine.kill()
        engine.start()
    engine.docker("run", "-d", "--name", "last", *options, "busybox", "sleep", "1000", check=True)
    addresses, ports = [], []
    for each in engine.request("GET", "/containers/json").body:
        found = inspect(engine, each["Id"])["NetworkSettings"]
        ports.append(found["Ports"]["80/tcp"][0]["HostPort"])
        addresses.append(found["Networks"]["net"]["IPAddress"])
        assert f"inet {addresses[-1]}/" in execute(engine, each["Id"], "ip", "-o", "-4", "address")
    assert len(addresses) > 3
    assert len(set(addresses)) == len(addresses)
    assert len(set(ports)) == len(ports)
    assert len(interfaces(engine.data_root)) == len(addresses) + 1  # and the bridge


def test_engines_that_start_at_once_take_different_subnets(_images: None) -> None:
    engines = [Engine() for _ in range(5)]
    try:
        with ThreadPoolExecutor(len(engines)) as pool:
            list(pool.map(Engine.start, engines))
            list(pool.map(lambda engine: engine.load(CACHE / "busybox.image.tar"), engines))
            run = ("run", "-d", "busybox", "sleep", "1000")
            list(pool.map(lambda engine: engine.docker(*run, check=True), engines))
            list(pool.map(lambda engine: engine.docker("network", "create", "net", check=True), engines))
        with Route() as route:
            subnets = [ipaddress.ip_interface(address).network for _, address in route.addresses() if "." in address]
        assert len(subnets) == 2 * len(engines) + 1  # and the loopback's
        assert len(set(subnets)) == len(subnets)
    finally:
        for engine in engines:
            engine.discard()


def test_what_was_made_is_removed_when_nothing_runs(own_engine: Engine) -> None:
    engine, forwarding = own_engine, Path("/proc/sys/net/ipv4/ip_forward")
    forwarding.write_text("0")
    engine.docker("network", "create", "net", check=True)
    engine.docker("run", "--rm", "--network", "net", "-p", "80", "busybox", "true", check=True)
    assert forwarding.read_text() == "1\n"
    assert f"wherry-{instance(engine.data_root)}" in nft("list", "tables")
    engine.stop()
    assert nft("list", "tables") == ""
    assert interfaces(engine.data_root) == []
    assert forwarding.read_text() == "0\n"
    engine.start()
    engine.docker("run", "--rm", "--network", "net", "busybox", "true", check=True)


def test_flushed_rules_are_put_back(own_engine: Engine, world: Outside) -> None:
    engine, port = own_engine, free_port()
    listen(engine, "server", "-p", f"{port}:80")
    table = f"wherry-{instance(engine.data_root)}"
    for command in (("flush", "table", "inet", table), ("delete", "table", "inet", table), ("flush", "ruleset")):
        nft(*command)
        assert until(lambda: world.connect(world.host, port) == "server"), command
    assert connect("127.0.0.1", port) == "server"


# A part of what engines up to 0.2.0 made
OLD_RULES = """
add table inet {table}
add chain inet {table} guard {{ type filter hook prerouting priority mangle; }}
add chain inet {table} into
add rule inet {table} into drop
add map inet {table} anywhere4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add table bridge {table}
add chain bridge {table} neighbours {{ type filter hook forward priority 1; }}
"""


@pytest.mark.parametrize("runs", [True, False], ids=["while a container runs", "with none"])
def test_an_upgrade_leaves_nothing_of_the_rules_before(own_engine: Engine, runs: bool) -> None:
    engine, table = own_engine, f"wherry-{instance(own_engine.data_root)}"
    if runs:
        listen(engine, "server", "-p", f"{free_port()}:80")
    engine.kill()
    subprocess.run(["nft", "-f", "-"], input=OLD_RULES.format(table=table), text=True, check=True)
    engine.start()
    found = nft("list", "ruleset")
    assert not any(f" {name} {{" in found for name in ("guard", "into", "anywhere4", "neighbours"))
    assert ("chain forward-to-containers {" in found) is runs
    assert ('comment "published at all addresses"' in found) is runs


UFW = """
table ip filter {
    chain ufw-before-forward { ct state established,related accept; icmp type echo-request accept; }
    chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw-before-forward; }
}"""
DOCKER = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain DOCKER-FORWARD { iifname "docker0" accept; }
    chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; jump DOCKER-FORWARD; }
}"""
OWN = "table inet wall { chain forward { type filter hook forward priority 5; policy drop; }; }"
REFUSING = """
table inet wall {
    chain forward {
        type filter hook forward priority 10; policy accept;
        ct state established,related accept
        jump zones
        ct state invalid drop
        reject with icmpx type admin-prohibited
    }
    chain zones { iifname "lo" accept; }
}"""
WALLS = {
    "ufw": (UFW, "ip filter"),
    "docker": (DOCKER, "ip filter"),
    "own": (OWN, "inet wall"),
    "refusing": (REFUSING, "inet wall"),  # as firewalld's is built
}
IPTABLES = {
    "iptables-nft": ["-P", "FORWARD", "DROP"],
    "iptables-legacy": ["-P", "FORWARD", "DROP"],
    "iptables-nft -j REJECT": ["-A", "FORWARD", "-j", "REJECT"],  # as on Red Hat's systems
    "iptables-legacy -j REJECT": ["-A", "FORWARD", "-j", "REJECT"],
}


def _raise_wall(kind: str) -> None:
    """Also in place of what is there, as a reload does it."""
    if kind in WALLS:
        nft("flush", "ruleset")
        nft(WALLS[kind][0])
    else:
        for arguments in (["-F"], IPTABLES[kind]):
            _iptables(kind, *arguments)


def _iptables(kind: str, *arguments: str) -> str:
    program = kind.partition(" ")[0]
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    return subprocess.run([program, "-w", *arguments], capture_output=True, text=True, check=True).stdout


def _wall(kind: str) -> str:
    """The whole of the other firewall, as text."""
    return nft("list", "table", *WALLS[kind][1].split()) if kind in WALLS else _iptables(kind, "-S")


@pytest.mark.parametrize("kind", [*WALLS, *IPTABLES])
def test_beside_a_firewall_that_stops_what_is_forwarded(own_engine: Engine, world: Outside, kind: str) -> None:
    """Containers reach the outside, and are reached at their published ports, whoever comes first, and after the other
    has been loaded anew."""
    engine, port, mark = own_engine, free_port(), f"wherry-{instance(own_engine.data_root)}:"
    _raise_wall(kind)
    listen(engine, "server", "-p", f"{port}:80")
    assert world.connect(world.host, port) == "server"
    assert reach(engine, "server", world.address, world.serve()) == world.host
    for _ in range(2):
        _raise_wall(kind)
        assert until(lambda: world.connect(world.host, port) == "server")
        assert _wall(kind).count(mark) == 2
    engine.docker("network", "create", "net", check=True)
    listen(engine, "second", "--network", "net", "-p", "80")
    second = int(inspect(engine, "second")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    assert world.connect(world.host, second) == "second"
    assert _wall(kind).count(mark) == 4
    engine.remove_containers()
    engine.stop()
    assert mark not in _wall(kind)
    assert any(word in _wall(kind).upper() for word in ("DROP", "REJECT"))
    engine.start()


def test_a_host_that_was_no_router_becomes_one_for_containers_alone(own_engine: Engine, world: Outside) -> None:
    """Nor does it forget to be one while somebody else needs it."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    forwarding.write_text("0")
    with outside(1) as other:
        listen(own_engine, "server")
        for one, far in ((world, other), (other, world)):
            one.run("ip", "route", "add", f"{far.address}/32", "via", one.host)
        port = world.serve()
        assert reach(own_engine, "server", world.address, port) == world.host
        assert forwarding.read_text() == "1\n"
        assert other.connect(world.address, port, 1).startswith("!")
        own_engine.remove_containers()
        own_engine.stop()
        assert forwarding.read_text() == "1\n"  # there are bridges: the ends of the cables
        own_engine.start()
