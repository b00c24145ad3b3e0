"""daemon.json: what it says, beside a command line, and in which one line it is refused."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from wherry.common import flags
from wherry.common.settings import daemon_flags
from wherry.daemon.configuration import Configuration, ConfigurationError


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    """``configure(content, *words)``: of a daemon with that file and that command line."""
    path = tmp_path / "daemon.json"

    def configure(content: Any, *words: str) -> Configuration:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return Configuration(flags.parse(daemon_flags(), ["--config-file", str(path), *words]))

    return configure


def wrong(configure: Any, content: Any, *words: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        configure(content, *words)
    return str(raised.value).partition("daemon.json: ")[2] or str(raised.value)


def test_without_a_file_the_command_line_speaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("wherry.common.settings.CONFIG_FILE", str(tmp_path / "nope"))
    found = Configuration(flags.parse(daemon_flags(), ["--exec-root", "/run/other"]))
    assert found["hosts"] == ["unix:///run/other/wherry.sock"]


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nope: open .*/nope: no such file or directory"):
        Configuration(flags.parse(daemon_flags(), ["--config-file", str(tmp_path / "nope")]))


def test_the_file_is_stronger_than_defaults_and_objects_hold_settings_together(configure: Any) -> None:
    found = configure({"icc": False, "proxies": {"no-proxy": "x"}, "host-gateway-ip": "10.0.0.1"})
    assert (found["icc"], found["no-proxy"], found["iptables"]) == (False, "x", True)
    assert found.engine().host_gateway_ips == ("10.0.0.1",)


@pytest.mark.parametrize(
    "content", [b"", b" \n", codecs.BOM_UTF8 + b'{"debug": false}', '\ufeff{"debug": false}'.encode("utf-16-le")]
)
def test_what_editors_write(configure: Any, content: bytes) -> None:
    assert configure(content)["debug"] is False


def test_unknown_keys_are_named(configure: Any) -> None:
    text = "the following directives don't match any configuration option: baz, foo"
    assert wrong(configure, {"foo": 1, "bar": {"baz": 2}, "debug": True}) == text


def test_conflicts_are_named_with_both_values(configure: Any) -> None:
    assert wrong(configure, {"debug": True, "labels": ["x=y"], "icc": True}, "-D", "--label", "q=r") == (
        "the following directives are specified both as a flag and in the configuration file: "
        "debug: (from flag: true, from file: true), labels: (from flag: [q=r], from file: [x=y])"
    )


def test_a_conflict_shows_no_passwords(configure: Any) -> None:
    text = wrong(configure, {"proxies": {"http-proxy": "http://u:secret@x"}}, "--http-proxy", "http://a:secret@c")
    assert "http-proxy: (from flag: http://xxxxx:xxxxx@c, from file: http://xxxxx:xxxxx@x)" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"debug": tru', "invalid JSON: "),
        (b"[" * 100_000, "invalid JSON: "),
        (b"\xff\x00", "invalid JSON: "),
        (b"[]", "invalid JSON: this is to be an object"),
        ({"debug": "yes"}, "debug: this is to be a boolean, not a string"),
        ({"mtu": "5"}, "mtu: this is to be a number, not a string"),
        ({"mtu": True}, "mtu: this is to be a number, not a boolean"),
        ({"labels": None}, "labels: this is to be an array, not null"),
        ({"labels": [1]}, "labels: this is to be a string, not a number"),
        ({"log-opts": {"max-size": 3}}, "log-opts: this is to be a string, not a number"),
        ({"default-ulimits": {"nofile": 3}}, "default-ulimits: this is to be an object, not a number"),
        ({"default-ulimits": {"foo": {"Soft": 1, "Hard": 1}}}, "default-ulimits: invalid ulimit type: foo"),
        ({"default-address-pools": [{"base": "x"}]}, 'default-address-pools: invalid base pool "x"'),
        ({"features": {"buildkit": 1}}, "features: this is to be a boolean, not a number"),
        ({"dns": ["x"]}, 'dns: failed to parse IP: "x"'),
    ],
)
def test_a_value_that_cannot_be(configure: Any, content: Any, text: str) -> None:
    assert wrong(configure, content).startswith(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"labels": ["a=1", "a=2"]}, "conflict labels for a=2 and a=1"),
        ({"icc": False, "iptables": False}, "--icc=false needs the firewall: leave out --iptables=false"),
        ({"bip6": "fd00::1/64"}, "--bip6 and --fixed-cidr-v6 are for a default network with --ipv6"),
        (
            {"bip": "10.1.0.1/16", "fixed-cidr": "10.2.0.0/24"},
            "--fixed-cidr 10.2.0.0/24 is not in the network of --bip 10.1.0.1/16",
        ),
        ({"init-path": "/nope"}, "--init-path /nope: there is no such program"),
        ({"log-driver": "nope"}, "nope"),
        ({"log-driver": "json-file", "log-opts": {"nope": "1"}}, "nope"),
    ],
)
def test_what_cannot_be_together(configure: Any, content: Any, text: str) -> None:
    assert text in wrong(configure, content)


def test_the_same_label_twice_is_one(configure: Any) -> None:
    assert configure({"labels": ["a=b=c", "a=b=c"]})["labels"] == ["a=b=c"]


def test_read_again_takes_what_can_change_and_names_the_rest(configure: Any) -> None:
    first = configure({"labels": ["a=1"], "mtu": 1400, "debug": True}, "--shutdown-timeout=3")
    configure({"labels": ["a=2"], "mtu": 1300, "max-concurrent-downloads": 2})
    second, kept = first.read_again()
    assert (second["labels"], second["debug"], second["max-concurrent-downloads"]) == (["a=2"], False, 2)
    assert (second["mtu"], second["shutdown-timeout"], kept) == (1400, 3, ["mtu"])
    assert first["labels"] == ["a=1"]
