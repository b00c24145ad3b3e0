"""The address of a server that a volume is on."""

import socket
from typing import Any

import pytest

from tests.support.api_definition import ApiDefinition
from tests.support.bare_engine import BareEngine
from tests.support.waiting import until
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.engine.volumes import with_address
from wherry.model.container import HostConfig, MountRequest, VolumeOptions


@pytest.mark.parametrize(
    ("type", "device", "options", "expected"),
    [
        ("nfs", ":/path", "addr=files,rw", "rw,addr=192.0.2.1"),
        ("nfs4", ":/path", "rw,soft", "rw,soft"),
        ("cifs", "//files/share", "username=a", "username=a,addr=192.0.2.1"),
        ("cifs", r"\\files\share", "", "addr=192.0.2.1"),
        ("cifs", "//files/share", "ip=192.0.2.9,username=a", "ip=192.0.2.9,username=a"),
        ("cifs", "//other/share", "addr=files", "addr=192.0.2.1"),
    ],
)
def test_names_become_numbers(
    monkeypatch: pytest.MonkeyPatch, type: str, device: str, options: str, expected: str
) -> None:
    def look_up(host: str, *arguments: Any, **options: Any) -> list[Any]:
        assert host == "files"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert with_address(type, device, options) == expected


# --- volumes as users see them


async def listed(bare: BareEngine, **filters: list[str]) -> list[str]:
    found, warnings = await bare.engine.volumes.list_all(filters)
    assert warnings == []
    return [each["Name"] for each in found]


def holding(*binds: str) -> HostConfig:
    return HostConfig(network_mode="none", binds=[f"{bind}:nocopy" for bind in binds])


async def test_made_found_and_removed(bare: BareEngine, api_definition: ApiDefinition) -> None:
    made = await bare.engine.volumes.create("data", labels={"b": "1", "a": "2"})
    api_definition.check("GET", "/volumes/{name}", 200, made)
    assert await bare.engine.volumes.create("data") == made == await bare.engine.volumes.inspect("data")
    anonymous = await bare.engine.volumes.create()
    assert len(anonymous["Name"]) == 64 and "com.docker.volume.anonymous" in anonymous["Labels"]
    await bare.engine.volumes.remove("data")
    with pytest.raises(NotFound, match="get data: no such volume"):
        await bare.engine.volumes.inspect("data")
    with pytest.raises(NotFound, match="get data: no such volume"):
        await bare.engine.volumes.remove("data")
    await bare.engine.volumes.remove("data", force=True)
    assert await bare.events(type=["volume"]) == ["volume create"] * 2 + ["volume destroy"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "a/b"}, InvalidParameter, "includes invalid characters"),
        ({"name": "x" * 256}, InvalidParameter, "characters at most"),
        ({"name": "vol", "options": {"colour": "red"}}, InvalidParameter, 'invalid option: "colour"'),
        ({"name": "vol", "options": {"type": "tmpfs"}}, InvalidParameter, 'missing required option: "device"'),
        ({"name": "vol", "driver": "pigeon"}, NotFound, "create vol: .*pigeon"),
    ],
)
async def test_what_cannot_be_made(
    bare: BareEngine, arguments: dict[str, Any], error: type[EngineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await bare.engine.volumes.create(**arguments)
    assert await listed(bare) == []


async def test_another_volume_of_the_same_name(bare: BareEngine) -> None:
    options = {"type": "tmpfs", "device": "tmpfs"}
    await bare.engine.volumes.create("data", options=options)
    await bare.engine.volumes.create("data", options=options)
    with pytest.raises(Conflict, match="create data: it is already there with other options"):
        await bare.engine.volumes.create("data", options=options | {"o": "size=1m"})
    with pytest.raises(NotFound, match=r"create data: .*pigeon"):
        await bare.engine.volumes.create("data", driver="pigeon")


async def test_filters(bare: BareEngine) -> None:
    for name in ("used", "free"):
        await bare.engine.volumes.create(name, labels={"name": name})
    await bare.create("web", holding("used:/x"))
    for filters, expected in (
        ({}, ["free", "used"]),
        ({"dangling": ["true"]}, ["free"]),
        ({"dangling": ["false"]}, ["used"]),
        ({"driver": ["local"]}, ["free", "used"]),
        ({"driver": ["pigeon"]}, []),
        ({"name": ["^u", "z"]}, ["used"]),
        ({"label": ["name=free"]}, ["free"]),
        ({"label": ["name=free", "other"]}, []),
    ):
        assert await listed(bare, **filters) == expected, filters
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        await listed(bare, colour=["red"])


async def test_a_volume_in_use_stays(bare: BareEngine) -> None:
    record = await bare.create("web", holding("data:/x"))
    assert bare.engine.volumes.users("data") == [record.id]
    with pytest.raises(Conflict, match=f"remove data: volume is in use - .{record.id}"):
        await bare.engine.volumes.remove("data", force=True)
    started = await bare.start("web")
    mount = next(each for each in started.spec.mounts if each.target == "/x")
    assert mount.source == (await bare.engine.volumes.inspect("data"))["Mountpoint"]
    started.exit(0)
    await bare.ended("web")
    await until(lambda: bare.live("web").releasing is None or bare.live("web").releasing.done())
    assert await bare.events(type=["volume"]) == ["volume create", "volume mount", "volume unmount"]
    await bare.engine.containers.remove("web", volumes=True)
    assert await listed(bare) == ["data"], "it has a name"


async def test_anonymous_volumes_go_with_their_container_if_nobody_else_has_them(bare: BareEngine) -> None:
    request = MountRequest(type="volume", target="/x", volume_options=VolumeOptions(no_copy=True))
    for name in ("one", "two"):
        await bare.create(name, HostConfig(network_mode="none", mounts=[request]))
    await bare.create("guest", HostConfig(network_mode="none", volumes_from=["one:ro"]))
    (point,) = bare.live("guest").record.mounts
    assert not point.rw and point.anonymous
    assert len(await listed(bare)) == 2
    for name in ("one", "two"):
        await bare.engine.containers.remove(name, volumes=True)
    assert await listed(bare) == [point.name]
    await bare.engine.containers.remove("guest", volumes=True)
    assert await listed(bare) == []


async def test_prune(bare: BareEngine) -> None:
    anonymous = (await bare.engine.volumes.create(labels={"x": ""}))["Name"]
    await bare.engine.volumes.create("named")
    await bare.engine.volumes.create("elsewhere", options={"type": "tmpfs", "device": "tmpfs"})
    await bare.create("web", holding("used:/x"))
    assert (await bare.engine.volumes.prune({"label!": ["x"]}))["VolumesDeleted"] == []
    assert (await bare.engine.volumes.prune({}))["VolumesDeleted"] == [anonymous]
    assert (await bare.engine.volumes.prune({"all": ["true"]}))["VolumesDeleted"] == ["named"]
    assert await listed(bare) == ["elsewhere", "used"]


async def test_what_they_take(bare: BareEngine) -> None:
    await bare.create("web", holding("data:/x"))
    place = (await bare.engine.volumes.inspect("data"))["Mountpoint"]
    with open(f"{place}/file", "wb") as file:  # noqa: ASYNC230
        file.write(b"x" * 100)
    (found,) = (await bare.engine.disk_usage.measure(["volume"]))["Volumes"]
    assert found["UsageData"] == {"Size": 100, "RefCount": 1}


async def test_the_next_engine_has_them(bare: BareEngine) -> None:
    await bare.engine.volumes.create("data", labels={"a": "b"})
    before = await bare.engine.volumes.inspect("data")
    await bare.reopen()
    assert await bare.engine.volumes.inspect("data") == before
