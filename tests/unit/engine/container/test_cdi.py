"""Devices of vendors' files: which files count, what a request means, and what becomes of a container's spec."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.config import CDI_SPEC_DIRS, EngineConfig
from wherry.engine.container.cdi import Registry, inject, is_asked, names_of
from wherry.linux.cgroups import DeviceRule, Resources
from wherry.linux.mounts import Mount
from wherry.model.container import DeviceMapping, DeviceRequest, HostConfig
from wherry.runtime.spec import Device, Hook, Process, Spec

SPEC = Spec(
    id="box",
    exec_dir="/exec",
    rootfs=(),
    process=Process(args=("true",), env=("PATH=/bin", "MODE=old"), groups=("audio",)),
    mounts=(Mount("proc", "proc", "/proc"), Mount("bind", "/a", "/opt/lib/deep"), Mount("bind", "/b", "/opt/lib")),
    devices=(Device("/dev/zero", "/dev/boat"),),
    resources=Resources(devices=(DeviceRule(False),)),
)


def write(directory: Path, name: str = "boat.json", **changes: Any) -> Path:
    document: dict[str, Any] = {
        "cdiVersion": "0.6.0",
        "kind": "wharf.example/boat",
        "devices": [{"name": "one", "containerEdits": {"env": ["ONE=1"]}}],
    }
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(json.dumps(document | changes), encoding="utf-8")
    return path


def applied(directory: Path, *names: str) -> Spec:
    return inject(SPEC, Registry([str(directory)]).edits(f"wharf.example/boat={name}" for name in names))


def test_all_edits(tmp_path: Path) -> None:
    write(
        tmp_path,
        containerEdits={"env": ["MODE=new", "OF=all"], "additionalGids": [0, 44]},
        devices=[
            {
                "name": "one",
                "annotations": {"a.b/c": "d"},
                "containerEdits": {
                    "env": ["ONE=1"],
                    "deviceNodes": [
                        {"path": "/dev/boat", "hostPath": "/dev/null", "permissions": "r"},
                        {
                            "path": "/dev/far",
                            "type": "b",
                            "major": 240,
                            "minor": 7,
                            "fileMode": 0o600,
                            "uid": 5,
                            "gid": 6,
                        },
                        {"path": "/dev/full"},
                    ],
                    "mounts": [
                        {"hostPath": "/c", "containerPath": "/opt/lib", "options": ["ro", "bind"]},
                        {"hostPath": "size", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"]},
                        {"hostPath": str(tmp_path), "containerPath": "/opt/lib/a/b"},
                    ],
                    "hooks": [
                        {
                            "hookName": "createContainer",
                            "path": "/bin/x",
                            "args": ["x", "y"],
                            "env": ["A=b"],
                            "timeout": 3,
                        },
                    ],
                },
            },
            {"name": "two", "containerEdits": {"env": ["TWO=2"]}},
        ],
    )
    found = applied(tmp_path, "two", "one", "two")
    assert found.process.env == ("PATH=/bin", "MODE=new", "OF=all", "TWO=2", "ONE=1")
    assert found.process.groups == ("audio", "44")
    null = os.stat("/dev/null")
    assert found.devices == (
        Device("/dev/null", "/dev/boat", stat.S_IMODE(null.st_mode), stat.S_IFCHR, os.makedev(1, 3)),
        Device("/dev/far", "/dev/far", 0o600, stat.S_IFBLK, os.makedev(240, 7), uid=5, gid=6),
        Device("/dev/full", "/dev/full", stat.S_IMODE(os.stat("/dev/full").st_mode), stat.S_IFCHR, os.makedev(1, 7)),
    )
    assert found.resources.devices == (
        DeviceRule(False),
        DeviceRule(True, "c", 1, 3, "r"),
        DeviceRule(True, "b", 240, 7, "rwm"),
        DeviceRule(True, "c", 1, 7, "rwm"),
    )
    assert [(mount.type, mount.source, mount.target, mount.options, mount.create) for mount in found.mounts] == [
        ("proc", "proc", "/proc", (), "dir"),
        ("tmpfs", "size", "/t", ("size=1m",), "dir"),
        ("bind", "/c", "/opt/lib", ("ro", "bind"), "file"),
        ("bind", "/a", "/opt/lib/deep", (), "dir"),
        ("bind", str(tmp_path), "/opt/lib/a/b", ("rbind",), "dir"),
    ]
    assert found.hooks == (Hook("/bin/x", ("x", "y"), ("A=b",), 3),)


def test_yaml(tmp_path: Path) -> None:
    (tmp_path / "boat.yaml").write_text(
        "---\ncdiVersion: 0.5.0\nkind: wharf.example/boat\ndevices:\n- name: '0'\n  containerEdits:\n    env: [A=0]\n"
    )
    (tmp_path / "other.yml").write_text("a: [")
    (tmp_path / "README").write_text("no file of a vendor's")
    registry = Registry([str(tmp_path)])
    assert registry.devices == ["wharf.example/boat=0"]
    assert len(registry.errors) == 1 and registry.errors[0].startswith(f"{tmp_path}/other.yml: while parsing")
    assert applied(tmp_path, "0").process.env[-1] == "A=0"


def test_the_later_directory_counts(tmp_path: Path) -> None:
    etc, run = tmp_path / "etc", tmp_path / "run"
    write(etc)
    write(run, devices=[{"name": "one", "containerEdits": {"env": ["ONE=later"]}}])
    write(run, "b.json", kind="wharf.example/crane")
    registry = Registry([str(etc), str(tmp_path / "absent"), str(run)])
    assert registry.devices == ["wharf.example/boat=one", "wharf.example/crane=one"]
    assert inject(SPEC, registry.edits(["wharf.example/boat=one"])).process.env[-1] == "ONE=later"


def test_two_files_of_one_directory(tmp_path: Path) -> None:
    write(tmp_path)
    second = write(tmp_path, "second.json")
    with pytest.raises(EngineError) as failure:
        applied(tmp_path, "one")
    assert failure.value.message == (
        "CDI device injection failed: unresolvable CDI devices wharf.example/boat=one "
        f"({second}: another file in {tmp_path} has wharf.example/boat=one, too)"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cdiVersion": "9.0.0"}, "CDI version '9.0.0' is not known here"),
        ({"kind": "boat"}, "invalid kind 'boat': it is to be vendor.com/class"),
        ({"devices": []}, "it has no devices"),
        ({"devices": [{"name": "-a"}]}, "invalid device name '-a'"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, "it has the device a twice"),
        ({"devices": "one"}, "Expected `array`, got `str`"),
        ({"containerEdits": {"env": ["A"]}}, "invalid environment variable 'A'"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev/a", "type": "x"}]}}, "invalid device node '/dev/a'"),
        ({"containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "b"}]}}, "invalid mount '/a' at 'b'"),
        ({"containerEdits": {"hooks": [{"hookName": "createContainer", "path": "x"}]}}, "invalid hook 'x'"),
    ],
)
def test_files_that_say_nothing(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, **changes)
    registry = Registry([str(tmp_path)])
    assert not registry.devices
    assert registry.errors[0].startswith(f"{path}: {reason}")


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        (
            {"hooks": [{"hookName": "poststop", "path": "/bin/x"}]},
            "/bin/x is a poststop hook, and only createContainer",
        ),
        ({"intelRdt": {"closID": "a"}}, "intelRdt and netDevices are not supported"),
        ({"netDevices": [{"hostInterfaceName": "a"}]}, "intelRdt and netDevices are not supported"),
        ({"deviceNodes": [{"path": "/nowhere"}]}, 'failed to stat CDI host device "/nowhere": No such file'),
        ({"deviceNodes": [{"path": "/dev/null", "type": "b"}]}, "/dev/null is not such a device"),
        ({"deviceNodes": [{"path": "/etc"}]}, "/etc is not such a device"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, edits: dict[str, Any], reason: str) -> None:
    write(tmp_path, devices=[{"name": "one", "containerEdits": edits}])
    with pytest.raises(EngineError, match=f"CDI device injection failed: {reason}"):
        applied(tmp_path, "one")


def test_what_requests_mean(tmp_path: Path) -> None:
    nothing = Registry([str(tmp_path)])
    write(tmp_path, kind="nvidia.com/gpu", devices=[{"name": name} for name in ("0", "1", "all")])
    known = Registry([str(tmp_path)])

    def asked(*requests: DeviceRequest) -> list[str]:
        return names_of(HostConfig(device_requests=list(requests)), known)

    gpus = DeviceRequest(count=-1, capabilities=[["gpu"]])
    by_name = DeviceRequest(driver="cdi", device_ids=["a.b/c=d"])
    assert asked(by_name, gpus) == ["a.b/c=d", "nvidia.com/gpu=all"]
    assert asked(DeviceRequest(count=2, capabilities=[["gpu", "utility"]])) == [
        "nvidia.com/gpu=0", "nvidia.com/gpu=1",
    ]  # fmt: skip
    by_id = DeviceRequest(driver="nvidia", device_ids=["1"], capabilities=[["gpu"]])
    assert asked(by_id) == ["nvidia.com/gpu=1"]
    with pytest.raises(EngineError, match=r'could not select device driver "" with capabilities: \[\[gpu\]\]'):
        names_of(HostConfig(device_requests=[gpus]), nothing)
    with pytest.raises(EngineError, match=r'could not select device driver "" with capabilities: \[\[tpu\]\]'):
        asked(DeviceRequest(count=1, capabilities=[["tpu"]]))
    for request, reason in (
        (DeviceRequest(driver="cdi", count=1), "unexpected count"),
        (DeviceRequest(driver="cdi", options={"a": "b"}), "unexpected options"),
        (DeviceRequest(count=1, device_ids=["1"], capabilities=[["gpu"]]), "cannot set both Count and DeviceIDs"),
        (DeviceRequest(count=1, options={"a": "b"}, capabilities=[["gpu"]]), "unexpected options"),
    ):
        with pytest.raises(InvalidParameter, match=reason):
            asked(request)


def test_a_name_in_the_place_of_a_path(tmp_path: Path) -> None:
    mappings = [DeviceMapping("/dev/null"), DeviceMapping("a.b/c=d"), DeviceMapping("/dev/a.b/c=d")]
    host = HostConfig(devices=mappings)
    assert names_of(host, Registry([])) == ["a.b/c=d"]
    assert is_asked(host) and not is_asked(HostConfig(devices=mappings[::2]))


def test_the_directories() -> None:
    assert EngineConfig().cdi_directories == CDI_SPEC_DIRS
    assert EngineConfig(cdi_spec_dirs=("/a", "/b")).cdi_directories == ("/a", "/b")
    assert EngineConfig(cdi_spec_dirs=("",)).cdi_directories == ()
    assert EngineConfig(features={"cdi": False}).cdi_directories == ()
