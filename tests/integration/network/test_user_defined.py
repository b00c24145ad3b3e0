"""User-defined networks: who reaches whom, by which names, and changes while containers run."""

import contextlib
import ipaddress
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.networks import interfaces
from tests.support.outside import Outside
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen, reach, wait_for_listener


@pytest.fixture
def net(engine: Engine, busybox: str) -> str:
    engine.docker("network", "create", "net", check=True)
    return "net"


@pytest.fixture
def other(engine: Engine, busybox: str) -> str:
    engine.docker("network", "create", "other", check=True)
    return "other"


def box(engine: Engine, name: str, *arguments: str) -> str:
    engine.docker("run", "-d", "--name", name, *arguments, "busybox", "sleep", "1000", check=True)
    return name


def look_up(engine: Engine, name: str, wanted: str) -> list[str]:
    """The addresses that nslookup finds, behind that of the server itself."""
    shown = execute(engine, name, "nslookup", wanted).splitlines()
    return [line.split()[1] for line in shown[2:] if line.startswith("Address")]


_ASK_BY_TCP = """
import socket, struct
question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + %r + struct.pack(">HH", 1, 1)
with socket.create_connection(("127.0.0.11", 53), 5) as asking:
    asking.sendall(struct.pack(">H", len(question)) + question)
    print(socket.inet_ntoa(asking.recv(512)[-4:]))
"""


