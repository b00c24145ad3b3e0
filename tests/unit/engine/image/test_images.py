"""Images as users see them: the list and its filters, names, and what cannot be removed."""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.support import tars
from tests.support.api_definition import ApiDefinition
from tests.support.bare_engine import BareEngine
from tests.support.disk import docker_archive
from tests.support.laid_images import lay_image
from tests.support.tars import member
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.engine.image.images import Commit
from wherry.model.container import ContainerConfig, HostConfig, MountRequest


def listed(bare: BareEngine, **filters: list[str]) -> list[str]:
    found = bare.engine.images.list_all(show_all=False, filters=filters)
    return sorted(name for each in found for name in each["RepoTags"] or ["-"])


@pytest.fixture
def fleet(bare: BareEngine) -> BareEngine:
    """Beside "app": "old" and "new" of 2020 and 2024, and one without a name."""
    for year, tag in ((2020, "example.com/team/old:1"), (2024, "new:2"), (2022, "")):
        lay_image(
            bare.store, str(year), tag=tag, created=f"{year}-01-01T00:00:00Z",
            config=ContainerConfig(labels={"year": str(year)}),
        )  # fmt: skip
    return bare


async def test_filters(fleet: BareEngine) -> None:
    every = ["-", "app:latest", "example.com/team/old:1", "new:2"]
    for filters, expected in (
        ({}, every),
        ({"dangling": ["true"]}, ["-"]),
        ({"dangling": ["false"]}, every[1:]),
        ({"label": ["year"]}, ["-", *every[2:]]),
        ({"label": ["year=2020"]}, [every[2]]),
        ({"reference": ["new"]}, ["new:2"]),
        ({"reference": ["ne*:2", "app"]}, ["app:latest", "new:2"]),
        ({"reference": ["*"]}, ["app:latest", "new:2"]),
        ({"reference": ["*/*/old"]}, [every[2]]),
        ({"before": ["new:2"], "since": ["example.com/team/old:1"]}, ["-"]),
        ({"until": ["2021-01-01T00:00:00Z"], "label": ["year"]}, [every[2]]),
    ):
        assert listed(fleet, **filters) == expected, filters
    for bad, error in (({"colour": ["red"]}, InvalidParameter), ({"before": ["gone"]}, NotFound)):
        with pytest.raises(error):
            listed(fleet, **bad)


async def test_the_shape_of_the_api(fleet: BareEngine, api_definition: ApiDefinition) -> None:
    found = fleet.engine.images.list_all(show_all=True, filters={}, shared_size=True, manifests=True)
    api_definition.check("GET", "/images/json", 200, _as_sent(found))
    inspected = fleet.engine.images.inspect("new:2", manifests=True)
    assert (inspected["RepoTags"], inspected["Created"]) == (["new:2"], "2024-01-01T00:00:00Z")
    assert fleet.engine.images.history("app") == fleet.store.images.history("app")
    assert json.loads(fleet.engine.images.document("app"))["os"] == "linux"


def _as_sent(found: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(found))


async def test_names_come_and_go(bare: BareEngine) -> None:
    images = bare.engine.images
    images.tag("app", "example.com/app", "2")
    assert images.inspect("app")["RepoTags"] == ["app:latest", "example.com/app:2"]
    assert await images.remove("app") == [{"Untagged": "app:latest"}]
    image_id = images.inspect("example.com/app:2")["Id"]
    removed = await images.remove("example.com/app:2")
    assert removed[0] == {"Untagged": "example.com/app:2"} and {"Deleted": image_id} in removed
    told = [each.split()[1] for each in await bare.events(type=["image"])]
    assert told == ["tag", "untag", "untag", "delete"]
    with pytest.raises(NotFound, match="No such image: app"):
        images.tag("app", "x")


