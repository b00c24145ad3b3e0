"""Containers on networks: made, started, connected and let go, on macvlan networks that need nothing on the host."""

from typing import Any

import pytest

from tests.support.bare_engine import BareEngine
from wherry.common.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from wherry.model.container import HostConfig
from wherry.model.network import EndpointSettings, IpamConfig
from wherry.runtime import ipc


def on(name: str, **fields: Any) -> HostConfig:
    return HostConfig(network_mode=name, **fields)


@pytest.fixture
def bare(bare: BareEngine) -> BareEngine:
    """With two networks, "shop" of 192.0.2.0/24 and "back" of 198.51.100.0/24."""
    bare.loopback_network("shop")
    bare.loopback_network("back", "198.51.100.0/24")
    return bare


async def test_a_start_gets_an_address_and_an_end_gives_it_back(bare: BareEngine) -> None:
    record = await bare.create("web", on("shop"), {"shop": EndpointSettings(aliases=["www"])})
    assert record.networks["shop"].ip_address == ""
    started = await bare.start("web")
    (interface,) = started.spec.interfaces
    assert (interface.kind, interface.parent, interface.addresses) == ("macvlan", "lo", ("192.0.2.2/24",))
    assert interface.gateways == ("192.0.2.1",) and started.spec.resolver
    settings = record.networks["shop"]
    assert settings.dns_names == ["web", "www", record.id[:12]]
    hosts = next(mount.source for mount in started.spec.mounts if mount.target == "/etc/hosts")
    with open(hosts, encoding="utf-8") as file:  # noqa: ASYNC230
        assert f"192.0.2.2\t{record.id[:12]}" in file.read()
    inspected = bare.engine.networks.inspect("shop")
    assert inspected["Containers"][record.id]["IPv4Address"] == "192.0.2.2/24"
    with pytest.raises(
        Forbidden, match=f'network shop has active endpoints .name:"web" id:"{settings.endpoint_id[:12]}"'
    ):
        bare.engine.networks.remove("shop")
    started.exit(0)
    await bare.ended("web")
    assert settings.ip_address == settings.endpoint_id == ""
    assert bare.engine.networks.inspect("shop")["Containers"] == {}
    told = await bare.events(type=["network"])
    assert told == ["network create", "network create", "network connect", "network disconnect"]
    await bare.start("web")
    assert settings.ip_address == "192.0.2.2"


async def test_a_failed_start_gives_it_back_as_well(bare: BareEngine) -> None:
    record = await bare.create("web", on("shop"))
    bare.launcher.failures = [EngineError("no")]
    with pytest.raises(EngineError):
        await bare.engine.containers.start("web")
    assert record.networks["shop"].ip_address == ""


async def test_several_networks_and_the_way_out(bare: BareEngine) -> None:
    endpoints = {"shop": EndpointSettings(), "back": EndpointSettings(gw_priority=3)}
    started = await bare.run("web", on("shop"), endpoints=endpoints)
    assert {each.name: each.gateways for each in started.spec.interfaces} == {"eth0": ("198.51.100.1",), "eth1": ()}


async def test_connected_and_disconnected_while_it_runs(bare: BareEngine) -> None:
    started = await bare.run("web", on("shop"))
    record = bare.live("web").record
    await bare.engine.endpoints.connect("back", "web", EndpointSettings(mac_address="02:00:00:00:00:09"))
    request = started.requests[-1]
    assert isinstance(request, ipc.Connect) and request.resolver
    assert (request.interface.name, request.interface.addresses) == ("eth1", ("198.51.100.2/24",))
    assert (request.interface.mac, request.interface.gateways) == ("02:00:00:00:00:09", ("198.51.100.1",))
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network back"):
        await bare.engine.endpoints.connect("back", "web", None)
    bare.engine.containers.rename("web", "store")
    assert record.networks["back"].dns_names == ["store", record.id[:12]]
    await bare.engine.endpoints.disconnect("shop", "store", force=False)
    request = started.requests[-1]
    assert isinstance(request, ipc.Disconnect)
    assert (request.name, request.routes) == ("eth0", (("eth1", "198.51.100.1"),))
    assert list(record.networks) == list(record.attachments) == ["back"]
    with pytest.raises(EngineError, match="is not connected to network shop"):
        await bare.engine.endpoints.disconnect("shop", "store", force=False)
    assert (await bare.events(type=["network"]))[-2:] == ["network connect", "network disconnect"]


