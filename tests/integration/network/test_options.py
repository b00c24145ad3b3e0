"""Options of networks, on a host of the tests' own: how they are reached from outside, and what they are made of."""

import pytest

from tests.support.engine import CACHE, Engine
from tests.support.networks import instance
from tests.support.outside import Outside
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen, reach
from wherry.linux import rtnetlink
from wherry.linux.nftables import Nftables
from wherry.linux.rtnetlink import Route

SUBNET = "10.235.0.0/24"
_PING = """
import socket
pinging = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
pinging.settimeout(2)
pinging.sendto(bytes.fromhex("0800f7fe00010000"), (%r, 0))
print(pinging.recv(100)[20])  # 0 is an answer
"""


@pytest.fixture(scope="module", autouse=True)
def _route(world: Outside) -> None:
    world.run("ip", "route", "add", SUBNET, "via", world.host)


def make(engine: Engine, *arguments: str, **options: str) -> str:
    """A network "net"; of the options' names, which are Docker's, only what is behind com.docker.network."""
    settings = [f"--opt=com.docker.network.{name.replace('__', '.')}={value}" for name, value in options.items()]
    engine.docker("network", "create", "--subnet", SUBNET, *settings, *arguments, "net", check=True)
    return "net"


def test_a_routed_network_is_reached_at_its_own_addresses(engine: Engine, world: Outside) -> None:
    net = make(engine, bridge__gateway_mode_ipv4="routed")
    port = free_port()
    listen(engine, "server", "--network", net, "-p", f"{port}:80", "--expose", "81")
    address = address_of(engine, "server", net)
    assert world.connect(address, 80) == "server"
    assert world.connect(world.host, port).startswith("!")
    assert world.python(_PING % address).stdout == "0\n"
    engine.docker("exec", "-d", "server", "nc", "-ll", "-p", "81", "-e", "/bin/echo", "no", check=True)
    assert world.connect(address, 81, 1).startswith("!")
    assert reach(engine, "server", world.address, world.serve()) == address  # nothing is translated
    engine.kill()
    engine.start()
    assert world.connect(address, 80) == "server"
    engine.remove_containers()
    listen(engine, "other", "--network", net, "--ip", address)
    assert world.connect(address, 80, 1).startswith("!")


def test_an_unprotected_network_is_reached_at_every_port(engine: Engine, world: Outside) -> None:
    net = make(engine, bridge__gateway_mode_ipv4="nat-unprotected")
    listen(engine, "server", "--network", net)
    assert world.connect(address_of(engine, "server", net), 80) == "server"
    assert reach(engine, "server", world.address, world.serve()) == world.host


def test_a_trusted_interface_reaches_every_port(engine: Engine, world: Outside) -> None:
    net = make(engine, bridge__trusted_host_interfaces=f"nowhere0:{world.port}")
    listen(engine, "server", "--network", net)
    assert world.connect(address_of(engine, "server", net), 80) == "server"


def test_an_isolated_network_has_no_address_of_this_host(engine: Engine, world: Outside) -> None:
    net = make(engine, "--internal", bridge__gateway_mode_ipv4="isolated", bridge__name="whtest0")
    listen(engine, "server", "--network", net)
    engine.docker("run", "-d", "--name", "client", "--network", net, "busybox", "sleep", "1000", check=True)
    assert reach(engine, "client", "server") == "server"
    with Route() as route:
        assert route.index("whtest0") not in [index for index, address in route.addresses() if "." in address]


def test_what_leaves_has_the_address_that_was_asked_for(engine: Engine, world: Outside) -> None:
    source = world.host.rpartition(".")[0] + ".77"
    with Route() as route:
        route.execute(rtnetlink.add_address(route.index(world.port), f"{source}/24"))
    net = make(engine, host_ipv4=source)
    listen(engine, "server", "--network", net)
    assert reach(engine, "server", world.address, world.serve()) == source


def test_what_leaves_keeps_its_own_address_without_masquerading(engine: Engine, world: Outside) -> None:
    net = make(engine, bridge__enable_ip_masquerade="false")
    listen(engine, "server", "--network", net)
    address = address_of(engine, "server", net)
    assert reach(engine, "server", world.address, world.serve()) == address


