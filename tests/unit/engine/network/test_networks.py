"""Networks as users see them."""

import pytest

from tests.support.api_definition import ApiDefinition
from tests.support.bare_engine import BareEngine
from wherry.api.versions import CURRENT, adapt_network_list
from wherry.common.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from wherry.engine.network import options
from wherry.model.container import HostConfig
from wherry.model.network import NetworkCreate


def listed(bare: BareEngine, **filters: list[str]) -> list[str]:
    return sorted(each["Name"] for each in bare.engine.networks.list(filters))


async def test_there_are_three_from_the_beginning(bare: BareEngine, api_definition: ApiDefinition) -> None:
    assert listed(bare) == ["bridge", "host", "none"]
    api_definition.check("GET", "/networks", 200, adapt_network_list(CURRENT, bare.engine.networks.list({})))
    default = bare.engine.networks.inspect("default")
    assert default["Name"] == "bridge" and default["Options"][options.ICC] == "true"
    assert default["Options"][options.NAME].startswith("wherry")
    subnet = default["IPAM"]["Config"][0]["Subnet"]
    free = 1 << 32 - int(subnet.partition("/")[2])
    assert default["Status"] == {"IPAM": {"Subnets": {subnet: {"IPsInUse": 3, "DynamicIPsAvailable": free - 3}}}}
    api_definition.check("GET", "/networks/{id}", 200, default)
    for name in listed(bare):
        with pytest.raises(Forbidden, match="is a pre-defined network and cannot be removed"):
            bare.engine.networks.remove(name)


async def test_names_and_ids(bare: BareEngine) -> None:
    network_id = bare.loopback_network("shop")
    for name in ("shop", network_id, network_id[:12]):
        assert bare.engine.networks.get(name).id == network_id
    with pytest.raises(NotFound, match="network gone not found"):
        bare.engine.networks.get("gone")
    with pytest.raises(NotFound):
        bare.engine.networks.inspect("shop", scope="swarm")
    for number in range(250):
        other = bare.loopback_network(f"n{number}", f"10.{number}.0.0/24")
        if other[0] == network_id[0]:
            break
    with pytest.raises(InvalidParameter, match="is ambiguous"):
        bare.engine.networks.get(network_id[0])


async def test_filters(bare: BareEngine) -> None:
    bare.loopback_network("shop", Labels={"tier": "front"})
    bare.loopback_network("back", "198.51.100.0/24", "ipvlan", Labels={"tier": "back"})
    await bare.create("web", HostConfig(network_mode="shop"))
    for filters, expected in (
        ({"driver": ["macvlan", "host"]}, ["host", "shop"]),
        ({"id": [bare.engine.networks.get("shop").id[:10]]}, ["shop"]),
        ({"label": ["tier"]}, ["back", "shop"]),
        ({"label": ["tier=back"]}, ["back"]),
        ({"name": ["^s", "ck$"]}, ["back", "shop"]),
        ({"scope": ["swarm"]}, []),
        ({"type": ["custom"]}, ["back", "shop"]),
        ({"type": ["builtin"]}, ["bridge", "host", "none"]),
        ({"dangling": ["true"]}, ["back"]),
        ({"dangling": ["false"]}, ["bridge", "host", "none", "shop"]),
    ):
        assert listed(bare, **filters) == expected, filters
    for bad in ({"colour": ["red"]}, {"type": ["mine"]}, {"dangling": ["maybe"]}):
        with pytest.raises(InvalidParameter, match=r"invalid (value for )?filter"):
            listed(bare, **bad)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bridge", Forbidden, "not permitted on predefined bridge network"),
        (" ", InvalidParameter, "invalid name:  "),
        ("shop", Conflict, "network with name shop already exists"),
    ],
)
async def test_bad_names(bare: BareEngine, name: str, error: type[EngineError], message: str) -> None:
    bare.loopback_network("shop")
    with pytest.raises(error, match=message):
        bare.engine.networks.create(NetworkCreate(name=name))


async def test_prune_takes_those_that_no_container_has(bare: BareEngine) -> None:
    for number, name in enumerate(("used", "plain", "kept")):
        labels = {"keep": ""} if name == "kept" else {}
        bare.loopback_network(name, f"10.{number}.0.0/24", Labels=labels)
    await bare.create("web", HostConfig(network_mode="used"))
    assert bare.engine.networks.prune({"until": ["10m"]}) == {"NetworksDeleted": None}
    assert bare.engine.networks.prune({"label!": ["keep"]}) == {"NetworksDeleted": ["plain"]}
    assert bare.engine.networks.prune({}) == {"NetworksDeleted": ["kept"]}
    with pytest.raises(InvalidParameter, match="invalid filter 'name'"):
        bare.engine.networks.prune({"name": ["x"]})
    assert (await bare.events(type=["network"]))[-2:] == ["network destroy", "network prune"]


async def test_the_next_engine_has_them(bare: BareEngine) -> None:
    network_id = bare.loopback_network("shop")
    before = bare.engine.networks.inspect("shop")
    await bare.reopen()
    assert bare.engine.networks.inspect(network_id) == before
    bare.engine.networks.remove("shop")
    await bare.reopen()
    assert listed(bare) == ["bridge", "host", "none"]
