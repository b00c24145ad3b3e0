"""What each of the daemon's settings does: an engine that has many of them, from a daemon.json."""

import ipaddress
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apart import host  # noqa: F401 - networks of its own
from tests.support.engine import CACHE, Engine, started, wait_until_gone

NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
}
SETTINGS: dict[str, Any] = {
    "bip": "10.211.0.1/24",
    "fixed-cidr": "10.211.0.128/25",
    "ipv6": True,
    "fixed-cidr-v6": "fd00:211::/64",
    "mtu": 1400,
    "ip": "127.0.0.1",
    "default-address-pools": [{"base": "10.212.0.0/16", "size": 24}, {"base": "fd00:212::/48", "size": 64}],
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
    "dns": ["10.9.8.7"],
    "dns-opts": ["attempts:3"],
    "dns-search": ["example.org"],
    "host-gateway-ips": ["10.1.1.1", "fd00::1"],
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 123, "Hard": 456}},
    "default-shm-size": "8m",
    "default-ipc-mode": "shareable",
    "default-cgroupns-mode": "host",
    "default-runtime": "runc",
    "default-stop-timeout": 1,
    "cgroup-parent": "/wherry-settings",
    "init": True,
    "no-new-privileges": True,
    "labels": ["deck=upper"],
    "experimental": True,
    "features": {"buildkit": False},
    "log-format": "json",
    "userland-proxy": False,
}


