"""resolv.conf in a container: the host's, without what cannot be reached from there, and what was asked for."""

import pytest

from wherry.engine import host_files
from wherry.engine.host_files import resolv_conf
from wherry.model.host import HostConfig

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
    monkeypatch.setattr(host_files, "read", lambda path: files.get(path, ""))
    assert host_files.of_resolver() == "nameserver 10.0.0.2\n"
    files["/etc/resolv.conf"] = "nameserver 127.0.0.1\n"
    assert host_files.of_resolver() == "nameserver 127.0.0.1\n"
    files["/etc/resolv.conf"] = "nameserver 127.0.0.53\n"
    del files["/run/systemd/resolve/resolv.conf"]
    assert host_files.of_resolver() == "nameserver 127.0.0.53\n"
