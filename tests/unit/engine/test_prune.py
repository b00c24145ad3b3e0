"""Prune and disk usage: what goes, what stays, and what is counted."""

import asyncio

import pytest

from tests.support.bare_engine import BareEngine
from tests.support.laid_images import lay_image
from wherry.common.errors import Conflict, InvalidParameter
from wherry.model.container import HostConfig, Status


async def test_containers_that_do_not_run(bare: BareEngine) -> None:
    await bare.create("made", labels={"x": ""})
    (await bare.run("ended")).exit(0)
    await bare.ended("ended")
    await bare.run("runs")
    ids = {name: bare.live(name).record.id for name in ("made", "ended")}
    prune = bare.engine.prune
    assert (await prune.containers({"until": ["10m"]}))["ContainersDeleted"] is None
    assert (await prune.containers({"label": ["x"]}))["ContainersDeleted"] == [ids["made"]]
    assert (await prune.containers({}))["ContainersDeleted"] == [ids["ended"]]
    assert bare.live("runs").record.state.status is Status.RUNNING
    for bad in ({"name": ["x"]}, {"until": ["1m", "2m"]}, {"until": ["soon"]}):
        with pytest.raises(InvalidParameter):
            await prune.containers(bad)


async def test_images_that_nobody_needs(bare: BareEngine) -> None:
    unnamed = lay_image(bare.store, "u")
    named = lay_image(bare.store, "n", tag="named", created="2020-01-01T00:00:00Z")
    parent = lay_image(bare.store, "p", created="2024-01-01T00:00:00Z")
    child = lay_image(bare.store, "p", "c", parent=parent, tag="child", created="2024-01-01T00:00:01Z")
    await bare.create("web")
    prune = bare.engine.prune
    layer = bare.store.images.get(unnamed).chain_id
    assert (await prune.images({}))["ImagesDeleted"] == [{"Deleted": unnamed}, {"Deleted": layer}]
    removed = await prune.images({"dangling": ["false"], "until": ["2021-01-01T00:00:00Z"]})
    assert {"Deleted": named} in removed["ImagesDeleted"]
    assert removed["SpaceReclaimed"] == 10
    deleted = [each.get("Deleted") for each in (await prune.images({"dangling": ["0"]}))["ImagesDeleted"]]
    assert child in deleted and parent in deleted, "what was only a step to it goes with it"
    assert [each["RepoTags"] for each in bare.engine.images.list_all(show_all=True, filters={})] == [["app:latest"]]


async def test_one_at_a_time(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    await bare.create("web")
    begun, go_on = asyncio.Event(), asyncio.Event()
    remove = bare.engine.containers.remove

    async def held(container_id: str) -> None:
        begun.set()
        await go_on.wait()
        await remove(container_id)

    monkeypatch.setattr(bare.engine.containers, "remove", held)
    first = asyncio.create_task(bare.engine.prune.containers({}))
    await begun.wait()
    with pytest.raises(Conflict, match="a prune operation is already running"):
        await bare.engine.prune.containers({})
    go_on.set()
    await first
    await bare.engine.prune.containers({})


async def test_what_is_on_the_disk(bare: BareEngine) -> None:
    await bare.create("web", HostConfig(network_mode="none", binds=["data:/x:nocopy"]))
    found = await bare.engine.disk_usage.measure()
    assert found["LayersSize"] == 10
    assert [(each["RepoTags"], each["Containers"]) for each in found["Images"]] == [(["app:latest"], 1)]
    assert [each["Names"] for each in found["Containers"]] == [["/web"]]
    assert [each["Name"] for each in found["Volumes"]] == ["data"]
    assert found["BuildCache"] == []
    assert set(await bare.engine.disk_usage.measure(["image"])) == {"LayersSize", "Images"}
    with pytest.raises(InvalidParameter, match="unknown object type: tea"):
        await bare.engine.disk_usage.measure(["tea"])