async def test_a_connection_that_fails_leaves_nothing(bare: BareEngine) -> None:
    started = await bare.run("web", on("shop"))
    started.reply = lambda request: started.tell(ipc.Failed("no such device", 125, request.number))
    with pytest.raises(EngineError, match="failed to set up container networking: no such device"):
        await bare.engine.endpoints.connect("back", "web", None)
    assert list(bare.live("web").record.networks) == ["shop"]
    with pytest.raises(EngineError, match="no such device"):
        await bare.engine.endpoints.disconnect("shop", "web", force=False)


async def test_connected_while_it_does_not_run(bare: BareEngine) -> None:
    record = await bare.create("web", on("shop"))
    await bare.engine.endpoints.connect("back", "web", EndpointSettings())
    assert set(record.networks) == {"shop", "back"}
    await bare.engine.endpoints.disconnect("shop", "web", force=False)
    bare.engine.networks.remove("back")
    with pytest.raises(NotFound, match="network back not found"):
        await bare.engine.containers.start("web")
    await bare.engine.endpoints.disconnect("back", "web", force=False)
    await bare.start("web")
    assert bare.launcher.started[-1].spec.interfaces == ()


@pytest.mark.parametrize(
    ("mode", "network", "error", "message"),
    [
        ("host", "shop", InvalidParameter, "cannot be disconnected from host network or connected to host network"),
        ("shop", "host", InvalidParameter, "cannot be disconnected from host network or connected to host network"),
        ("none", "shop", InvalidParameter, r"one of the networks in private \(none\) mode"),
        ("container:other", "shop", Conflict, "cannot be connected to any other network"),
        ("shop", "gone", NotFound, "network gone not found"),
    ],
)
async def test_what_cannot_be_connected(
    bare: BareEngine, mode: str, network: str, error: type[Exception], message: str
) -> None:
    await bare.create("other")
    await bare.create("web", on(mode))
    with pytest.raises(error, match=message):
        await bare.engine.endpoints.connect(network, "web", None)


async def test_what_cannot_be_disconnected(bare: BareEngine) -> None:
    await bare.create("web", on("host"))
    with pytest.raises(Conflict, match="cannot disconnect container from host network"):
        await bare.engine.endpoints.disconnect("host", "web", force=False)
    with pytest.raises(NotFound, match="No such container"):
        await bare.engine.endpoints.disconnect("shop", "gone", force=False)
    with pytest.raises(NotFound, match="endpoint gone not found"):
        await bare.engine.endpoints.disconnect("shop", "gone", force=True)


async def test_what_cannot_be_made(bare: BareEngine) -> None:
    two = {"host": EndpointSettings(), "shop": EndpointSettings()}
    with pytest.raises(Conflict, match="cannot be connected to multiple networks with one of the networks in host"):
        await bare.create("web", on("host"), two)
    for mode, settings, message in (
        ("shop", EndpointSettings(ipam_config=IpamConfig(ipv4_address="x")), "invalid IPv4 address: x"),
        ("bridge", EndpointSettings(aliases=["a"]), "network-scoped alias is supported only"),
    ):
        with pytest.raises(InvalidParameter, match=message):
            await bare.create("web", on(mode), {mode: settings})
    record = await bare.create("early", on("not-yet"))
    assert list(record.networks) == ["not-yet"], "it may be there at the start, as in Docker"


async def test_the_next_engine_keeps_the_addresses_of_those_that_run_and_no_others(bare: BareEngine) -> None:
    await bare.run("web", on("shop"))
    await bare.reopen()
    record = bare.live("web").record
    assert record.networks["shop"].ip_address == "", "its monitor is gone"
    assert [each["Name"] for each in bare.engine.networks.list({"type": ["custom"]})] == ["shop", "back"]
    await bare.start("web")
    assert record.networks["shop"].ip_address == "192.0.2.2"


@pytest.mark.parametrize("change", ["connect", "disconnect"])
async def test_one_that_ends_at_that_moment_has_it_changed_for_its_next_run(bare: BareEngine, change: str) -> None:
    record = await bare.create("web", on("shop"))
    await bare.start("web")
    bare.launcher.started[0].dying = True
    if change == "connect":
        await bare.engine.endpoints.connect("back", "web", None)
    else:
        await bare.engine.endpoints.disconnect("shop", "web", force=False)
    assert sorted(record.networks) == (["back", "shop"] if change == "connect" else [])
    assert not [each.ip_address for each in record.networks.values() if each.ip_address]
    await bare.ended("web")
    again = await bare.start("web")
    assert sorted(each.parent for each in again.spec.interfaces) == ["lo"] * len(record.networks)
