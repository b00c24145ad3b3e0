"""The table of settings: against dockerd's flags and the engine's configuration, and each kind in both its forms."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wherry.common import flags
from wherry.common.flags import FlagError
from wherry.common.settings import SETTINGS, daemon_flags
from wherry.daemon.configuration import Configuration, ConfigurationError
from wherry.engine.config import EngineConfig

DOCKERD = Path(__file__).with_name("dockerd_26_flags.txt").read_text().splitlines()
BY_NAME = {setting.flag.name: setting for setting in SETTINGS}
REFUSED = {
    "add-runtime", "allow-nondistributable-artifacts", "api-cors-header",
    "bridge",
    "containerd",
    "containerd-namespace", "containerd-plugins-namespace", "cpu-rt-period", "cpu-rt-runtime", "cri-containerd",
    "default-gateway", "default-gateway-v6", "ip6tables", "network-control-plane-mtu", "node-generic-resource",
    "selinux-enabled", "storage-opt", "swarm-default-advertise-addr", "userland-proxy-path",
}  # fmt: skip


def test_every_flag_of_dockerd_26_is_taken_or_refused() -> None:
    """The list is ``dockerd --help`` of 26.1.5: each flag with its letter and the kind of its value."""
    refused = set()
    for line in DOCKERD:
        *letter, name = line.partition(" --")[0::2] if line[1] != "-" else [line[2:]]
        name, _, kind = name.partition(" ")
        if name == "help":
            continue
        flag = BY_NAME[name].flag
        assert (flag.short, bool(flag.kind)) == (letter[0].strip("-,") if letter else "", bool(kind)), name
        if BY_NAME[name].refusal:
            refused.add(name)
    assert refused == REFUSED
    assert (len(DOCKERD), len(DOCKERD) - len(refused), len(refused)) == (86, 67, 19)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_why_and_may_be_off(name: str, tmp_path: Path) -> None:
    setting = BY_NAME[name]
    text = {"": "false" if setting.flag.default else "true", "int": "7"}.get(setting.flag.kind, "x")
    with pytest.raises(FlagError, match=f"wherry does not have this: {setting.refusal}"):
        flags.parse(daemon_flags(), [f"--{name}={text}"])
    path = tmp_path / "daemon.json"
    options = flags.parse(daemon_flags(), ["--config-file", str(path)])
    path.write_text(json.dumps({setting.key: setting.flag.default}))
    Configuration(options)
    path.write_text(json.dumps({setting.key: json.loads(text) if text != "x" else ["x"]}))
    with pytest.raises(ConfigurationError, match=f"{setting.key}: wherry does not have this: {setting.refusal}"):
        Configuration(options)


def test_the_engine_has_the_tables_defaults() -> None:
    """But for those that are made of others: the API's addresses."""
    defaults = {setting.key: setting.flag.default for setting in SETTINGS if setting.key}
    assert msgspec.convert(defaults, EngineConfig) == EngineConfig()


def test_every_field_of_the_engines_configuration_is_a_setting() -> None:
    keys = {setting.key or setting.flag.name for setting in SETTINGS}
    assert {field.encode_name for field in msgspec.structs.fields(EngineConfig)} <= keys


