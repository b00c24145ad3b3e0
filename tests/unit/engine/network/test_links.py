"""Links on the default network: who is linked to whom, and what the linking container learns of it."""

from pathlib import Path

import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.container.store import ContainerStore
from wherry.engine.network import links
from wherry.model.container import Container, ContainerConfig, HostConfig, PortBinding, State, Status
from wherry.model.network import EndpointSettings
from wherry.network.ruleset import Link
from wherry.storage.database import Database


@pytest.fixture
def entries(tmp_path: Path) -> ContainerStore:
    return ContainerStore(Database(str(tmp_path / "state.db")))


def add(
    entries: ContainerStore, name: str, *wanted: str, mode: str = "bridge", address: str = "", exposed: str = ""
) -> Container:
    record = Container(
        id=entries.new_id(), name=entries.reserve(name, ""), created=1, image="", image_id="", chain_id="", path="",
        args=[], config=ContainerConfig(
            exposed_ports={exposed: {}} if exposed else None, env=["COLOUR=red", "PATH=/x"], hostname="box"
        ),
        host_config=HostConfig(network_mode=mode, links=list(wanted) or None),
        networks={"bridge": EndpointSettings(ip_address=address)},
        state=State(Status.RUNNING if address else Status.CREATED),
    )  # fmt: skip
    entries.release(name)
    entries.reserve(name, record.id)
    return entries.add(record).record


def test_a_link_is_kept_by_id(entries: ContainerStore) -> None:
    target = add(entries, "db")
    web = add(entries, "web", "db:database", "/db")
    links.check(web, entries)
    assert web.host_config.links == [f"{target.id}:database", f"{target.id}:db"]
    assert [each.alias for each in links.of(web, entries)] == ["database", "db"]
    assert links.shown(web, entries) == ["/db:/web/database", "/db:/web/db"]
    assert links.names(entries) == {target.id: ["/web/database", "/web/db"]}
    assert entries.get("web/database").record is target
    assert links.remove(web, "db") and not links.remove(web, "db")
    assert links.shown(web, entries) == ["/db:/web/database"]
    assert links.shown(target, entries) is None


def test_what_cannot_be_linked_to(entries: ContainerStore) -> None:
    add(entries, "shared", mode="container:x")
    add(entries, "hosted", mode="host")
    for name, message in (
        ("gone", "could not get container for gone: No such container: gone"),
        ("shared", "cannot link to a container that shares a network: shared"),
        ("hosted", "undefined behavior"),
    ):
        with pytest.raises(InvalidParameter, match=message):
            links.check(add(entries, f"to-{name}", name), entries)


def test_elsewhere_links_are_the_name_service_s(entries: ContainerStore) -> None:
    web = add(entries, "web", "gone:x", mode="shop")
    links.check(web, entries)
    assert web.host_config.links == ["gone:x"] and links.of(web, entries) == []


def test_the_target_has_to_run(entries: ContainerStore) -> None:
    add(entries, "db")
    web = add(entries, "web", "db:database")
    links.check(web, entries)
    assert links.running(web, entries) == []
    with pytest.raises(EngineError, match="Cannot link to a non running container: /db AS /web/database"):
        links.resolve(web, entries)


def test_what_the_linking_container_learns(entries: ContainerStore) -> None:
    target = add(entries, "db", address="172.17.0.3", exposed="5432/tcp")
    target.host_config.port_bindings = {"53/udp": [PortBinding()]}
    web = add(entries, "web", "db:the-base", address="172.17.0.2")
    links.check(web, entries)
    found = links.resolve(web, entries)
    assert links.hosts(found) == [("172.17.0.3", "the-base box db")]
    assert links.rules(web, found) == [
        Link("172.17.0.2", "172.17.0.3", "tcp", 5432),
        Link("172.17.0.2", "172.17.0.3", "udp", 53),
    ]
    assert links.environment(web, found) == (
        "THE_BASE_PORT=tcp://172.17.0.3:5432",
        "THE_BASE_PORT_5432_TCP=tcp://172.17.0.3:5432",
        "THE_BASE_PORT_5432_TCP_ADDR=172.17.0.3",
        "THE_BASE_PORT_5432_TCP_PORT=5432",
        "THE_BASE_PORT_5432_TCP_PROTO=tcp",
        "THE_BASE_PORT_53_UDP=udp://172.17.0.3:53",
        "THE_BASE_PORT_53_UDP_ADDR=172.17.0.3",
        "THE_BASE_PORT_53_UDP_PORT=53",
        "THE_BASE_PORT_53_UDP_PROTO=udp",
        "THE_BASE_NAME=/web/the-base",
        "THE_BASE_ENV_COLOUR=red",
    )
    assert links.rules(add(entries, "unconnected", "db"), found) == []