def test_what_a_network_is_made_of(engine: Engine, world: Outside) -> None:
    net = make(engine, bridge__name="whtest1", driver__mtu="1234", container_iface_prefix="net",
               bridge__host_binding_ipv4="127.0.0.1", bridge__inhibit_ipv4="true")  # fmt: skip
    port = free_port()
    listen(engine, "server", "--network", net, "-p", f"{port}:80")
    assert "mtu 1234" in execute(engine, "server", "ip", "-o", "link", "show", "dev", "net0")
    with Route() as route:
        link = route.link("whtest1")
        assert link is not None
        assert link.mtu == 1234
        assert link.index not in [index for index, address in route.addresses() if "." in address]
    bindings = inspect(engine, "server")["NetworkSettings"]["Ports"]["80/tcp"]
    assert bindings == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]


def test_ipv6_by_an_option_as_in_compose_files(engine: Engine) -> None:
    net = make(engine, enable_ipv6="true")
    listen(engine, "server", "--network", net)
    assert connect(address_of(engine, "server", net, "GlobalIPv6Address"), 80) == "server"
    assert engine.request("GET", f"/networks/{net}").body["EnableIPv6"] is True


def test_an_endpoint_has_options_of_its_own(engine: Engine) -> None:
    net = make(engine)
    options = "driver-opt=com.docker.network.endpoint.ifname=lan7"
    sysctls = '"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"'
    shown = engine.docker("run", "--rm", "--network", f"name={net},{options},{sysctls}", "busybox", "sh", "-c",
                          "ls /sys/class/net; cat /proc/sys/net/ipv4/conf/lan7/log_martians", check=True)  # fmt: skip
    assert shown.stdout.split() == ["lan7", "lo", "1"]


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("com.docker.network.bridge.gateway_mode_ipv4=open", "unknown gateway mode open"),
        ("com.docker.network.bridge.gateway_mode_ipv4=isolated", "can only be used for an internal network"),
        ("com.docker.network.bridge.enable_icc=perhaps", "invalid syntax"),
        ("com.docker.network.driver.mtu=many", "invalid syntax"),
        ("com.docker.network.host_ipv4=fd00::1", "value: fd00::1"),
        ("com.docker.network.bridge.mistyped=1", "this engine does not know it"),
    ],
)
def test_options_that_cannot_be(engine: Engine, option: str, complaint: str) -> None:
    refused = engine.docker("network", "create", "--opt", option, "net")
    assert refused.returncode == 1
    assert complaint in refused.stderr


@pytest.mark.parametrize("masquerades", [True, False])
def test_the_default_network_masquerades_as_the_daemon_is_told(
    world: Outside, _images: None, masquerades: bool
) -> None:
    engine = Engine(["--bip=10.235.0.1/24", f"--ip-masq={masquerades}".lower()])
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        engine.docker("run", "-d", "--name", "client", "busybox", "sleep", "1000", check=True)
        address = inspect(engine, "client")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        assert reach(engine, "client", world.address, world.serve()) == (world.host if masquerades else address)
        engine.remove_containers()
        engine.stop()
    finally:
        engine.discard()


def test_without_the_firewall_the_engine_forwards(world: Outside, _images: None) -> None:
    """As on a kernel without nftables."""
    engine, port = Engine(["--iptables=false"]), free_port()
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        assert any("No firewall rules are made" in line for line in engine.request("GET", "/info").body["Warnings"])
        engine.docker("network", "create", "plain", check=True)
        listen(engine, "server", "--network", "plain", "-p", f"{port}:80")
        engine.docker("run", "-d", "--name", "client", "--network", "plain", "busybox", "sleep", "1000", check=True)
        assert world.connect(world.host, port) == "server"
        assert [connect(address, port) for address in ("127.0.0.1", "::1", world.host)] == ["server"] * 3
        assert reach(engine, "client", "server") == "server"
        assert reach(engine, "client", world.host, port) == "server"
        with Nftables() as firewall:
            names = [chain.table.name for chain in firewall.base_chains()]
        assert f"wherry-{instance(engine.data_root)}" not in names
        quiet = engine.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "quiet")
        assert "no firewall rules are made here" in quiet.stderr
        engine.kill()
        engine.start()
        assert world.connect(world.host, port) == "server"
        engine.remove_containers()
        assert world.connect(world.host, port).startswith("!")
        engine.stop()
    finally:
        engine.discard()
