"""What older clients see, and what API 1.52 to 1.54 have changed."""

import copy
from typing import Any

import msgspec
import pytest

from wherry.api import versions
from wherry.api.versions import Version
from wherry.common.errors import InvalidParameter
from wherry.model.container import ContainerConfig, HostConfig
from wherry.model.network import NetworkingConfig

OLD, NEW = Version(1, 51), Version(1, 54)


def test_inspection_of_a_container() -> None:
    found: dict[str, Any] = {
        "NetworkSettings": {"Ports": {}, "Networks": {}, "IPAddress": "10.0.0.2", "MacAddress": "", "Bridge": ""},
        "Config": {"OnBuild": None, "Cmd": None},
    }
    assert versions.adapt_container(OLD, copy.deepcopy(found)) == found
    assert versions.adapt_container(NEW, found) == {
        "NetworkSettings": {"Ports": {}, "Networks": {}},
        "Config": {"Cmd": None},
    }


def test_inspection_of_an_image() -> None:
    config = {"Cmd": ["sh"], "Env": None, "Labels": {}, "User": "", "WorkingDir": "/", "OnBuild": None}
    found = {"Id": "1", "Parent": "", "Comment": "made", "DockerVersion": "", "Author": "", "Config": config}
    found["Identity"] = {"Pull": [{"Repository": "docker.io/library/app"}]}
    old = versions.adapt_image(OLD, copy.deepcopy(found))
    assert old == {name: value for name, value in found.items() if name != "Identity"}
    new = versions.adapt_image(NEW, copy.deepcopy(found))
    assert new == {
        "Id": "1", "Comment": "made", "Config": {"Cmd": ["sh"], "WorkingDir": "/"}, "Identity": found["Identity"]
    }  # fmt: skip
    assert "Identity" not in versions.adapt_image(Version(1, 52), new)


def test_lists() -> None:
    health = [{"Health": {"Status": "none", "FailingStreak": 0}}]
    assert versions.adapt_container_list(NEW, copy.deepcopy(health)) == health
    assert versions.adapt_container_list(OLD, health) == [{}]
    assert versions.adapt_network_list(OLD, [{"Containers": {}}]) == [{"Containers": {}}]
    assert versions.adapt_network_list(NEW, [{"Containers": {}}]) == [{}]
    assert versions.adapt_network(OLD, {"Status": {}}) == {} and versions.adapt_network(NEW, {"Status": 1})["Status"]
    assert versions.adapt_info(Version(1, 52), {"NRI": {}}) == {} and "NRI" in versions.adapt_info(NEW, {"NRI": {}})


def test_a_container_is_asked_for() -> None:
    def ask(version: Version, **config: Any) -> list[str]:
        host = HostConfig(port_bindings={"80/tcp": [], "81/tcp": []})
        return versions.adapt_create(version, ContainerConfig(**config), host, NetworkingConfig())

    assert ask(OLD, mac_address="02:00:00:00:00:01") == []
    [warning] = ask(NEW)
    assert warning == (
        "Following container port(s) have an empty list of port-bindings: 80/tcp, 81/tcp. "
        "Such bindings will be discarded in a future version."
    )
    with pytest.raises(InvalidParameter, match="container-wide MAC address no longer supported"):
        ask(NEW, mac_address="02:00:00:00:00:01")
    assert ask(NEW, mac_address=msgspec.UNSET) == [warning]


USAGE: dict[str, Any] = {
    "LayersSize": 90,
    "Images": [
        {"Size": 60, "SharedSize": 20, "Containers": 1},
        {"Size": 50, "SharedSize": 20, "Containers": 0},
    ],
    "Containers": [{"State": "paused", "SizeRw": 7}, {"State": "exited", "SizeRw": 5}],
    "Volumes": [{"UsageData": {"Size": 3, "RefCount": 0}}, {"UsageData": {"Size": 4, "RefCount": 2}}],
    "BuildCache": [
        {"Size": 8, "Shared": True, "InUse": False},
        {"Size": 9, "Shared": False, "InUse": True},
        {"Size": 10, "Shared": False, "InUse": False},
    ],
}


def test_disk_usage() -> None:
    assert versions.adapt_disk_usage(OLD, copy.deepcopy(USAGE), verbose=True) == USAGE
    assert versions.adapt_disk_usage(Version(1, 41), copy.deepcopy(USAGE), verbose=False)["BuilderSize"] == 27
    sums = {
        "ImageUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 30, "TotalSize": 90},
        "ContainerUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 5, "TotalSize": 12},
        "VolumeUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 3, "TotalSize": 7},
        "BuildCacheUsage": {"ActiveCount": 1, "TotalCount": 3, "Reclaimable": 10, "TotalSize": 27},
    }
    assert versions.adapt_disk_usage(NEW, copy.deepcopy(USAGE), verbose=False) == USAGE | sums
    verbose = versions.adapt_disk_usage(NEW, copy.deepcopy(USAGE), verbose=True)
    for name, items in (("ImageUsage", "Images"), ("ContainerUsage", "Containers"), ("VolumeUsage", "Volumes"),
                        ("BuildCacheUsage", "BuildCache")):  # fmt: skip
        assert verbose.pop(name) == sums[name] | {"Items": USAGE[items]}
    assert verbose == {}
    only = versions.adapt_disk_usage(NEW, {"Volumes": USAGE["Volumes"]}, verbose=True)
    assert list(only) == ["VolumeUsage"]
