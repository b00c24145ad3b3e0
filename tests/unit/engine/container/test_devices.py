"""Devices: their nodes, and the rules that let a container use them."""

import os
from pathlib import Path

import pytest

from wherry.common.errors import InvalidParameter
from wherry.engine.container import devices
from wherry.linux.cgroups import DEFAULT_DEVICE_RULES, DeviceRule
from wherry.model.container import DeviceMapping, HostConfig, WeightDevice


def test_a_link_is_followed_and_the_target_is_the_user_s(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    (found,) = devices.device_nodes([DeviceMapping(str(tmp_path / "link"), "", "")])
    assert (found.source, found.path) == ("/dev/zero", str(tmp_path / "link"))
    (rule,) = devices.cgroup_rules([DeviceMapping("/dev/zero", "/dev/mine", "")], [])[len(DEFAULT_DEVICE_RULES) :]
    assert rule == DeviceRule(True, "c", 1, 5, "rwm")


def test_a_folder_stands_for_the_nodes_below_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("null", "deep/zero", "pts/0", "file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("null")
    monkeypatch.setattr(devices, "_is_node", lambda path: os.path.basename(path) in ("null", "zero", "0", "link"))
    found = devices.device_nodes([DeviceMapping(str(tmp_path), "/dev/all", "r")])
    assert [each.path for each in found] == ["/dev/all/deep/zero", "/dev/all/null"], "no link, and nothing of devpts"


@pytest.mark.parametrize(("path", "reason"), [("/dev/nothing-here", "no such file"), ("/etc/passwd", "not a device")])
def test_what_is_no_device(path: str, reason: str) -> None:
    with pytest.raises(InvalidParameter, match=f'custom device "{path}": {reason}'):
        devices.device_nodes([DeviceMapping(path)])


@pytest.mark.parametrize("rule", ["", "c 1:3", "x 1:3 rwm", "c 1:3 rwmx", "c a:3 r", "c 1:3 rwm\n"])
def test_rules_that_are_none(rule: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format"):
        devices.cgroup_rules([], [rule])


def test_rules_by_hand() -> None:
    assert devices.cgroup_rules([], ["b *:* m"])[-1] == DeviceRule(True, "b", None, None, "m")


@pytest.mark.parametrize(("path", "reason"), [("/dev/null", "is not a block device"), ("/nothing", "no such device")])
def test_limits_are_of_block_devices(path: str, reason: str) -> None:
    with pytest.raises(InvalidParameter, match=reason):
        devices.block_device(path)


def test_weights_that_no_scheduler_goes_by_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "block_device", lambda path: (4095, 1))
    host = HostConfig(blkio_weight_device=[WeightDevice("/dev/some", 100)])
    assert "Weight-device discarded" in devices.discard_weights(host)[0]
    assert host.blkio_weight_device == [] and devices.discard_weights(host) == []
