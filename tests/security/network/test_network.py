"""What a container, or somebody outside, must not reach."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.outside import Outside
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen

_SEND = """
import socket
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sending.bind((%r, 0))
sending.sendto(b"x", (%r, %d))
"""


def test_localhost_is_not_reached_from_outside(engine: Engine, busybox: str, world: Outside) -> None:
    """CVE-2020-8558: a neighbour sends packets for 127.0.0.1 to this host's link address."""
    port = free_port()
    # As other software on this host sets it, and has the rules of the kernel itself let such packets in.
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    listen(engine, "private", "-p", f"127.0.0.1:{port}:80")
    assert connect("127.0.0.1", port) == "private"
    world.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    world.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    world.run("ip", "route", "add", "127.0.0.1/32", "via", world.host, "dev", "eth0", "src", world.address)
    try:
        assert world.connect("127.0.0.1", port, 1).startswith("!")
        with socket.create_server(("127.0.0.1", 0)) as own:
            assert world.connect("127.0.0.1", own.getsockname()[1], 1).startswith("!")
    finally:
        world.run("ip", "route", "del", "127.0.0.1/32")
        world.run("ip", "address", "add", "127.0.0.1/8", "dev", "lo")


def test_localhost_is_not_reached_from_a_container(engine: Engine, busybox: str) -> None:
    """The bridge lets packets of 127.0.0.1 out, so containers could try to send some in."""
    engine.docker("run", "-d", "--name", "box", "--privileged", busybox, "sleep", "1000", check=True)
    gateway = inspect(engine, "box")["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    script = f"""
        echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
        ip address del 127.0.0.1/8 dev lo
        ip route add 127.0.0.1/32 via {gateway} dev eth0
        nc -w 1 127.0.0.1 %d </dev/null"""
    with socket.create_server(("127.0.0.1", 0)) as own:
        own.settimeout(2)
        execute(engine, "box", "sh", "-c", script % own.getsockname()[1])
        with pytest.raises(TimeoutError):
            own.accept()


def test_ports_that_are_not_published_are_not_reached_by_a_route(engine: Engine, busybox: str, world: Outside) -> None:
    """A hole: a neighbour who knows a container's address, and sends by this host, gets an answer from any port."""
    listen(engine, "quiet")
    address = address_of(engine, "quiet")
    assert connect(address, 80) == "quiet"
    world.run("ip", "route", "add", f"{address}/32", "via", world.host)
    try:
        assert world.connect(address, 80, 1).startswith("!")
    finally:
        world.run("ip", "route", "del", f"{address}/32")


def test_a_container_cannot_send_as_somebody_else(engine: Engine, busybox: str, world: Outside) -> None:
    """From an address that its network does not have: a datagram that would need no answer."""
    engine.docker("run", "-d", "--name", "liar", "--privileged", busybox, "sleep", "1000", check=True)
    pid = str(inspect(engine, "liar")["State"]["Pid"])
    execute(engine, "liar", "ip", "address", "add", "203.0.113.9/32", "dev", "lo")
    gateway = inspect(engine, "liar")["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((gateway, 0))
        own.settimeout(1)
        send_from(pid, "203.0.113.9", *own.getsockname())
        with pytest.raises(TimeoutError):
            own.recv(10)
    before = unwanted_datagrams(world)
    send_from(pid, "203.0.113.9", world.address, 7)
    send_from(pid, "", world.address, 7)
    deadline = time.monotonic() + 5
    while unwanted_datagrams(world) == before:
        assert time.monotonic() < deadline
    assert unwanted_datagrams(world) == before + 1  # the honest one


def send_from(pid: str, source: str, address: str, port: int) -> None:
    command = ["nsenter", "--net", "--target", pid, sys.executable, "-c", _SEND % (source, address, port)]
    subprocess.run(command, check=True)


def unwanted_datagrams(world: Outside) -> int:
    """How many have come to ports at which nobody listens."""
    shown = [line.split() for line in world.run("cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Udp:")]
    return int(dict(zip(*shown, strict=True))["NoPorts"])


def test_the_name_service_answers_only_its_own_container(engine: Engine, busybox: str) -> None:
    """A hole: the name service listens where others reach it, and tells them of networks that are not theirs."""
    engine.docker("network", "create", "net", check=True)
    try:
        engine.docker("run", "-d", "--name", "box", "--network", "net", busybox, "sleep", "1000", check=True)
        sockets = execute(engine, "box", "cat", "/proc/net/udp", "/proc/net/tcp")
        listening = [line.split()[1] for line in sockets.splitlines() if ":" in line and "local" not in line]
        assert listening
        assert all(each.startswith("0B00007F:") for each in listening)  # 127.0.0.11
    finally:
        engine.remove_containers()
        engine.docker("network", "rm", "net", check=True)


def test_a_container_on_the_hosts_network_does_not_change_its_settings(engine: Engine, busybox: str) -> None:
    """A hole: --sysctl writes into the host's own network namespace."""
    setting = Path("/proc/sys/net/ipv4/conf/lo/log_martians")
    refused = engine.docker("run", "--rm", "--network", "host", "--sysctl", "net.ipv4.conf.lo.log_martians=1", busybox)
    assert refused.returncode == 125
    assert 'sysctl "net.ipv4.conf.lo.log_martians" not allowed in host network namespace' in refused.stderr
    assert setting.read_text() == "0\n"
