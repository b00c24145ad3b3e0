"""-v, --mount, --volumes-from and VOLUME: what they come to, and what is refused."""

from pathlib import Path

import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.container import mounts
from wherry.model.container import (
    BindOptions,
    ContainerConfig,
    HostConfig,
    ImageOptions,
    MountPoint,
    MountRequest,
    TmpfsOptions,
    VolumeOptions,
)


@pytest.mark.parametrize(
    ("text", "kind", "source", "name", "destination", "rw", "propagation"),
    [
        ("/src:/dst", "bind", "/src", "", "/dst", True, "rprivate"),
        ("/src/:/dst/:ro", "bind", "/src", "", "/dst", False, "rprivate"),
        ("/src:/dst:ro,rslave", "bind", "/src", "", "/dst", False, "rslave"),
        ("/src:/dst:z", "bind", "/src", "", "/dst", True, "rprivate"),
        ("name:/dst", "volume", "", "name", "/dst", True, ""),
        ("name:/dst:ro,nocopy", "volume", "", "name", "/dst", False, ""),
        ("/dst", "volume", "", "", "/dst", True, ""),
    ],
)
def test_binds(text: str, kind: str, source: str, name: str, destination: str, rw: bool, propagation: str) -> None:
    point = mounts.parse_bind(text)
    assert (point.type, point.source, point.name, point.destination) == (kind, source, name, destination)
    assert (point.rw, point.propagation) == (rw, propagation)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid volume specification"),
        ("a:b:c:d", "invalid volume specification"),
        ("/a:", "invalid volume specification"),
        ("/dst:ro", "^invalid volume specification: '/dst:ro'$"),
        ("name:rw,z", "^invalid volume specification: 'name:rw,z'$"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:sideways", "invalid mode: sideways"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:nocopy", 'type "bind": field VolumeOptions must not be specified'),
        ("name:/b:rshared", 'type "volume": field BindOptions must not be specified'),
    ],
)
def test_bad_binds(text: str, message: str) -> None:
    with pytest.raises(EngineError, match=message) as refused:
        mounts.parse_bind(text)
    assert refused.value.status == 500  # as Docker's


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (MountRequest(type="cloud", target="/x"), "mount type unknown"),
        (MountRequest(type="volume"), "field Target must not be empty"),
        (MountRequest(type="bind", target="/x"), "field Source must not be empty"),
        (MountRequest(type="bind", source="rel", target="/x"), "mount path must be absolute"),
        (MountRequest(type="bind", source="/no/such/place", target="/x"), "bind source path does not exist"),
        (MountRequest(type="tmpfs", source="/x", target="/x"), "field Source must not be specified"),
        (MountRequest(type="bind", source="/", target="/x", tmpfs_options=TmpfsOptions()), "TmpfsOptions"),
        (MountRequest(type="bind", source="/", target="/x", bind_options=BindOptions("odd")), "propagation mode: odd"),
        (MountRequest(type="image", target="/x"), "field Source must not be empty"),
        (MountRequest(type="bind", source="/", target="x"), "\"bind\": invalid mount path: 'x' mount path must be abs"),
        (
            MountRequest(type="bind", source="/", target="/"),
            "\"bind\": invalid specification: destination can't be '/'",
        ),
        (
            MountRequest(type="volume", target="/x", volume_options=VolumeOptions(subpath="a")),
            "must not set Subpath when using anonym",
        ),
        (
            MountRequest(type="volume", source="v", target="/x", volume_options=VolumeOptions(subpath="a/../..")),
            "subpath must be a relative path within the volume",
        ),
        (
            MountRequest(type="image", source="i", target="/x", image_options=ImageOptions("/a")),
            "must be a relative path",
        ),
        (
            MountRequest(type="tmpfs", target="/x", tmpfs_options=TmpfsOptions(options=[["suid"]])),
            "invalid option: suid",
        ),
    ],
)
def test_bad_requests(request_: MountRequest, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        mounts.parse_request(request_)


def test_the_same_destination_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        mounts.settle(ContainerConfig(), HostConfig(binds=["/a:/x", "/b:/x/"]), [])
    mount = MountRequest(type="bind", source=str(tmp_path), target="/x")
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        mounts.settle(ContainerConfig(), HostConfig(binds=["/a:/x"], mounts=[mount]), [])
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        mounts.settle(ContainerConfig(), HostConfig(binds=["/a:/x"], tmpfs={"/x": ""}), [])


def test_what_is_said_wins_over_what_is_inherited_and_over_the_image() -> None:
    inherited = [
        MountPoint(type="volume", destination="/data", name="theirs"),
        MountPoint(type="volume", destination="/log", name="log"),
    ]
    config = ContainerConfig(volumes={"/data": {}, "/cache": {}, "/log": {}})
    points = mounts.settle(config, HostConfig(binds=["mine:/data"]), inherited)
    found = {point.destination: point for point in points}
    assert found["/data"].name == "mine"
    assert found["/log"].name == "log"
    assert found["/cache"].anonymous and not found["/log"].anonymous


def test_what_is_nearer_to_the_root_is_mounted_first() -> None:
    points = mounts.settle(ContainerConfig(), HostConfig(binds=["/a:/x/y/z", "/b:/x", "/c:/x/y"]), [])
    assert [point.destination for point in points] == ["/x", "/x/y", "/x/y/z"]


def test_volumes_from_can_be_made_read_only_and_leaves_tmpfs_out() -> None:
    points = [
        MountPoint(type="volume", destination="/data", name="n", anonymous=True),
        MountPoint(type="tmpfs", destination="/tmp"),
    ]
    (point,) = mounts.inherit(points, "ro,z")
    assert not point.rw and point.anonymous
    (point,) = mounts.inherit(points, "rw")
    assert point.rw


def test_what_volumes_from_can_be() -> None:
    assert mounts.parse_volumes_from("data") == ("data", "")
    assert mounts.parse_volumes_from("data:ro,z") == ("data", "ro,z")
    for mode in ("xx", "ro:z", "ro,rw", "nocopy", "rslave"):
        with pytest.raises(InvalidParameter, match=f"^invalid mode: {mode}$"):
            mounts.parse_volumes_from(f"data:{mode}")
    with pytest.raises(InvalidParameter, match="volumes-from specification cannot be an empty string"):
        mounts.parse_volumes_from("")


def test_a_volume_of_the_image_without_a_slash_in_front() -> None:
    (point,) = mounts.settle(ContainerConfig(volumes={"data": {}}), HostConfig(volume_driver="far"), [])
    assert (point.destination, point.driver, point.anonymous) == ("/data", "far", True)
