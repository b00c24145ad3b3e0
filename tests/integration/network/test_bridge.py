"""The default bridge: addresses, the way out, published ports, links."""

import ipaddress
import socket

import pytest

from tests.support.engine import Engine
from tests.support.outside import Outside
from tests.support.talking import (
    address_of,
    connect,
    echoing,
    execute,
    free_port,
    inspect,
    listen,
    reach,
    wait_for_listener,
)
from wherry.linux.rtnetlink import Route

_SEND_FROM_ONE_PORT = """
import socket
asking = socket.socket(socket.AF_INET6 if %r else socket.AF_INET, socket.SOCK_DGRAM)
asking.bind(("", 5555))
asking.settimeout(0.5)
asking.connect((%r, %d))
for _ in range(3):
    try:
        asking.send(b"hello")
        print(asking.recv(100).decode())
        break
    except OSError:
        continue
else:
    print("nobody")
"""


@pytest.fixture
def box(engine: Engine, busybox: str) -> str:
    engine.docker("run", "-d", "--name", "box", busybox, "sleep", "1000", check=True)
    return "box"


def test_a_container_has_an_address_a_gateway_and_the_hosts_mtu(engine: Engine, box: str) -> None:
    settings = inspect(engine, box)["NetworkSettings"]["Networks"]["bridge"]
    network = engine.request("GET", "/networks/bridge").body
    pool = network["IPAM"]["Config"][0]
    assert ipaddress.ip_address(settings["IPAddress"]) in ipaddress.ip_network(pool["Subnet"])
    assert settings["Gateway"] == pool["Gateway"]
    old = engine.request("GET", f"/v1.51/containers/{box}/json").body["NetworkSettings"]
    assert (old["IPAddress"], old["Gateway"]) == (settings["IPAddress"], settings["Gateway"])
    shown = execute(engine, box, "ip", "-o", "address", "show", "dev", "eth0")
    broadcast = ipaddress.ip_network(pool["Subnet"]).broadcast_address
    assert f"{settings['IPAddress']}/{settings['IPPrefixLen']} brd {broadcast} " in shown
    assert settings["MacAddress"] in execute(engine, box, "ip", "-o", "link", "show", "dev", "eth0")
    assert f"default via {pool['Gateway']}" in execute(engine, box, "ip", "route")
    with Route() as route:
        default = next((each.interface for each in route.routes() if each.destination == "0.0.0.0/0"), None)
        mtu = next((link.mtu for link in route.links() if link.index == default), 1500)
        assert route.link(network["Options"]["com.docker.network.bridge.name"]) is not None
    assert f"mtu {mtu} " in execute(engine, box, "ip", "-o", "link", "show", "dev", "eth0")
    assert network["Options"]["com.docker.network.driver.mtu"] == str(mtu)
    assert next(iter(network["Containers"].values()))["Name"] == box


def test_the_subnet_collides_with_no_route_of_the_host(engine: Engine, box: str) -> None:
    bridge = engine.request("GET", "/networks/bridge").body
    subnet = ipaddress.ip_network(bridge["IPAM"]["Config"][0]["Subnet"])
    with Route() as route:
        routes = [ipaddress.ip_network(r.destination) for r in route.routes() if r.destination != "0.0.0.0/0"]
    assert [r for r in routes if r.version == 4 and r.overlaps(subnet)] == [subnet]


def test_what_leaves_has_the_hosts_address(engine: Engine, box: str, world: Outside) -> None:
    port = world.serve()
    assert reach(engine, box, world.address, port) == world.host


def test_a_published_port_is_reached_from_everywhere(engine: Engine, box: str, world: Outside) -> None:
    port = free_port()
    listen(engine, "web", "-p", f"{port}:80")
    assert world.connect(world.host, port) == "web"
    assert world.connect(world.host6, port) == "web"
    for address in ("127.0.0.1", world.host, "::1", world.host6):
        assert connect(address, port) == "web", address
    assert connect(address_of(engine, "web"), 80) == "web"
    assert reach(engine, box, world.host, port) == "web"
    assert reach(engine, "web", world.host, port) == "web"
    assert engine.docker("port", "web").stdout == f"80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"
    engine.docker("stop", "-t", "0", "web", check=True)
    assert connect("127.0.0.1", port) == ""
    assert world.connect(world.host, port) == "!ConnectionRefusedError"


def test_docker_run_with_a_listener_and_a_client_from_outside(engine: Engine, busybox: str, world: Outside) -> None:
    listen(engine, "server", "-p", "5001:5001", port=5001)
    assert world.connect(world.host, 5001) == "server"