def ask_by_tcp(pid: int, name: str) -> str:
    """The address that a question over TCP has for an answer, in the network namespace of ``pid``."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    command = ["nsenter", "--net", "--target", str(pid), sys.executable, "-c", _ASK_BY_TCP % labels]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def test_names_aliases_short_ids_and_reverse(engine: Engine, net: str) -> None:
    server = listen(engine, "server", "--network", net, "--network-alias", "alias", "--hostname", "host")
    box(engine, "asker", "--network", net)
    address = address_of(engine, "server", net)
    for name in ("server", "alias", server[:12], "host", "server.net", "SERVER"):
        assert look_up(engine, "asker", name) == [address], name
    assert reach(engine, "asker", "alias") == "server"
    assert "server.net" in execute(engine, "asker", "nslookup", address)
    engine.docker("rename", "server", "renamed", check=True)
    assert look_up(engine, "asker", "renamed") == [address]
    assert look_up(engine, "asker", "server") == []
    engine.docker("stop", "-t", "0", "renamed", check=True)
    assert look_up(engine, "asker", "alias") == []
    resolv = execute(engine, "asker", "cat", "/etc/resolv.conf").splitlines()
    assert "nameserver 127.0.0.11" in resolv
    assert resolv[-1].endswith(" ndots:0")


def test_servers_and_search_lists_of_ones_own(engine: Engine, net: str, world: Outside) -> None:
    """Names that are not of the network are asked for where the container was told to, by UDP and by TCP."""
    with world.name_server("outside.example", "192.0.2.7"):
        own = (
            "--dns",
            world.address,
            "--dns-search",
            "example",
            "--dns-option",
            "ndots:2",
            "--dns-option",
            "timeout:3",
        )
        box(engine, "asker", "--network", net, *own)
        assert look_up(engine, "asker", "outside.example") == ["192.0.2.7"]
        assert look_up(engine, "asker", "nobody.example") == []
        resolv = execute(engine, "asker", "cat", "/etc/resolv.conf").splitlines()
        assert resolv[-3:] == ["nameserver 127.0.0.11", "search example", "options ndots:2 timeout:3"]
        pid = inspect(engine, "asker")["State"]["Pid"]
        assert ask_by_tcp(pid, "outside.example") == "192.0.2.7"


def test_an_alias_of_several_goes_round(engine: Engine, net: str) -> None:
    addresses = set()
    for number in range(3):
        box(engine, f"box{number}", "--network", net, "--network-alias", "all")
        addresses.add(address_of(engine, f"box{number}", net))
    answers = [look_up(engine, "box0", "all") for _ in range(6)]
    assert all(set(answer) == addresses for answer in answers)
    assert {answer[0] for answer in answers} == addresses


def test_other_networks_are_not_reached(engine: Engine, net: str, other: str, world: Outside) -> None:
    port = free_port()
    listen(engine, "server", "--network", net, "-p", f"{port}:80")
    listen(engine, "plain")
    box(engine, "stranger", "--network", other)
    box(engine, "insider", "--network", net)
    address = address_of(engine, "server", net)
    assert reach(engine, "insider", address) == "server"
    assert reach(engine, "stranger", address) == ""
    assert reach(engine, "stranger", address_of(engine, "plain")) == ""
    assert look_up(engine, "stranger", "server") == []
    assert reach(engine, "stranger", world.host, port) == "server"  # published is for all
    assert reach(engine, "insider", world.address, world.serve()) == world.host


def test_connect_and_disconnect(engine: Engine, net: str, other: str) -> None:
    listen(engine, "server", "--network", net)
    wandering = box(engine, "wandering", "--network", other)
    address = address_of(engine, "server", net)
    assert reach(engine, wandering, address) == ""
    engine.docker("network", "connect", "--alias", "w", "--link", "server:linked", net, wandering, check=True)
    assert reach(engine, wandering, address) == "server"
    assert reach(engine, wandering, "linked") == "server"
    assert look_up(engine, "server", "w") == [address_of(engine, wandering, net)]
    assert address_of(engine, wandering, net) in execute(engine, wandering, "cat", "/etc/hosts")
    again = engine.docker("network", "connect", net, wandering)
    assert f"endpoint with name {wandering} already exists in network {net}" in again.stderr
    engine.docker("network", "disconnect", net, wandering, check=True)
    assert reach(engine, wandering, address) == ""
    assert look_up(engine, "server", "w") == []
    assert list(inspect(engine, wandering)["NetworkSettings"]["Networks"]) == [other]
    assert "eth1" not in execute(engine, wandering, "ls", "/sys/class/net")
    wrong = engine.docker("network", "disconnect", net, wandering)
    assert "is not connected to" in wrong.stderr


def test_what_a_container_writes_below_etc_stays_while_networks_change(engine: Engine, net: str, other: str) -> None:
    box(engine, "editor", "--network", net)
    execute(
        engine, "editor", "sh", "-c", "echo 192.0.2.9 mine >> /etc/hosts; echo nameserver 192.0.2.53 > /etc/resolv.conf"
    )
    engine.docker("network", "connect", other, "editor", check=True)
    engine.kill()
    engine.start()
    engine.docker("network", "disconnect", net, "editor", check=True)
    lines = execute(engine, "editor", "cat", "/etc/hosts", "/etc/resolv.conf").splitlines()
    assert lines[-3].startswith(address_of(engine, "editor", other) + "\t")
    assert lines[-2:] == ["192.0.2.9 mine", "nameserver 192.0.2.53"]
    engine.docker("restart", "-t", "0", "editor", check=True)
    assert "192.0.2" not in execute(engine, "editor", "cat", "/etc/hosts", "/etc/resolv.conf")


def test_the_default_route_and_ports_follow(engine: Engine, net: str, other: str) -> None:
    port = free_port()
    listen(engine, "server", "--network", other, "-p", f"{port}:80")
    assert connect("127.0.0.1", port) == "server"
    engine.docker("network", "connect", net, "server", check=True)
    engine.docker("network", "disconnect", other, "server", check=True)
    gateway = address_of(engine, "server", net, "Gateway")
    assert f"default via {gateway} " in execute(engine, "server", "ip", "route")
    assert connect("127.0.0.1", port) == "server"


def test_ports_are_reached_where_the_host_checks_ways_back(
    engine: Engine, net: str, other: str, world: Outside
) -> None:
    """With rp_filter, what comes from an address by another interface than leads to it is dropped."""
    strict = Path("/proc/sys/net/ipv4/conf/all/rp_filter")
    before = strict.read_text()
    strict.write_text("1")
    try:
        port = free_port()
        listen(engine, "server", "--network", other, "-p", f"{port}:80")
        assert world.connect(world.host, port) == "server"
        for change in ("connect", "disconnect"):
            engine.docker("network", change, net, "server", check=True)
            assert world.connect(world.host, port) == "server"
        assert engine.docker("port", "server", "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"
    finally:
        strict.write_text(before)


def test_a_connect_that_cannot_publish_leaves_nothing(engine: Engine, net: str) -> None:
    engine.docker("network", "create", "--internal", "inside", check=True)
    port = free_port()
    listen(engine, "late", "--network", "inside", "-p", f"{port}:80")
    listen(engine, "early", "-p", f"{port}:80")
    refused = engine.docker("network", "connect", net, "late")
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in refused.stderr
    assert list(inspect(engine, "late")["NetworkSettings"]["Networks"]) == ["inside"]
    assert "eth1" not in execute(engine, "late", "ls", "/sys/class/net")
    assert connect("127.0.0.1", port) == "early"
    engine.docker("rm", "-f", "early", check=True)
    engine.docker("network", "connect", net, "late", check=True)
    assert connect("127.0.0.1", port) == "late"
    assert reach(engine, "late", address_of(engine, "late", net, "Gateway"), port) == "late"  # to itself


def test_what_is_asked_for_is_told_before_the_start_and_had_after_it(engine: Engine, net: str) -> None:
    engine.docker("create", "--name", "made", "busybox", "sleep", "1000", check=True)
    mac = "02:42:ac:11:00:02"
    asked = {"MacAddress": mac, "IPAMConfig": {"LinkLocalIPs": ["169.254.8.8", "fe80::8:8"]}}
    response = engine.request("POST", f"/networks/{net}/connect", {"Container": "made", "EndpointConfig": asked})
    assert response.status == 200
    assert inspect(engine, "made")["NetworkSettings"]["Networks"][net]["MacAddress"] == mac
    engine.docker("start", "made", check=True)
    shown = execute(engine, "made", "sh", "-c", "ip -o address; ip -o link")
    assert mac in shown
    assert "169.254.8.8/16" in shown
    assert "fe80::8:8/64" in shown
    for wrong in ({"MacAddress": "02:42"}, {"IPAMConfig": {"LinkLocalIPs": ["here"]}}):
        refused = engine.request("POST", "/networks/bridge/connect", {"Container": "made", "EndpointConfig": wrong})
        assert refused.status == 400


def test_from_the_default_network_to_one_with_names(engine: Engine, net: str) -> None:
    listen(engine, "server", "--network", net)
    plain = box(engine, "plain")
    engine.docker("network", "connect", net, plain, check=True)
    assert reach(engine, plain, "server") == "server"


def test_the_mtu_is_that_of_the_hosts_way_out(engine: Engine, world: Outside) -> None:
    subprocess.run(["ip", "link", "set", world.port, "mtu", "1400"], check=True)
    subprocess.run(["ip", "route", "add", "default", "via", world.address], check=True)
    try:
        engine.docker("network", "create", "net", check=True)
        shown = engine.docker(
            "run", "--rm", "--network", "net", "busybox", "cat", "/sys/class/net/eth0/mtu", check=True
        )
        assert shown.stdout == "1400\n"
    finally:
        subprocess.run(["ip", "route", "del", "default"], check=True)
        subprocess.run(["ip", "link", "set", world.port, "mtu", "1500"], check=True)


def test_static_addresses(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "--subnet", "10.231.0.0/24", "--gateway", "10.231.0.254", "--ip-range",
                  "10.231.0.128/25", "--aux-address", "router=10.231.0.129", "fixed", check=True)  # fmt: skip
    box(engine, "asked", "--network", "fixed", "--ip", "10.231.0.7")
    box(engine, "given", "--network", "fixed")
    assert address_of(engine, "asked", "fixed") == "10.231.0.7"
    given = ipaddress.ip_address(address_of(engine, "given", "fixed"))
    assert given in ipaddress.ip_network("10.231.0.128/25")
    assert str(given) != "10.231.0.129"
    assert "default via 10.231.0.254" in execute(engine, "given", "ip", "route")
    taken = engine.docker("run", "--rm", "--network", "fixed", "--ip", "10.231.0.7", busybox, "true")
    assert "Address already in use" in taken.stderr
    outside = engine.docker("run", "--rm", "--network", "fixed", "--ip", "10.232.0.7", busybox, "true")
    assert "no configured subnet or ip-range contain the IP address 10.232.0.7" in outside.stderr
    engine.docker("network", "create", "--subnet", "10.232.0.0/30", "tiny", check=True)
    box(engine, "only", "--network", "tiny")
    full = engine.docker("run", "--rm", "--network", "tiny", busybox, "true")
    assert full.returncode == 125
    assert "no available IPv4 addresses on this network's address pools: tiny (" in full.stderr
    clash = engine.docker("network", "create", "--subnet", "10.231.0.0/16", "clash")
    assert "Pool overlaps with other one on this address space" in clash.stderr


def test_an_address_outlives_restarts_while_nobody_else_takes_it(engine: Engine, net: str) -> None:
    box(engine, "one", "--network", net)
    box(engine, "two", "--network", net)
    before = address_of(engine, "one", net)
    engine.docker("restart", "-t", "0", "one", check=True)
    assert address_of(engine, "one", net) == before
    engine.docker("stop", "-t", "0", "one", check=True)
    box(engine, "thief", "--network", net, "--ip", before)
    engine.docker("start", "one", check=True)
    assert len({address_of(engine, name, net) for name in ("one", "two", "thief")}) == 3


def test_the_hosts_ends_have_no_addresses_for_the_kernel_to_walk_through(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "--ipv6", "--subnet", "fd00:232::/64", "six", check=True)
    box(engine, "one", "--network", "six")
    ports = [name for name in interfaces(engine.data_root) if name.startswith("veth")]
    assert len(ports) == 1
    for known in ("if_inet6", "ipv6_route"):
        assert ports[0] not in Path(f"/proc/thread-self/net/{known}").read_text().split()


def test_neighbours_learn_who_has_an_address_now(engine: Engine, busybox: str) -> None:
    subnets = ("--subnet", "10.231.0.0/24", "--subnet", "fd00:231::/64")
    engine.docker("network", "create", "--ipv6", *subnets, "six", check=True)
    box(engine, "neighbour", "--network", "six")
    addresses = ("--ip", "10.231.0.9", "--ip6", "fd00:231::9")
    for name, mac in (("one", "02:11:22:33:44:55"), ("two", "02:11:22:33:44:66")):
        listen(engine, name, "--network", "six", *addresses, "--mac-address", mac)
        for address in ("10.231.0.9", "fd00:231::9"):
            assert reach(engine, "neighbour", address) == name
        engine.docker("rm", "-f", name, check=True)


@pytest.mark.parametrize("filters", ["0", "1"])
def test_addresses_that_the_engine_did_not_give_out(engine: Engine, net: str, filters: str) -> None:
    """Also where the firewall sees what is bridged, as on every node of Kubernetes. Docker 26: reached both ways."""
    for version in ("iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):  # no br_netfilter, which is as "0"
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{version}").write_text(filters, encoding="ascii")
    listen(engine, "one", "--network", net, "--link-local-ip", "169.254.8.8", "--cap-add", "NET_ADMIN")
    box(engine, "two", "--network", net, "--link-local-ip", "169.254.9.9", "--cap-add", "NET_ADMIN")
    execute(engine, "one", "ip", "address", "add", "10.77.0.1/24", "dev", "eth0")
    execute(engine, "two", "ip", "address", "add", "10.77.0.2/24", "dev", "eth0")
    for target in ("169.254.8.8", "10.77.0.1", "one"):
        assert reach(engine, "two", target) == "one", target
    told = engine.request("GET", "/v1.49/info").body["BridgeNfIptables"]
    assert told == (filters == "1" and Path("/proc/sys/net/bridge").exists())
    assert "BridgeNfIptables" not in engine.request("GET", "/v1.50/info").body


def test_an_internal_network_has_no_way_out(engine: Engine, busybox: str, world: Outside) -> None:
    engine.docker("network", "create", "--internal", "inside", check=True)
    listen(engine, "server", "--network", "inside")
    box(engine, "client", "--network", "inside")
    assert reach(engine, "client", "server") == "server"
    assert "default" not in execute(engine, "client", "ip", "route")
    pool = engine.request("GET", "/networks/inside").body["IPAM"]["Config"][0]
    route = ("ip", "route", "add", "default", "via", pool["Gateway"])
    engine.docker("exec", "--privileged", "client", *route, check=True)
    world.run("ip", "route", "add", pool["Subnet"], "via", world.host)  # answers would find their way
    assert reach(engine, "client", world.address, world.serve()) == ""
    port = free_port()
    listen(engine, "published", "-p", f"{port}:80")
    assert reach(engine, "client", world.host, port) == ""


def test_without_communication_only_links_are_reached(engine: Engine, busybox: str) -> None:
    engine.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "quiet", check=True)
    port = free_port()
    listen(engine, "server", "--network", "quiet", "-p", f"{port}:80")
    box(engine, "client", "--network", "quiet")
    assert reach(engine, "client", address_of(engine, "server", "quiet")) == ""
    assert connect("127.0.0.1", port) == "server"


def test_ipv6(engine: Engine, busybox: str, world: Outside) -> None:
    engine.docker("network", "create", "--ipv6", "--subnet", "fd00:231::/64", "six", check=True)
    port = free_port()
    server = ("nc", "-ll", "-p", "80", "-e", "/bin/echo", "-n", "server")
    engine.docker("run", "-d", "--name", "server", "--network", "six", "--ip6", "fd00:231::99", "-p", f"{port}:80",
                  busybox, *server, check=True)  # fmt: skip
    wait_for_listener(engine, "server", 80)
    box(engine, "client", "--network", "six")
    address = address_of(engine, "server", "six", "GlobalIPv6Address")
    assert address == "fd00:231::99"
    assert look_up(engine, "client", "server") == [address_of(engine, "server", "six"), address]
    assert "1 packets received" in execute(engine, "client", "ping", "-6", "-c", "1", "-W", "2", "server")
    assert connect("::1", port) == "server"
    assert connect(address, 80) == "server"
    assert connect("127.0.0.1", port) == "server"
    assert connect(world.host6, port) == "server"
    assert world.connect(world.host6, port) == "server"
    assert world.connect(world.host, port) == "server"
    for name in ("server", "client"):  # by way of the host, even to itself
        assert reach(engine, name, world.host6, port) == "server"
    assert reach(engine, "client", world.address6, world.serve(world.address6)) == world.host6
    world.run("ip", "route", "add", f"{address}/128", "via", world.host6)
    assert world.connect(address, 80, 1).startswith("!")
    world.run("ip", "route", "del", f"{address}/128")


def test_a_network_with_ipv6_alone(engine: Engine, busybox: str, world: Outside) -> None:
    engine.docker("network", "create", "--ipv4=false", "--ipv6", "only6", check=True)
    port = free_port()
    listen(engine, "server", "--network", "only6", "-p", f"{port}:80")
    box(engine, "client", "--network", "only6")
    assert address_of(engine, "server", "only6") == ""
    assert reach(engine, "client", "server") == "server"
    assert [connect(address, port) for address in ("::1", "127.0.0.1", world.host)] == ["server"] * 3
    assert world.connect(world.host, port) == "server"
    engine.kill()
    engine.start()
    assert [connect(address, port) for address in ("::1", "127.0.0.1", world.host)] == ["server"] * 3


@pytest.mark.parametrize("has_parent", [True, False])
def test_macvlan(engine: Engine, busybox: str, world: Outside, has_parent: bool) -> None:
    parent = ("-o", f"parent={world.port}") if has_parent else ("--internal",)
    engine.docker("network", "create", "-d", "macvlan", *parent, "--subnet", "10.233.0.0/24", "lan", check=True)
    listen(engine, "server", "--network", "lan")
    box(engine, "client", "--network", "lan")
    assert reach(engine, "client", "server") == "server"
    if has_parent:  # on the same cable as the outside, with no host in between
        world.run("ip", "address", "add", "10.233.0.200/24", "dev", "eth0")
        assert world.connect(address_of(engine, "server", "lan"), 80) == "server"


def test_macvlan_on_a_vlan(engine: Engine, busybox: str) -> None:
    """The interface of the tag is made with the network, and goes with it."""
    subprocess.run(["ip", "link", "add", "whvlan0", "type", "veth", "peer", "name", "whvlan1"], check=True)
    try:
        lan = ("network", "create", "-d", "macvlan", "--subnet", "10.234.0.0/24", "lan", "-o")
        unknown = engine.docker(*lan, "parent=nowhere.50")
        assert "invalid subinterface vlan name nowhere.50, example formatting is eth0.10" in unknown.stderr
        made = engine.docker(*lan, "parent=whvlan0.50")
        if "not supported" in made.stderr:
            pytest.skip("this kernel has no VLANs")
        assert made.returncode == 0
        assert engine.docker("run", "--rm", "--network", "lan", busybox, "true").returncode == 0
        engine.docker("network", "rm", "lan", check=True)
        assert subprocess.run(["ip", "link", "show", "whvlan0.50"], capture_output=True, check=False).returncode != 0
    finally:
        subprocess.run(["ip", "link", "delete", "whvlan0"], check=True)


def test_networks_are_listed_inspected_and_removed(engine: Engine, net: str) -> None:
    names = engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert set(names) >= {"bridge", "host", "none", net}
    for pattern in (net, f"^{net}$", "^n.t"):
        found = engine.docker("network", "ls", "-q", "-f", "type=custom", "-f", f"name={pattern}").stdout
        assert found.count("\n") == 1
    box(engine, "user", "--network", net)
    found = json.loads(engine.docker("network", "inspect", net).stdout)[0]
    assert [each["Name"] for each in found["Containers"].values()] == ["user"]
    refused = engine.docker("network", "rm", net)
    assert "has active endpoints" in refused.stderr
    assert "is a pre-defined network and cannot be removed" in engine.docker("network", "rm", "bridge").stderr
    assert "already exists" in engine.docker("network", "create", net).stderr
    assert "not found" in engine.docker("network", "rm", "nowhere").stderr
    engine.docker("rm", "-f", "user", check=True)
    engine.docker("network", "create", "--label", "keep", "kept", check=True)
    pruned = engine.docker("network", "prune", "-f", "--filter", "label!=keep").stdout
    assert net in pruned
    assert "kept" not in pruned
    engine.docker("network", "rm", "kept", check=True)


def test_a_bridge_that_somebody_has_deleted_is_made_again(engine: Engine, net: str) -> None:
    engine.docker("run", "--rm", "busybox", "true", check=True)
    default = engine.request("GET", "/networks/bridge").body["Options"]["com.docker.network.bridge.name"]
    for name in (f"br-{engine.request('GET', f'/networks/{net}').body['Id'][:12]}", default):
        subprocess.run(["ip", "link", "delete", name], check=True)
    for name in (net, "bridge"):
        listen(engine, f"on-{name}", "--network", name)
        assert connect(address_of(engine, f"on-{name}", name), 80) == f"on-{name}"


def test_a_container_is_freed_of_a_network_that_was_removed(engine: Engine, net: str, other: str) -> None:
    box(engine, "left", "--network", net)
    engine.docker("stop", "-t", "0", "left", check=True)
    engine.docker("network", "rm", net, check=True)
    refused = engine.docker("start", "left")
    assert f"network {net} not found" in refused.stderr
    engine.docker("network", "disconnect", net, "left", check=True)
    engine.docker("network", "connect", other, "left", check=True)
    engine.docker("start", "left", check=True)
    assert list(inspect(engine, "left")["NetworkSettings"]["Networks"]) == [other]


def test_events(engine: Engine, net: str) -> None:
    engine.docker("run", "--rm", "--name", "short", "--network", net, "busybox", "true", check=True)
    until = f"{time.time():.9f}"
    shown = engine.docker("events", "--since", "1", "--until", until, "--filter", "type=network", "--format", "json")
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    own = [event["Action"] for event in events if event["Actor"]["Attributes"].get("name") == net]
    assert own[-3:] == ["create", "connect", "disconnect"]


def test_the_wherry_command(engine: Engine, busybox: str) -> None:
    created = engine.wherry("network", "create", "--subnet", "10.234.0.0/24", "--label", "a=b", "mine", check=True)
    assert len(created.stdout.strip()) == 64
    assert "mine" in engine.wherry("network", "ls", check=True).stdout
    box(engine, "plain")
    engine.wherry("network", "connect", "--ip", "10.234.0.9", "mine", "plain", check=True)
    assert address_of(engine, "plain", "mine") == "10.234.0.9"
    engine.wherry("network", "disconnect", "mine", "plain", check=True)
    assert json.loads(engine.wherry("network", "inspect", "mine", check=True).stdout)[0]["Labels"] == {"a": "b"}
