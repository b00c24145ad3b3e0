"""Published ports: what is asked for, and that they lead to the container where the kernel does not lead them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.config import EngineConfig
from wherry.engine.network import options, ports
from wherry.engine.network.drivers import NetworkDrivers
from wherry.engine.network.ports import PortMapper
from wherry.model.container import Container, ContainerConfig, HostConfig, PortBinding
from wherry.model.network import EndpointSettings, Ipam, IpamPool, Network
from wherry.network.ports import Held, Wanted

HERE = "127.0.0.1"


def container(
    bindings: dict[str, list[PortBinding] | None], *, exposed: tuple[str, ...] = (), publish_all: bool = False
) -> Container:
    return Container(
        id="ab" * 32, name="web", created=1, image="", image_id="", chain_id="", path="", args=[],
        config=ContainerConfig(exposed_ports={port: {} for port in exposed}),
        host_config=HostConfig(port_bindings=bindings, publish_all_ports=publish_all),
        networks={"net": EndpointSettings(ip_address=HERE)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"80/tcp": None}, [Wanted(80, "tcp", ("0.0.0.0",))]),
        ({"80": [PortBinding("", "8080")]}, [Wanted(80, "tcp", ("0.0.0.0",), 8080, 8080)]),
        ({"53/UDP": [PortBinding("127.0.0.1", "0")]}, [Wanted(53, "udp", ("127.0.0.1",))]),
        ({"80/tcp": [PortBinding("::1", "90-95")]}, [Wanted(80, "tcp", ("::1",), 90, 95)]),
    ],
)
def test_bindings(bindings: dict[str, list[PortBinding] | None], expected: list[Wanted]) -> None:
    assert ports.wanted_ports(container(bindings), ("0.0.0.0",)) == expected


def test_who_wants_one_port_comes_before_who_takes_any() -> None:
    asked = {"1": None, "2": [PortBinding("", "90-99")], "3": [PortBinding("", "95")]}
    assert [each.port for each in ports.wanted_ports(container(asked), ("0.0.0.0",))] == [3, 2, 1]


def test_all_that_is_exposed() -> None:
    record = container({"80/tcp": [PortBinding("", "8080")]}, exposed=("80/tcp", "53/udp"), publish_all=True)
    found = ports.wanted_ports(record, ("0.0.0.0",))
    assert [(each.port, each.first) for each in found] == [(80, 8080), (53, 0)]


@pytest.mark.parametrize(
    ("port", "binding", "message"),
    [
        ("80/icmp", PortBinding(), 'unsupported protocol "icmp"'),
        ("0/tcp", PortBinding(), 'invalid port specification: "0"'),
        ("http/tcp", PortBinding(), 'invalid port specification: "http"'),
        ("80/tcp", PortBinding("", "65536"), 'invalid port specification: "65536"'),
        ("80/tcp", PortBinding("", "95-90"), 'invalid port specification: "95-90"'),
        ("80/tcp", PortBinding("localhost", "80"), "invalid IP address 'localhost' in the port binding"),
    ],
)
def test_bad_bindings(port: str, binding: PortBinding, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        ports.check_bindings(container({port: [binding]}))


def test_what_is_held_is_what_a_new_engine_wants() -> None:
    record = container({})
    record.ports = ports.as_bindings([Held(80, "tcp", "0.0.0.0", 8080, None), Held(80, "tcp", "::", 8080, None)])
    assert record.ports == {"80/tcp": [PortBinding("0.0.0.0", "8080"), PortBinding("::", "8080")]}
    assert ports.bindings_of(record) == [
        Wanted(80, "tcp", ("0.0.0.0",), 8080, 8080),
        Wanted(80, "tcp", ("::",), 8080, 8080),
    ]


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[NetworkDrivers]:
    found = NetworkDrivers("id", EngineConfig(data_root=str(tmp_path), exec_root=str(tmp_path), iptables=False))
    yield found
    found.close({"something"})


def network(name: str = "net", **of_bridge: str) -> Network:
    return Network(
        name * 20, name, 1, "bridge", ipam=Ipam(config=[IpamPool(subnet="10.231.0.0/24")]),
        options={f"com.docker.network.bridge.{key}": value for key, value in of_bridge.items()},
    )  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """A port of this machine that answers as the container would."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello " + await reader.read(100))
        writer.close()

    listening = await asyncio.start_server(answer, HERE, 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HERE, port)
    writer.write(b"you")
    writer.write_eof()
    found = await reader.read()
    writer.close()
    return found