def test_a_udp_port(engine: Engine, busybox: str, world: Outside) -> None:
    port = free_port()
    engine.docker("run", "-d", "--name", "udp", "-p", f"{port}:53/udp", busybox, "sleep", "1000", check=True)
    with echoing(engine, "udp", 53):
        assert world.ask(world.host, port) == "hello"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.sendto(b"by IPv6", ("::1", port))
            assert client.recv(100) == b"by IPv6"


def test_who_sends_datagrams_all_the_time_reaches_who_has_the_port_now(
    engine: Engine, busybox: str, world: Outside
) -> None:
    """What the kernel decided for its first datagram does not hold for ever."""
    for host in (world.host, world.host6):
        engine.docker("network", "create", "--ipv6", "net", check=True)
        engine.docker("run", "-d", "--name", "filler", "--network", "net", busybox, "sleep", "1000", check=True)
        port = free_port()
        ask = _SEND_FROM_ONE_PORT % (":" in host, host, port)
        assert world.python(ask).stdout == "nobody\n"
        for name in ("first", "second"):
            engine.docker("run", "-d", "--name", name, "--network", "net", "-p", f"{port}:53/udp", busybox,
                          "sleep", "1000", check=True)  # fmt: skip
            with echoing(engine, name, 53, says=name):
                assert world.python(ask).stdout == f"{name}\n"
            engine.docker("rm", "-f", name, check=True)
            assert world.python(ask).stdout == "nobody\n"
            engine.docker("run", "-d", "--network", "net", busybox, "sleep", "1000", check=True)  # has its address
        engine.remove_containers()
        engine.docker("network", "rm", "net", check=True)


def test_a_port_of_one_address_is_not_reached_by_another(engine: Engine, busybox: str, world: Outside) -> None:
    port = free_port()
    listen(engine, "local", "-p", f"127.0.0.1:{port}:80")
    assert connect("127.0.0.1", port) == "local"
    assert connect(world.host, port) == ""
    assert world.connect(world.host, port) == "!ConnectionRefusedError"
    listen(engine, "other", "-p", f"{world.host}:{port}:80")
    assert world.connect(world.host, port) == "other"
    assert connect("127.0.0.1", port) == "local"


