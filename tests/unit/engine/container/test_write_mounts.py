"""From mount points to the mounts that the runtime makes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.laid_images import lay_image
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine.container import mounts
from wherry.linux import host_mounts
from wherry.linux.mounts import Mount
from wherry.model.container import (
    BindOptions,
    Container,
    ContainerConfig,
    HostConfig,
    ImageOptions,
    MountPoint,
    MountRequest,
    TmpfsOptions,
    VolumeOptions,
)
from wherry.storage.database import Database
from wherry.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database(str(tmp_path / "state.db"))
    found = Store.open(str(tmp_path), database)
    yield found
    found.close()
    database.close()


def written(store: Store, *points: MountPoint, tmpfs: dict[str, str] | None = None) -> list[Mount]:
    record = Container(
        id="c", name="c", created=0, image="", image_id="", chain_id="", path="", args=[],
        config=ContainerConfig(), host_config=HostConfig(tmpfs=tmpfs or {}), mounts=list(points),
    )  # fmt: skip
    return mounts.write_mounts(record, store)


def bind(source: str, **fields: Any) -> MountPoint:
    return MountPoint(type="bind", source=source, destination="/x", propagation="rprivate", **fields)


def test_a_bind_says_what_is_to_be_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = written(store, bind(str(tmp_path)))
    assert (found.options, found.create) == (("rbind", "rprivate"), "dir")
    (found,) = written(store, bind(str(tmp_path / "file"), rw=False))
    assert (found.options, found.create) == (("rbind", "rprivate", "rro"), "file")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (BindOptions(), ("rbind", "rprivate", "rro")),
        (BindOptions(non_recursive=True), ("bind", "rprivate", "ro")),
        (BindOptions(read_only_non_recursive=True), ("rbind", "rprivate", "ro")),
    ],
)
def test_how_far_down_read_only_goes(
    store: Store, tmp_path: Path, options: BindOptions, expected: tuple[str, ...]
) -> None:
    request = MountRequest(type="bind", source=str(tmp_path), target="/x", read_only=True, bind_options=options)
    (found,) = written(store, bind(str(tmp_path), rw=False, request=request))
    assert found.options == expected


@pytest.mark.parametrize(
    ("options", "read_only", "reason"),
    [
        ({"read_only_non_recursive": True}, False, "!ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        ({"read_only_force_recursive": True}, False, "!ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (
            {"read_only_non_recursive": True, "read_only_force_recursive": True},
            True,
            "ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
        ),
    ],
)
def test_read_only_that_contradicts_itself(
    store: Store, tmp_path: Path, options: dict[str, bool], read_only: bool, reason: str
) -> None:
    asked = BindOptions(**options)
    request = MountRequest(type="bind", source=str(tmp_path), target="/x", read_only=read_only, bind_options=asked)
    with pytest.raises(EngineError, match=f"mount options conflict: {reason}"):
        written(store, bind(str(tmp_path), rw=not read_only, request=request))


def test_the_missing_source_of_a_bind_is_made_and_of_a_mount_is_not(store: Store, tmp_path: Path) -> None:
    missing = tmp_path / "a" / "b"
    request = MountRequest(type="bind", source=str(missing), target="/x")
    with pytest.raises(InvalidParameter, match=f"bind source path does not exist: {missing}"):
        written(store, bind(str(missing), request=request))
    request.bind_options = BindOptions(create_mountpoint=True)
    written(store, bind(str(missing), request=request))
    assert missing.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"error while creating mount source path .*: not a directory"):
        written(store, bind(str(tmp_path / "file" / "c")))


def test_nothing_is_propagated_through_a_private_mount(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_host: frozenset[str] = frozenset()
    monkeypatch.setattr(host_mounts, "propagation", lambda path: ("/", of_the_host))
    for wanted, kind in (("rshared", "shared"), ("slave", "shared or slave")):
        point = MountPoint(type="bind", source=str(tmp_path), destination="/x", propagation=wanted)
        with pytest.raises(EngineError, match=f"is mounted on / but it is not a {kind} mount"):
            written(store, point)
        of_the_host = frozenset(("shared",))
        assert written(store, point)[0].options == ("rbind", wanted)
        of_the_host = frozenset()


def test_a_volume_and_a_part_of_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()

    def volume(subpath: str = "", rw: bool = True) -> MountPoint:
        request = MountRequest(type="volume", volume_options=VolumeOptions(subpath=subpath)) if subpath else None
        return MountPoint(type="volume", source=str(tmp_path), destination="/x", rw=rw, request=request)

    (found,) = written(store, volume(rw=False))
    assert (found.options, found.create, found.subpath) == (("rbind", "rprivate", "rro"), "dir", "")
    assert [(each.create, each.subpath) for each in written(store, volume("sub"))] == [("dir", "sub")]
    assert [(each.create, each.subpath) for each in written(store, volume("sub/file"))] == [("file", "sub/file")]
    with pytest.raises(NotFound, match=r"cannot access path .*/nothing: lstat .*/nothing: no such file"):
        written(store, volume("nothing"))
    with pytest.raises(InvalidParameter, match=r"cannot mount .*: no such file"):
        written(store, MountPoint(type="volume", source=f"{tmp_path}/gone", destination="/x"))


def test_a_link_leads_to_nowhere_outside_of_a_volume(store: Store, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "out").symlink_to(tmp_path)
    request = MountRequest(type="volume", volume_options=VolumeOptions(subpath="out/volume"))
    with pytest.raises(InvalidParameter, match=r"escapes the base directory, base: .*/volume, subpath: out/volume"):
        written(store, MountPoint(type="volume", source=str(volume), destination="/x", request=request))


def test_a_tmpfs_of_either_kind(store: Store) -> None:
    options = TmpfsOptions(size_bytes=4096, mode=0o1700, options=[["exec"]])
    request = MountRequest(type="tmpfs", target="/t", read_only=True, tmpfs_options=options)
    point = MountPoint(type="tmpfs", destination="/t", request=request)
    found = written(store, point, tmpfs={"/a/../b/": "size=1m,,uid=3", "/c": ""})
    assert {each.target: each.options for each in found} == {
        "/t": ("noexec", "nosuid", "nodev", "size=4096", "mode=1700", "exec", "ro"),
        "/b": ("noexec", "nosuid", "nodev", "size=1m", "uid=3"),
        "/c": ("noexec", "nosuid", "nodev"),
    }


def test_an_image_is_mounted_read_only(store: Store) -> None:
    image_id = lay_image(store, "a", tag="app")
    request = MountRequest(type="image", source="app", target="/x", image_options=ImageOptions(subpath="usr"))
    (found,) = written(store, MountPoint(type="image", source=image_id, destination="/x", request=request))
    assert (found.type, found.target, found.subpath) == ("overlay", "/x", "usr")
    assert "ro" in found.options and not any(option.startswith("upperdir") for option in found.options)


def test_what_is_nearer_to_the_root_comes_first(store: Store, tmp_path: Path) -> None:
    point = MountPoint(type="bind", source=str(tmp_path), destination="/a/b/c", propagation="rprivate")
    assert [each.target for each in written(store, point, tmpfs={"/a": "", "/a/b": ""})] == ["/a", "/a/b", "/a/b/c"]


def test_where_a_container_sees_only_what_is_the_kernel_s() -> None:
    record = Container(
        id="c", name="c", created=0, image="", image_id="", chain_id="", path="", args=[],
        config=ContainerConfig(), host_config=HostConfig(tmpfs={"/dev/shm": ""}),
        mounts=[MountPoint(type="bind", destination="/system", source="/")],
    )  # fmt: skip
    assert mounts.kernel_mount_points(record) == ("/proc", "/sys")


def test_a_folder_as_a_root() -> None:
    assert mounts.root_of(os.sep) == (Mount("bind", "/", "", ("bind", "rprivate")),)


def test_what_the_api_says_of_one() -> None:
    point = MountPoint(type="volume", destination="/x", name="n", driver="local", source="/v", mode="z")
    assert mounts.describe(point) == {
        "Type": "volume",
        "Name": "n",
        "Source": "/v",
        "Destination": "/x",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    assert "Name" not in mounts.describe(MountPoint(type="bind", destination="/x"))