async def test_what_a_container_has_stays(bare: BareEngine) -> None:
    bare.image("m", tag="mounted")
    mounted = MountRequest(type="image", source="mounted", target="/m")
    record = await bare.create("web", HostConfig(network_mode="none", mounts=[mounted]))
    image_id = bare.engine.images.inspect("mounted")["Id"]
    for name in (bare.live("web").record.image_id, image_id):
        with pytest.raises(Conflict, match=record.id[:12]):
            await bare.engine.images.remove(name)
    with pytest.raises(NotFound, match="does not match the specified platform"):
        await bare.engine.images.remove("app", platforms=["linux/mips"])
    await bare.engine.containers.remove("web")
    await bare.engine.images.remove("app")
    await bare.engine.images.remove("mounted")
    assert bare.engine.images.list_all(show_all=True, filters={}) == []


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_an_archive_in_and_out(bare: BareEngine) -> None:
    layer = tars.make(member("file", data=b"content", uid=os.getuid(), gid=os.getgid()))
    archive = docker_archive({"layer.tar": layer}, names=["loaded:1"])
    told = [message async for message in bare.engine.images.load(pieces(archive), quiet=False)]
    assert {"stream": "Loaded image: loaded:1\n"} in told
    saved = b"".join([chunk async for chunk in bare.engine.images.save(["loaded:1"])])
    await bare.engine.images.remove("loaded:1")
    told = [message async for message in bare.engine.images.load(pieces(saved))]
    assert told == [{"stream": "Loaded image: loaded:1\n"}]
    assert {"load", "save", "untag", "delete"} <= {each.split()[1] for each in await bare.events(type=["image"])}
    other = docker_archive({"layer.tar": tars.make(member("x", uid=os.getuid(), gid=os.getgid()))}, names=["loaded:1"])
    told = [message async for message in bare.engine.images.load(pieces(other))]
    assert "already exists, renaming the old one" in told[0]["stream"]
    with pytest.raises(NotFound):
        bare.engine.images.save(["gone"])
    with pytest.raises(EngineError):
        [message async for message in bare.engine.images.load(pieces(b"no archive"))]


async def test_a_tar_becomes_an_image(bare: BareEngine) -> None:
    layer = tars.make(member("file", data=b"content", uid=os.getuid(), gid=os.getgid()))
    told = [
        message
        async for message in bare.engine.images.import_(
            pieces(layer),
            repo="made",
            tag="1",
            message="by hand",
            changes=["CMD run", "ENV a=b"],
            platform="linux/arm64",
        )
    ]
    found = bare.engine.images.inspect("made:1")
    assert told == [{"status": found["Id"]}]
    assert (found["Architecture"], found["Comment"], found["Config"]["Env"]) == ("arm64", "by hand", ["a=b"])
    with pytest.raises(EngineError):
        [
            message
            async for message in bare.engine.images.import_(
                "127.0.0.1:1/nothing.tar", repo="", tag="", message="", changes=[]
            )
        ]


async def test_a_container_becomes_an_image(bare: BareEngine) -> None:
    record = await bare.create("web", labels={"of": "container"}, hostname="box")
    with open(f"{bare.config.data_root}/containers/{record.id}/diff/new", "w", encoding="ascii") as file:  # noqa: ASYNC230
        file.write("new")

    async def commit(**options: Any) -> str:
        return await bare.engine.images.commit("web", Commit(**options))

    image_id = await commit(repo="made", tag="1", author="me", comment="why", changes=["ENV a=b"])
    found = bare.engine.images.inspect("made:1")
    assert (found["Id"], found["Author"], found["Comment"], found["Config"]["Env"]) == (image_id, "me", "why", ["a=b"])
    assert found["Config"]["Labels"] == {"of": "container"} and found["Config"]["Hostname"] == ""
    assert len(found["RootFS"]["Layers"]) == 2 and found["Parent"] == record.image_id
    other = await commit(config=ContainerConfig(cmd=["other"]))
    assert bare.engine.images.inspect(other)["Config"]["Cmd"] == ["other"]
    record.state.status = type(record.state.status).DEAD
    with pytest.raises(Conflict, match="which is dead"):
        await commit()
    record.state.status = type(record.state.status).CREATED