@pytest.mark.parametrize(
    ("words", "key", "in_json", "value"),
    [
        (["--debug"], "debug", True, True),
        (["--icc=false"], "icc", False, False),
        (["--tls=0"], "tls", False, False),
        (["--mtu", "1400"], "mtu", 1400, 1400),
        (["--default-shm-size=1.5m"], "default-shm-size", "1.5m", 3 << 19),
        (["--default-shm-size=4096"], "default-shm-size", 4096, 4096),
        (["--ip", "::1"], "ip", "::1", "::1"),
        (["--dns=1.1.1.1", "--dns=::2"], "dns", ["1.1.1.1", "::2"], ["1.1.1.1", "::2"]),
        (["--log-opt=a=b=c", "--log-opt=d="], "log-opts", {"a": "b=c", "d": ""}, {"a": "b=c", "d": ""}),
        (
            ["--default-ulimit=nproc=5", "--default-ulimit=nofile=1:2"],
            "default-ulimits",
            {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}, "nproc": {"Name": "nproc", "Soft": 5, "Hard": 5}},
            [{"Name": "nofile", "Soft": 1, "Hard": 2}, {"Name": "nproc", "Soft": 5, "Hard": 5}],
        ),
        (
            ["--default-address-pool", "size=24,base=10.1.2.3/16"],
            "default-address-pools",
            [{"base": "10.1.2.3/16", "size": 24}],
            [{"base": "10.1.0.0/16", "size": 24}],
        ),
        (
            ["--default-network-opt=bridge=a=1", "--default-network-opt=bridge=b=2=3"],
            "default-network-opts",
            {"bridge": {"a": "1", "b": "2=3"}},
            {"bridge": {"a": "1", "b": "2=3"}},
        ),
        (["--feature=buildkit=false", "--feature=cdi=0"], "features", {"buildkit": False, "cdi": False},
         {"buildkit": False, "cdi": False}),
        (["--feature=buildkit"], "features", {"buildkit": True}, {"buildkit": True}),
    ],
)  # fmt: skip
def test_the_same_by_a_flag_and_in_json(words: list[str], key: str, in_json: Any, value: Any) -> None:
    setting = next(setting for setting in SETTINGS if setting.key == key)
    assert flags.parse(daemon_flags(), words)[setting.flag.name] == value
    assert setting.decode(in_json) == value


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("--mtu=x", 'invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        ("--mtu=-3", "invalid mtu: -3"),
        ("--max-concurrent-downloads=0", "invalid max concurrent downloads: 0"),
        ("--dns=x", 'failed to parse IP: "x"'),
        ("--ip=x", 'failed to parse IP: "x"'),
        ("--dns-search=a..b", "a..b is not a valid domain"),
        ("--default-ulimit=nofile", "invalid ulimit argument: nofile"),
        ("--default-ulimit=foo=3", "invalid ulimit type: foo"),
        ("--default-address-pool=x", "invalid field 'x' must be a key=value pair"),
        ("--default-address-pool=base=10.0.0.0/24,size=16", "invalid size 16 in 10.0.0.0/24"),
        ("--default-address-pool=base=x,size=16", 'invalid base pool "x"'),
        ("--default-ipc-mode=host", 'IPC mode "host" is not supported as default value; use "shareable" or "private"'),
        ("--default-cgroupns-mode=x", 'default cgroup namespace mode (x) is invalid; use "host" or "private"'),
        ("--default-runtime=crun", "unknown runtime crun: the engine runs containers itself"),
        ("--log-level=loud", "invalid logging level: loud"),
        ("--log-format=x", "invalid log format: x"),
        ("--label=x", "bad attribute format: x"),
        ("--bip=1.2.3", "invalid CIDR address: 1.2.3"),
        ("--bip=10.0.0.1", "invalid CIDR address: 10.0.0.1"),
        ("--bip6=10.0.0.1/24", "invalid CIDR address: 10.0.0.1/24"),
        ("--default-network-opt=x", 'invalid value "x" for map option, should be root-key=key=value'),
        ("--registry-mirror=x", 'invalid mirror: unsupported scheme "" in "x"'),
        ("--exec-opt=native.cgroupdriver=systemd", "unknown option: native.cgroupdriver=systemd"),
        ("--storage-driver=btrfs", "there is no storage driver btrfs: only overlay2"),
        ("--feature=sparkles", "unknown feature sparkles"),
        ("--feature=containerd-snapshotter", "wherry does not have the feature containerd-snapshotter"),
        ("--log-opt=x", '"x" is not KEY=VALUE'),
        ("--sparkles", "unknown flag: --sparkles"),
    ],
)
def test_what_is_wrong_is_named_as_docker_does(word: str, wrong: str) -> None:
    with pytest.raises(FlagError) as raised:
        flags.parse(daemon_flags(), [word])
    assert wrong in str(raised.value)