@pytest.fixture(scope="module")
def configured(host: None, _images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:  # noqa: F811
    folder = tmp_path_factory.mktemp("settings")
    profile = folder / "profile.json"
    profile.write_text(json.dumps(NO_MKDIR))
    (folder / "daemon.json").write_text(json.dumps(SETTINGS | {"seccomp-profile": str(profile)}))
    with started(Engine(["--config-file", str(folder / "daemon.json")])) as engine:
        yield engine


@pytest.fixture(scope="module")
def seen(configured: Engine) -> dict[str, str]:
    """What a container sees, by the command that shows it."""
    commands = (
        "ip -o addr", "cat /sys/class/net/eth0/mtu", "cat /etc/resolv.conf", "cat /etc/hosts", "ulimit -Sn; ulimit -Hn",
        "df -k /dev/shm", "cat /proc/self/cgroup", "echo $$", "grep NoNewPrivs /proc/self/status",
        "mkdir /x 2>&1", "readlink /proc/self/ns/cgroup", "ip route",
    )  # fmt: skip
    script = "; ".join(f"echo '@@{command}'; {command}" for command in commands)
    said = configured.wherry(
        "run", "--name", "seen", "--add-host", "up:host-gateway", "busybox", "sh", "-c", script, check=True
    )
    parts = (part.partition("\n") for part in said.stdout.split("@@")[1:])
    return {command: output.strip() for command, _, output in parts}


def test_addresses_of_the_default_network(configured: Engine, seen: dict[str, str]) -> None:
    texts = re.findall(r"inet6? (\S+)(?: brd \S+)? scope global", seen["ip -o addr"])
    addresses = [ipaddress.ip_interface(each) for each in texts]
    assert [each.network.prefixlen for each in addresses] == [24, 64]
    assert addresses[0] in ipaddress.ip_network("10.211.0.128/25")
    assert addresses[1] in ipaddress.ip_network("fd00:211::/64")
    assert "default via 10.211.0.1 " in seen["ip route"]
    assert seen["cat /sys/class/net/eth0/mtu"] == "1400"
    [network] = json.loads(configured.wherry("network", "inspect", "bridge", check=True).stdout)
    assert network["EnableIPv6"] is True
    assert network["IPAM"]["Config"][0] == {
        "Subnet": "10.211.0.0/24", "IPRange": "10.211.0.128/25", "Gateway": "10.211.0.1",
    }  # fmt: skip


def test_names(seen: dict[str, str]) -> None:
    assert seen["cat /etc/resolv.conf"] == "nameserver 10.9.8.7\nsearch example.org\noptions attempts:3"
    assert "10.1.1.1\tup\nfd00::1\tup" in seen["cat /etc/hosts"]


def test_a_container_that_says_it_itself_is_heard(configured: Engine) -> None:
    script = (
        "ulimit -Sn; cat /etc/resolv.conf; df -k /dev/shm; grep NoNewPrivs /proc/self/status; mkdir /x && echo made"
    )
    said = configured.wherry(
        "run", "--rm", "--ulimit=nofile=7:8", "--dns=10.1.1.9", "--dns-search=other.org", "--dns-option=timeout:7",
        "--shm-size=4m", "--security-opt=no-new-privileges=false", "--security-opt=seccomp=unconfined",
        "busybox", "sh", "-c", script, check=True,
    )  # fmt: skip
    assert said.stdout.startswith("7\nnameserver 10.1.1.9\nsearch other.org\noptions timeout:7\n")
    assert re.search(r"\b4096\b", said.stdout)
    assert "NoNewPrivs:\t0" in said.stdout
    assert said.stdout.endswith("made\n")


def test_limits_privileges_and_filters(configured: Engine, seen: dict[str, str]) -> None:
    assert seen["ulimit -Sn; ulimit -Hn"] == "123\n456"
    assert seen["grep NoNewPrivs /proc/self/status"] == "NoNewPrivs:\t1"
    assert "not supported" in seen["mkdir /x 2>&1"]
    assert re.search(r"\b8192\b", seen["df -k /dev/shm"])
    [found] = json.loads(configured.wherry("inspect", "seen", check=True).stdout)
    host_config = found["HostConfig"]
    assert (host_config["ShmSize"], host_config["Ulimits"]) == (8 << 20, [])
    assert (host_config["IpcMode"], host_config["CgroupnsMode"]) == ("shareable", "host")
    assert (host_config["Runtime"], host_config["CgroupParent"]) == ("runc", "/wherry-settings")


def test_a_process_that_joins_has_the_same_limits(configured: Engine) -> None:
    configured.wherry("run", "-d", "--name", "joined", "busybox", "sleep", "600", check=True)
    script = "ulimit -Sn; grep NoNewPrivs /proc/self/status; mkdir /x"
    said = configured.wherry("exec", "joined", "sh", "-c", script)
    assert said.stdout == "123\nNoNewPrivs:\t1\n"
    assert "not supported" in said.stderr
    began = time.monotonic()
    configured.wherry("exec", "joined", "kill", "-STOP", "1")
    configured.wherry("stop", "joined", check=True)
    assert time.monotonic() - began < 8  # default-stop-timeout, and not ten seconds


def test_namespaces_and_cgroups(configured: Engine, seen: dict[str, str]) -> None:
    assert seen["readlink /proc/self/ns/cgroup"] == os.readlink("/proc/self/ns/cgroup")
    assert "/wherry-settings/" in seen["cat /proc/self/cgroup"]
    assert seen["echo $$"] != "1"  # which is the init


def test_networks_are_cut_from_the_pools_and_have_the_options(configured: Engine) -> None:
    try:
        configured.wherry("network", "create", "--ipv6", "--label", "x", "cut", check=True)
        configured.wherry("network", "create", "--opt", "com.docker.network.driver.mtu=1200", "own", check=True)
        [cut] = json.loads(configured.wherry("network", "inspect", "cut", check=True).stdout)
        assert [each["Subnet"] for each in cut["IPAM"]["Config"]] == ["10.212.0.0/24", "fd00:212::/64"]
        said = configured.wherry(
            "run", "--rm", "--network=cut", "busybox", "cat", "/sys/class/net/eth0/mtu", check=True
        )
        assert said.stdout == "1300\n"
        [own] = json.loads(configured.wherry("network", "inspect", "own", check=True).stdout)
        assert own["Options"]["com.docker.network.driver.mtu"] == "1200"
        said = configured.wherry("run", "--rm", "--network=own", "busybox", "cat", "/etc/resolv.conf", check=True)
        assert "looked up at: 10.9.8.7\n" in said.stdout
    finally:
        configured.wherry("network", "rm", "cut", "own")


def test_ports_are_published_where_the_setting_says(configured: Engine) -> None:
    configured.wherry("run", "-d", "--name", "web", "-p", "80", "busybox", "httpd", "-f", check=True)
    assert configured.wherry("port", "web", check=True).stdout.startswith("80/tcp -> 127.0.0.1:")


def test_without_the_proxy_only_what_the_kernel_leads_is_published(configured: Engine) -> None:
    try:
        configured.wherry("network", "create", "four", check=True)
        configured.wherry(
            "run", "-d", "--name", "four", "--network=four", "-p", "80", "busybox", "sleep", "60", check=True
        )
        assert len(configured.wherry("port", "four", check=True).stdout.splitlines()) == 1
    finally:
        configured.wherry("rm", "-f", "four")
        configured.wherry("network", "rm", "four")


def test_info_tells_of_them(configured: Engine) -> None:
    info = configured.request("GET", "/info").body
    assert info["Labels"] == ["deck=upper"]
    assert info["ExperimentalBuild"] is True
    assert info["DefaultRuntime"] == "runc"
    assert "runc" in info["Runtimes"]
    assert info["DefaultAddressPools"][0] == {"Base": "10.212.0.0/16", "Size": 24}
    assert "name=no-new-privileges" in info["SecurityOptions"]
    assert any(each.startswith("name=seccomp,profile=/") for each in info["SecurityOptions"])
    ping = configured.request("GET", "/_ping")
    assert (ping.headers["Docker-Experimental"], ping.headers["Builder-Version"]) == ("true", "1")
    assert configured.request("GET", "/version").headers["Docker-Experimental"] == "true"


def test_the_log_is_json(configured: Engine) -> None:
    lines = [json.loads(line) for line in configured.log_text().splitlines()]
    assert all(set(line) == {"level", "msg", "time"} for line in lines)
    assert any(line["msg"].startswith("serving on unix://") for line in lines)


# Settings that need an engine of their own


@pytest.fixture
def start(host: None, _images: None, tmp_path: Path) -> Iterator[Callable[..., Engine]]:  # noqa: F811
    """``start(daemon_json, *flags)``: an engine with busybox; ``start.path`` is its daemon.json."""
    engines = []

    def begin(content: dict[str, Any], *words: str) -> Engine:
        path = tmp_path / "daemon.json"
        path.write_text(json.dumps(content))
        engine = Engine(["--config-file", str(path), *words])
        engines.append(engine)
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        return engine

    yield begin
    for engine in engines:
        if engine.running:
            engine.remove_containers()
            engine.stop()
        engine.discard()


def reload(engine: Engine, path: Path, content: dict[str, Any]) -> str:
    """What the log says when the daemon has been told to read its file again."""
    before = len(engine.log.read_text())
    path.write_text(json.dumps(content))
    os.kill(engine.pid, signal.SIGHUP)
    assert not wait_until_gone(lambda: "reloaded" not in engine.log.read_text()[before:])
    return engine.log.read_text()[before:]


def test_sighup_reads_the_file_again(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start({"labels": ["deck=upper"], "default-shm-size": "8m", "mtu": 1400, "debug": True})
    path = tmp_path / "daemon.json"
    began = int(time.time())
    said = reload(engine, path, {"labels": ["deck=lower"], "default-shm-size": "4m", "mtu": 1300,
                                 "insecure-registries": ["x.example"], "features": {"buildkit": False}})  # fmt: skip
    assert "not until the engine is started again: mtu" in said
    info = engine.request("GET", "/info").body
    assert (info["Labels"], info["Debug"]) == (["deck=lower"], False)
    assert "x.example" in info["RegistryConfig"]["IndexConfigs"]
    assert engine.request("GET", "/_ping").headers["Builder-Version"] == "1"
    assert engine.wherry("run", "--rm", "busybox", "df", "-k", "/dev/shm").stdout.split()[8] == "4096"
    assert engine.wherry("run", "--rm", "busybox", "cat", "/sys/class/net/eth0/mtu").stdout == "1400\n"
    told = engine.wherry("events", "--since", str(began), "--until", str(int(time.time()) + 1), "--filter",
                         "type=daemon", "--format", "{{json .}}", check=True).stdout  # fmt: skip
    event = json.loads(told.splitlines()[0])
    assert event["Action"] == "reload"
    assert event["Actor"]["Attributes"]["labels"] == '["deck=lower"]'
    assert event["Actor"]["Attributes"]["default-shm-size"] == str(4 << 20)


def test_a_file_that_has_gone_wrong_changes_nothing(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start({"labels": ["deck=upper"]})
    said = reload(engine, tmp_path / "daemon.json", {"labels": ["deck=lower"], "foo": 1})
    assert "not reloaded: unable to configure the wherry daemon with file" in said
    assert "the following directives don't match any configuration option: foo" in said
    assert engine.request("GET", "/info").body["Labels"] == ["deck=upper"]


def test_without_live_restore_containers_end_with_the_engine(start: Callable[..., Engine]) -> None:
    engine = start({"live-restore": False, "shutdown-timeout": 1})
    assert engine.request("GET", "/info").body["LiveRestoreEnabled"] is False
    trap = "trap 'echo ended; exit 3' TERM; while :; do sleep 0.1; done"
    engine.wherry("run", "-d", "--name", "heeds", "busybox", "sh", "-c", trap, check=True)
    engine.wherry("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    engine.wherry("run", "-d", "--name", "back", "--restart", "always", "busybox", "sleep", "600", check=True)
    time.sleep(0.3)  # until the traps are set
    began = time.monotonic()
    engine.stop()
    assert 1 <= time.monotonic() - began < 8
    assert not engine.processes()
    engine.start()
    states = engine.wherry("ps", "-a", "--format", "{{.Names}} {{.State}}", check=True).stdout.split("\n")
    assert sorted(filter(None, states)) in (
        ["back running", "deaf exited", "heeds exited"], ["back restarting", "deaf exited", "heeds exited"],
    )  # fmt: skip
    assert engine.wherry("logs", "heeds", check=True).stdout == "ended\n"
    assert engine.wherry("inspect", "-f", "{{.State.ExitCode}}", "heeds", "deaf").stdout == "3\n137\n"


def test_a_program_of_the_host_is_the_init(start: Callable[..., Engine]) -> None:
    engine = start({"init": True, "init-path": str(CACHE / "busybox")})
    said = engine.wherry("run", "--rm", "busybox", "true")
    assert "docker-init: applet not found" in said.stderr  # it has been called by that name, and is no init
    assert engine.wherry("run", "--rm", "--init=false", "busybox", "true").returncode == 0
    assert engine.request("GET", "/info").body["InitBinary"] == str(CACHE / "busybox")


def test_no_forwarding_and_no_masquerading(start: Callable[..., Engine]) -> None:
    forwards = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwards.read_text()
    forwards.write_text("0\n")
    try:
        engine = start({"ip-forward": False, "ip-masq": False})
        engine.wherry("run", "--rm", "busybox", "true", check=True)
        assert forwards.read_text() == "0\n"
        network = json.loads(engine.wherry("network", "inspect", "bridge", check=True).stdout)[0]
        assert network["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    finally:
        forwards.write_text(before)


def test_the_default_networks_addresses_stay_while_containers_run(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start({"bip": "10.213.0.1/24"})
    engine.wherry("run", "-d", "--name", "on", "busybox", "sleep", "600", check=True)
    (tmp_path / "daemon.json").write_text('{"bip": "10.214.0.1/24"}')
    engine.stop()
    engine.start()
    gateway = ("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "on")
    assert engine.wherry(*gateway, check=True).stdout == "10.213.0.1\n"
    assert "the default network keeps its addresses while containers run on it" in engine.log_text()
    engine.wherry("stop", "-t", "0", "on", check=True)
    engine.kill()
    engine.start()
    engine.wherry("start", "on", check=True)
    assert engine.wherry(*gateway, check=True).stdout == "10.214.0.1\n"
    said = subprocess.run(["ip", "-o", "addr", "show"], capture_output=True, text=True, check=True).stdout
    assert "10.214.0.1/24" in said
    assert "10.213.0.1/24" not in said


def test_downloads_and_proxies(start: Callable[..., Engine]) -> None:
    """Nobody is at the proxy: the address that could not be reached tells that it was asked."""
    engine = start({"max-download-attempts": 1, "proxies": {"https-proxy": "http://u:p@127.0.0.1:9"}})
    said = engine.wherry("pull", "registry.example.org/x")
    assert "proxyconnect" in said.stderr
    info = engine.request("GET", "/info").body
    assert info["HttpsProxy"] == "http://xxxxx:xxxxx@127.0.0.1:9"
