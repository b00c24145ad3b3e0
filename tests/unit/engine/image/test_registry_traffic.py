"""Pull and push, against a registry in this process: what is fetched and sent, what is not, and what goes wrong."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.support import tars
from tests.support.bare_engine import BareEngine
from tests.support.small_registry import MANIFEST, SmallRegistry, digest_of, serving
from tests.support.tars import member
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.common.platforms import host_architecture
from wherry.engine.image import pull as pulling
from wherry.registry import http
from wherry.registry.endpoints import Endpoint

OTHER = "s390x" if host_architecture() != "s390x" else "amd64"


def tar(name: str, content: bytes = b"content") -> bytes:
    return tars.make(member(name, data=content, uid=os.getuid(), gid=os.getgid()))


BASE, TOP = tar("base"), tar("top")


@pytest.fixture
async def registry(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallRegistry]:
    monkeypatch.setattr(http, "delay", lambda failures, asked=None: 0 if failures < 2 else None)
    async with serving() as found:
        bare.engine.registry._registries.note(Endpoint(f"http://{found.host}"))  # tried first, without TLS
        yield found


async def pulled(bare: BareEngine, name: str, tag: str = "", platform: str = "") -> list[dict[str, Any]]:
    return [message async for message in bare.engine.images.pull(name, tag, platform)]


def said(messages: list[dict[str, Any]], name: str = "") -> list[str]:
    return [each["status"] for each in messages if "status" in each and name in ("", each.get("id"))]


async def test_a_pull_brings_what_is_not_here(bare: BareEngine, registry: SmallRegistry) -> None:
    registry.put_image("app", "1", BASE, TOP, config={"Cmd": ["run"], "Labels": {"a": "b"}})
    registry.put_image("other", "1", BASE)
    name = f"{registry.host}/app"
    messages = await pulled(bare, name, "1")
    assert said(messages)[0] == "Pulling from app"
    assert f"Status: Downloaded newer image for {name}:1" in said(messages)
    image = bare.store.images.get(f"{name}:1")
    assert image.config.rootfs.diff_ids == [digest_of(BASE), digest_of(TOP)]
    assert os.listdir(bare.store.layers.path(image.chain_id)) == ["top"]
    assert bare.engine.images.inspect(f"{name}:1")["Identity"] == {"Pull": [{"Repository": name}]}
    again = await pulled(bare, name, "1")
    assert f"Status: Image is up to date for {name}:1" in said(again)
    before = sum(registry.asked.values())
    await pulled(bare, f"{registry.host}/other", "1")
    assert not any("/blobs/" in each and digest_of(BASE) in each for each in registry.asked)
    asked = [each for each in registry.asked if each.startswith("GET /v2/other/blobs/")]
    assert len(asked) == 1, "only the configuration: the layer is here"
    assert sum(registry.asked.values()) - before == 2
    assert await bare.events(type=["image"], event=["pull"]) == ["image pull"] * 3


async def test_all_tags(bare: BareEngine, registry: SmallRegistry) -> None:
    for tag, layer in (("1", BASE), ("2", TOP)):
        registry.put_image("app", tag, layer)
    messages = await pulled(bare, f"{registry.host}/app")
    assert [each["id"] for each in messages if each["status"].startswith("Pulling from")] == ["1", "2"]
    assert bare.store.images.get(f"{registry.host}/app:2").config.rootfs.diff_ids == [digest_of(TOP)]


async def test_the_platform_s_image_of_an_index(bare: BareEngine, registry: SmallRegistry) -> None:
    ours, theirs = registry.put_image("app", "a", BASE), registry.put_image("app", "b", TOP, architecture=OTHER)
    index = registry.put_index("app", "1", (OTHER, theirs), (host_architecture(), ours))
    name = f"{registry.host}/app"
    await pulled(bare, name, "1")
    assert bare.store.images.get(f"{name}:1").config.architecture == host_architecture()
    assert bare.store.images.get(f"{name}@{index['digest']}").config.architecture == host_architecture()
    await pulled(bare, name, "1", f"linux/{OTHER}")
    assert bare.store.images.get(f"{name}:1").config.architecture == OTHER
    messages = await pulled(bare, name, "b", "linux/" + host_architecture())
    assert any(status.startswith("WARNING: image with reference") for status in said(messages))
    with pytest.raises(NotFound, match="no matching manifest for linux/mips64le in the manifest list entries"):
        await pulled(bare, name, "1", "linux/mips64le")
    by_digest = await pulled(bare, f"{name}@{ours['digest']}")
    assert f"Digest: {ours['digest']}" in said(by_digest)
    found = bare.engine.images.inspect(f"{name}:1", manifests=True)
    assert [each["Available"] for each in found["Manifests"]] == [True, True]


async def test_two_pulls_share_one_transfer(bare: BareEngine, registry: SmallRegistry) -> None:
    registry.put_image("one", "1", BASE)
    registry.put_image("two", "1", BASE, TOP)
    await asyncio.gather(*(pulled(bare, f"{registry.host}/{name}", "1") for name in ("one", "two")))
    assert fetched(registry, BASE) == 1
    for name in ("one", "two"):
        assert bare.store.images.get(f"{registry.host}/{name}:1")


def fetched(registry: SmallRegistry, layer: bytes) -> int:
    """How often."""
    return sum(count for each, count in registry.asked.items() if _compressed(layer) in each)


def _compressed(plain: bytes) -> str:
    return digest_of(gzip.compress(plain, mtime=0))


async def test_the_same_layer_upon_another(bare: BareEngine, registry: SmallRegistry) -> None:
    registry.put_image("one", "1", BASE)
    registry.put_image("two", "1", TOP, BASE)
    await pulled(bare, f"{registry.host}/one", "1")
    await pulled(bare, f"{registry.host}/two", "1")
    assert fetched(registry, BASE) == 1
    assert len(bare.store.images.layers(bare.store.images.get(f"{registry.host}/two:1"))) == 2


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "DENIED"), "pull access denied for .*, repository does not exist or may require 'docker login'"),
        ((404, "NAME_UNKNOWN"), "repository .*/app not found"),
        ((404, "MANIFEST_UNKNOWN"), "manifest for .*/app:1 not found"),
        ((400, "UNSUPPORTED"), "unsupported"),
    ],
)
async def test_what_a_registry_refuses(
    bare: BareEngine, registry: SmallRegistry, refusal: tuple[int, str], message: str
) -> None:
    registry.refusal = refusal
    with pytest.raises(EngineError, match=message):
        await pulled(bare, f"{registry.host}/app", "1")


async def test_nonsense_is_refused_and_nothing_of_it_stays(bare: BareEngine, registry: SmallRegistry) -> None:
    name = f"{registry.host}/app"
    before = len(os.listdir(f"{bare.config.data_root}/layers"))

    def with_layers(*layers: str) -> None:
        document = json.loads(registry.manifests["app", "good"][1])
        document["layers"] = [each for each in document["layers"] if each["digest"] in layers]
        registry.put_manifest("app", "bad", document, MANIFEST)

    registry.put_image("app", "good", BASE, TOP)
    first, second = _compressed(BASE), _compressed(TOP)
    with_layers(first)
    with pytest.raises(InvalidParameter, match="number of layers and diffIDs don't match: expected 1, got 2"):
        await pulled(bare, name, "bad")
    document = json.loads(registry.manifests["app", "good"][1])
    document["layers"].reverse()
    registry.put_manifest("app", "bad", document, MANIFEST)
    with pytest.raises(InvalidParameter, match="layers from manifest don't match image configuration"):
        await pulled(bare, name, "bad")
    data = registry.blobs[second]
    registry.blobs[second] = data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(EngineError):
        await pulled(bare, name, "good")
    registry.blobs[second] = data[:-1]
    with pytest.raises(EngineError, match=f"is {len(data) - 1} bytes long, expected {len(data)}"):
        await pulled(bare, name, "good")
    registry.put_image("app", "windows", BASE, os="windows")
    with pytest.raises(InvalidParameter, match='operating system "windows" cannot be used on this platform'):
        await pulled(bare, name, "windows")
    index = registry.put_index("app", "loop", (host_architecture(), {"mediaType": MANIFEST, "digest": "x", "size": 1}))
    assert index
    with pytest.raises(EngineError):
        await pulled(bare, name, "loop")
    assert len(os.listdir(f"{bare.config.data_root}/layers")) == before
    registry.blobs[second] = data
    await pulled(bare, name, "good")


async def test_a_pull_that_cannot_end_well_is_not_begun(
    bare: BareEngine, registry: SmallRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("app", "1", BASE)
    monkeypatch.setattr(pulling, "free_space", lambda path: 10)
    with pytest.raises(EngineError, match=r"no space left on device: the image's layers have .* bytes to come, and 10"):
        await pulled(bare, f"{registry.host}/app", "1")


async def test_who_stops_listening_ends_the_pull(bare: BareEngine, registry: SmallRegistry) -> None:
    registry.put_image("app", "1", BASE)
    messages = bare.engine.images.pull(f"{registry.host}/app", "1", "")
    await anext(messages)
    await messages.aclose()
    with pytest.raises(NotFound):
        bare.store.images.get(f"{registry.host}/app:1")
    await pulled(bare, f"{registry.host}/app", "1")


# --- push


async def pushed(bare: BareEngine, name: str, tag: str = "", platform: str = "") -> list[dict[str, Any]]:
    return [message async for message in bare.engine.pushes.push(name, tag, platform)]


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (16, 6)])
async def test_so_many_layers_at_once(bare: BareEngine, registry: SmallRegistry, limit: int, expected: int) -> None:
    """max-concurrent-downloads and max-concurrent-uploads, as they are after the settings were read again."""
    registry.put_image("app", "1", *(tar(f"layer{number}") for number in range(6)))
    wanted = msgspec.structs.replace(bare.config, max_concurrent_downloads=limit, max_concurrent_uploads=limit)
    bare.engine.reload(wanted)
    registry.seconds = 0.05
    await pulled(bare, f"{registry.host}/app", "1")
    assert registry.most == expected
    registry.blobs.clear()
    registry.most = 0
    bare.engine.images.tag(f"{registry.host}/app:1", f"{registry.host}/copy", "2")
    await pushed(bare, f"{registry.host}/copy", "2")
    assert registry.most == expected


async def test_what_was_pulled_goes_back_as_it_came(bare: BareEngine, registry: SmallRegistry) -> None:
    manifest = registry.put_image("app", "1", BASE, TOP)
    await pulled(bare, f"{registry.host}/app", "1")
    bare.engine.images.tag(f"{registry.host}/app:1", f"{registry.host}/copy", "2")
    messages = await pushed(bare, f"{registry.host}/copy", "2")
    assert said(messages)[0] == f"The push refers to repository [{registry.host}/copy]"
    assert messages[-1]["aux"]["Digest"] == manifest["digest"]
    assert ("copy", "2") in registry.manifests
    assert said(messages, digest_of(BASE)[7:19])[-1] == "Layer already exists"


async def test_what_was_made_here_is_packed_once(bare: BareEngine, registry: SmallRegistry) -> None:
    bare.image("a", "b", tag=f"{registry.host}/mine:1", labels={"x": "y"})
    messages = await pushed(bare, f"{registry.host}/mine")
    layers = json.loads(registry.manifests["mine", "1"][1])["layers"]
    assert len(layers) == 2 and all(each["digest"] in registry.blobs for each in layers)
    assert said(messages).count("Pushed") == 2
    bare.engine.images.tag(f"{registry.host}/mine:1", f"{registry.host}/mine", "2")
    again = await pushed(bare, f"{registry.host}/mine", "2")
    assert said(again).count("Layer already exists") == 2
    bare.engine.images.tag(f"{registry.host}/mine:1", f"{registry.host}/far/away", "1")
    registry.asked.clear()
    await pushed(bare, f"{registry.host}/far/away", "1")
    assert not any(each.startswith("PATCH") for each in registry.asked)
    assert (await bare.events(event=["push"])) == ["image push"] * 3


async def test_what_is_not_here_is_not_pushed(bare: BareEngine, registry: SmallRegistry) -> None:
    name = f"{registry.host}/mine"
    with pytest.raises(NotFound, match="An image does not exist locally with the tag"):
        await pushed(bare, name)
    bare.image("a", tag=f"{name}:1")
    with pytest.raises(NotFound, match=f"tag does not exist: {name}:2"):
        await pushed(bare, name, "2")
    with pytest.raises(NotFound, match="does not match the specified platform"):
        await pushed(bare, name, "1", f"linux/{OTHER}")
    with pytest.raises(InvalidParameter, match="cannot push a digest reference"):
        await pushed(bare, f"{name}@sha256:{'0' * 64}")
    registry.refusal = (403, "DENIED")
    with pytest.raises(EngineError, match="denied"):
        await pushed(bare, name, "1")


# --- what else is asked of a registry


async def test_what_a_name_leads_to(bare: BareEngine, registry: SmallRegistry) -> None:
    ours = registry.put_image("app", "a", BASE)
    index = registry.put_index("app", "1", (host_architecture(), ours))
    found = await bare.engine.registry.distribution(f"{registry.host}/app:1")
    assert found["Descriptor"] == index
    assert found["Platforms"] == [{"architecture": host_architecture(), "os": "linux"}]
    assert (await bare.engine.registry.distribution(f"{registry.host}/app:a"))["Platforms"] == found["Platforms"]
    of_index = await bare.engine.registry.manifest(f"{registry.host}/app:1")
    assert [each["Ref"] for each in of_index["Manifests"]] == [f"{registry.host}/app:1@{ours['digest']}"]
    single = await bare.engine.registry.manifest(f"{registry.host}/app:a", insecure=True)
    assert single["Manifests"] == [] and single["Descriptor"]["platform"]["architecture"] == host_architecture()
    with pytest.raises(NotFound, match=r"manifest for .* not found"):
        await bare.engine.registry.manifest(f"{registry.host}/app:gone")


async def test_a_search_that_makes_no_sense(bare: BareEngine) -> None:
    search = bare.engine.registry.search
    for arguments, message in (
        (("", None, {}), "search term is required"),
        (("x", 101, {}), r"limit 101 is outside the range of \[1, 100\]"),
        (("x", None, {"colour": ["red"]}), "invalid filter 'colour'"),
        (("x", None, {"stars": ["many"]}), "invalid filter 'stars=many'"),
    ):
        with pytest.raises(InvalidParameter, match=message):
            await search(*arguments)