async def test_a_published_port_leads_to_the_container(drivers: NetworkDrivers, server: int) -> None:
    publishing, net = PortMapper(drivers, proxy=True), network()
    record = container({f"{server}/tcp": [PortBinding(HERE, "")]})
    publishing.publish(record, [net])
    (binding,) = record.ports[f"{server}/tcp"]
    assert await ask(int(binding.host_port)) == b"hello you"
    assert publishing.is_by(record, net)
    publishing.publish(record, [net])
    assert record.ports[f"{server}/tcp"] == [binding], "it is published already"
    publishing.withdraw(record)
    assert record.ports == {} and not publishing.is_by(record, net)
    with pytest.raises(ConnectionRefusedError):
        await ask(int(binding.host_port))


async def test_a_port_that_is_taken_is_nobody_else_s(drivers: NetworkDrivers, server: int) -> None:
    publishing, net = PortMapper(drivers, proxy=True), network()
    first = container({f"{server}/tcp": [PortBinding(HERE, "")]})
    publishing.publish(first, [net])
    taken = first.ports[f"{server}/tcp"][0].host_port
    second = container({"80/tcp": [PortBinding(HERE, taken)]})
    second.id = "cd" * 32
    with pytest.raises(EngineError, match=f"Bind for {HERE}:{taken} failed: port is already allocated"):
        publishing.publish(second, [net])
    assert second.ports == {}
    publishing.withdraw(first)
    publishing.publish(second, [net])
    publishing.close()


async def test_a_new_engine_takes_over_what_it_can(
    drivers: NetworkDrivers, server: int, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    with socket.create_server((HERE, 0)) as other:
        taken, free = other.getsockname()[1], _free_port()
        record = container({})
        record.ports = {
            f"{server}/tcp": [PortBinding(HERE, str(free))],
            "81/tcp": [PortBinding(HERE, str(taken))],
            "82/tcp": [PortBinding("10.231.0.2", "0")],
        }
        publishing = PortMapper(drivers, proxy=True)
        publishing.take_over(record, [net])
        assert await ask(free) == b"hello you"
        assert f"{HERE}:{taken}" in caplog.text
        publishing.withdraw(record)


async def test_by_which_network_the_ports_are_reached(drivers: NetworkDrivers, server: int) -> None:
    publishing = PortMapper(drivers, proxy=True)
    record = container({f"{server}/tcp": [PortBinding(HERE, "")]})
    record.networks |= {
        name: EndpointSettings(ip_address=HERE, gw_priority=priority)
        for name, priority in (("a", 0), ("z", 5), ("in", 9))
    }
    inside = network("in")
    inside.internal = True
    far = Network("9" * 64, "far", 1, "macvlan")
    record.networks["far"] = EndpointSettings(gw_priority=99)
    every = [network("a"), network("net"), network("z"), inside, far]
    publishing.publish(record, every)
    assert publishing.is_by(record, every[2])
    publishing.publish(record, every[:2])
    assert publishing.is_by(record, every[0]), "the way in is another one now"
    publishing.publish(record, [inside, far])
    publishing.withdraw(record)


async def test_a_routed_network_s_ports_are_reached_at_the_container_s_own_address(drivers: NetworkDrivers) -> None:
    publishing = PortMapper(drivers, proxy=True)
    record = container({"80/tcp": [PortBinding(HERE, "8080")]})
    publishing.publish(record, [network(gateway_mode_ipv4="routed")])
    assert record.ports == {"80/tcp": [PortBinding(HERE, "0")]}
    publishing.withdraw(record)


async def test_the_network_may_say_at_which_address(drivers: NetworkDrivers) -> None:
    publishing = PortMapper(drivers, proxy=True)
    record = container({"80/tcp": None})
    publishing.publish(record, [network(**{options.HOST_BINDING.removeprefix("com.docker.network.bridge."): HERE})])
    assert [each.host_ip for each in record.ports["80/tcp"]] == [HERE]
    publishing.withdraw(record)


def _free_port() -> int:
    with socket.create_server((HERE, 0)) as found:
        return int(found.getsockname()[1])
