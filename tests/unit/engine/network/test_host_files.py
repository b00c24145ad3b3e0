"""resolv.conf in a container: the host's, without what cannot be reached from there, and what was asked for."""

from pathlib import Path

import pytest

from wherry.engine.config import EngineConfig
from wherry.engine.network import names
from wherry.engine.network.names import Files, resolv_conf
from wherry.model.container import Container, ContainerConfig, HostConfig

HOST = "nameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch example.org lan\noptions edns0\n"


def test_loopback_servers_are_left_out() -> None:
    text = resolv_conf(HostConfig(), HOST, keep_local=False)
    assert text == "nameserver 10.0.0.2\nsearch example.org lan\noptions edns0\n"


def test_host_networking_keeps_them() -> None:
    assert "127.0.0.53" in resolv_conf(HostConfig(), HOST, keep_local=True)


def test_without_any_server_public_ones_are_used() -> None:
    assert "nameserver 8.8.8.8\n" in resolv_conf(HostConfig(), "nameserver ::1\n", keep_local=False)


def test_what_is_asked_for_replaces_the_hosts() -> None:
    host = HostConfig(dns=["1.1.1.1"], dns_search=["."], dns_options=["ndots:2"])
    assert resolv_conf(host, HOST, keep_local=False) == "nameserver 1.1.1.1\noptions ndots:2\n"


def test_behind_the_stub_of_systemd_resolved_are_the_servers_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/run/systemd/resolve/resolv.conf": "nameserver 10.0.0.2\n", "/etc/resolv.conf": "nameserver 127.0.0.53\n"}
    monkeypatch.setattr(names, "read", lambda path: files.get(path, ""))
    assert names.of_resolver() == "nameserver 10.0.0.2\n"
    files["/etc/resolv.conf"] = "nameserver 127.0.0.1\n"
    assert names.of_resolver() == "nameserver 127.0.0.1\n"
    files["/etc/resolv.conf"] = "nameserver 127.0.0.53\n"
    del files["/run/systemd/resolve/resolv.conf"]
    assert names.of_resolver() == "nameserver 127.0.0.53\n"


def composed(host: HostConfig, *, resolver: bool = False) -> list[str]:
    record = Container("1" * 64, "box", 0, "", "", "", "", [], ContainerConfig(hostname="box"), host)
    return names.compose(record, EngineConfig(), resolver=resolver).resolver.splitlines()


def test_who_asks_the_name_service_has_the_hosts_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "read", lambda path: HOST if path == "/etc/resolv.conf" else "")
    options = composed(HostConfig(), resolver=True)[-1]
    assert options == "options edns0 ndots:0"
    options = composed(HostConfig(dns_options=["ndots:2", "timeout:1"]), resolver=True)[-1]
    assert options == "options ndots:2 timeout:1"


def test_on_the_hosts_network_the_stub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/run/systemd/resolve/resolv.conf": "nameserver 10.0.0.2\n", "/etc/resolv.conf": "nameserver 127.0.0.53\n"}
    monkeypatch.setattr(names, "read", lambda path: files.get(path, ""))
    assert composed(HostConfig(network_mode="host")) == ["nameserver 127.0.0.53"]
    assert composed(HostConfig(network_mode="bridge")) == ["nameserver 10.0.0.2"]


def test_what_a_running_container_has_written_itself_stays(tmp_path: Path) -> None:
    before = Files("127.0.0.1 localhost\n10.0.0.2 box\n", "nameserver 10.0.0.1\n")
    after = Files("127.0.0.1 localhost\n10.0.0.3 box\n", "nameserver 127.0.0.11\n")
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text(before.hosts + "192.0.2.1 mine")
    resolver.write_text(before.resolver)
    names.renew(str(tmp_path), before, after)
    assert hosts.read_text() == after.hosts + "192.0.2.1 mine\n"
    assert resolver.read_text() == after.resolver
    resolver.write_text("nameserver 192.0.2.53\n")
    names.renew(str(tmp_path), after, before)
    assert hosts.read_text() == before.hosts + "192.0.2.1 mine\n"
    assert resolver.read_text() == "nameserver 192.0.2.53\n"