def test_random_ports_ranges_and_all_exposed_ones(engine: Engine, busybox: str) -> None:
    first = free_port()
    for name in ("one", "two"):
        engine.docker("run", "-d", "--name", name, "-p", f"{first}-{first + 9}:80", busybox, "sleep", "9", check=True)
    taken = [int(inspect(engine, name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]) for name in ("one", "two")]
    assert len(set(taken)) == 2
    assert all(first <= port <= first + 9 for port in taken)
    engine.docker("run", "-d", "--name", "three", "-P", "--expose", "80", "--expose", "53/udp", busybox, "sleep", "9",
                  check=True)  # fmt: skip
    ports = inspect(engine, "three")["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "53/udp"}
    assert ports["80/tcp"][0]["HostPort"] == ports["80/tcp"][1]["HostPort"] != "0"
    engine.docker("run", "-d", "--name", "four", "-p", "8080-8082", busybox, "sleep", "9", check=True)
    assert set(inspect(engine, "four")["NetworkSettings"]["Ports"]) == {"8080/tcp", "8081/tcp", "8082/tcp"}


def test_a_port_in_use_is_refused_and_held_while_the_container_runs(engine: Engine, busybox: str) -> None:
    port = free_port()
    engine.docker("run", "-d", "--name", "first", "-p", f"{port}:80", busybox, "sleep", "1000", check=True)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
    again = engine.docker("run", "-d", "--name", "second", "-p", f"{port}:80", busybox, "touch", "/started")
    assert again.returncode == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in again.stderr
    assert inspect(engine, "second")["State"]["Status"] == "created"
    engine.docker("stop", "-t", "0", "first", check=True)
    with socket.create_server(("127.0.0.1", port)):
        taken = engine.docker("start", "second")
        assert taken.returncode == 1
        assert "address already in use" in taken.stderr
    engine.docker("start", "second", check=True)


def test_links(engine: Engine, busybox: str) -> None:
    listen(engine, "db", "--expose", "5001", "-e", "SECRET=x", port=5001)
    engine.docker("run", "-d", "--name", "app", "--link", "db:database", busybox, "sleep", "1000", check=True)
    address = address_of(engine, "db")
    environment = engine.docker("run", "--rm", "--name", "web", "--link", "db:database", busybox, "env").stdout
    for line in (
        f"DATABASE_PORT=tcp://{address}:5001",
        f"DATABASE_PORT_5001_TCP=tcp://{address}:5001",
        f"DATABASE_PORT_5001_TCP_ADDR={address}",
        "DATABASE_PORT_5001_TCP_PORT=5001",
        "DATABASE_PORT_5001_TCP_PROTO=tcp",
        "DATABASE_NAME=/web/database",
        "DATABASE_ENV_SECRET=x",
    ):
        assert line in environment.splitlines()
    assert reach(engine, "app", "database", 5001) == "db"
    assert any(
        line.split()[:2] == [address, "database"] for line in execute(engine, "app", "cat", "/etc/hosts").splitlines()
    )
    # Its address is taken while it is away, so that it comes back with another.
    engine.docker("stop", "-t", "0", "db", check=True)
    for number in range(3):
        engine.docker("run", "-d", "--name", f"other{number}", busybox, "sleep", "1000", check=True)
    engine.docker("start", "db", check=True)
    wait_for_listener(engine, "db", 5001)
    assert reach(engine, "app", "database", 5001) == "db"
    stopped = engine.docker("run", "--rm", "--link", "nobody:x", busybox, "true")
    assert "could not get container for nobody" in stopped.stderr


def test_modes_host_none_and_of_another_container(engine: Engine, box: str, busybox: str, world: Outside) -> None:
    links = engine.docker("run", "--rm", "--network", "none", busybox, "ls", "/sys/class/net").stdout
    assert links.split() == ["lo"]
    host = engine.docker("run", "--rm", "--network", "host", busybox, "ls", "/sys/class/net").stdout
    assert world.port in host.split()
    named = ("run", "--rm", "--network", "host", "--hostname", "own.example", busybox, "sh", "-c")
    assert engine.docker(*named, "hostname; cat /etc/hostname").stdout == "own.example\n" * 2
    own = execute(engine, box, "cat", "/etc/hosts")
    joined = engine.docker("run", "--rm", "--network", f"container:{box}", busybox, "sh", "-c",
                           "ip -o -4 address show dev eth0; cat /etc/hosts; hostname").stdout  # fmt: skip
    assert address_of(engine, box) in joined
    assert own in joined
    wrong = engine.docker("run", "--rm", "--network", "nowhere", busybox, "true")
    assert wrong.returncode == 125
    assert "network nowhere not found" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "conflict"),
    [
        ("--hostname x", "hostname and the network mode"),
        ("--link box", "container type network can't be used with links"),
        ("--dns 192.0.2.1", "dns and the network mode"),
        ("--add-host a:192.0.2.1", "custom host-to-IP mapping and the network mode"),
        ("-p 80", "port publishing and the container type network mode"),
        ("-P", "port publishing and the container type network mode"),
        ("--expose 80", "port exposing and the container type network mode"),
        ("--mac-address 02:42:ac:11:00:99", "mac-address and the network mode"),
    ],
)
def test_what_a_shared_network_does_not_go_with(engine: Engine, box: str, arguments: str, conflict: str) -> None:
    refused = engine.docker("run", "--rm", "--network", f"container:{box}", *arguments.split(), "busybox", "true")
    assert refused.returncode == 125
    assert f"conflicting options: {conflict}" in refused.stderr
    if "link" in arguments or "mac" in arguments:
        refused = engine.docker("run", "--rm", "--network", "host", *arguments.split(), "busybox", "true")
        assert refused.returncode == 125
        assert "conflicting options: " in refused.stderr


def test_host_files(engine: Engine, busybox: str) -> None:
    shown = engine.docker(
        "run", "--rm", "--hostname", "me", "--domainname", "example", "--add-host", "one:10.1.2.3",
        "--add-host", "up:host-gateway", "--dns", "192.0.2.53", "--dns-search", "example.com",
        "--dns-option", "ndots:3", busybox, "sh", "-c", "cat /etc/hosts /etc/hostname /etc/resolv.conf",
    ).stdout.splitlines()  # fmt: skip
    gateway = engine.request("GET", "/networks/bridge").body["IPAM"]["Config"][0]["Gateway"]
    assert "10.1.2.3\tone" in shown
    assert f"{gateway}\tup" in shown
    assert any(line.endswith("\tme.example me") for line in shown)
    whole = engine.docker("run", "--rm", "--hostname", "me.example", busybox, "cat", "/etc/hosts").stdout
    assert whole.splitlines()[-1].endswith("\tme.example me")
    assert "me" in shown
    assert shown[-3:] == ["nameserver 192.0.2.53", "search example.com", "options ndots:3"]


def test_a_mac_address_of_ones_own(engine: Engine, busybox: str) -> None:
    mac = "02:42:ac:11:00:99"
    shown = engine.docker("run", "--rm", "--mac-address", mac, busybox, "cat", "/sys/class/net/eth0/address").stdout
    assert shown.strip() == mac
