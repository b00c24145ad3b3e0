"""``--link NAME:ALIAS`` on the default network: names in /etc/hosts, and environment variables that say where.

On user-defined networks a link is an alias that one container has for another, which is the name service's business.
"""

from typing import NamedTuple

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine.container.store import ContainerEntry, ContainerStore, parse_link
from wherry.engine.network.ports import parse_port
from wherry.model.container import Container
from wherry.network.ruleset import Link

_DEFAULT = ("bridge", "default")
_NOT_PASSED_ON = ("PATH", "HOME", "HOSTNAME", "TERM")


class Linked(NamedTuple):
    target: ContainerEntry
    alias: str


def check(container: Container, entries: ContainerStore) -> None:
    """Writes the targets down by their ids, since their names may change. Raises InvalidParameter when one is not
    there, or cannot be linked to."""
    if not _are_legacy(container):
        return
    found = []
    for text in container.host_config.links or ():
        if not text:
            raise EngineError("empty string specified for links")
        if text.count(":") > 1:
            raise EngineError(f"bad format for links: {text}")
        name, alias = parse_link(text)
        try:
            target = entries.get(name)
        except (NotFound, InvalidParameter) as error:
            raise InvalidParameter(f"could not get container for {name}: {error.message}") from None
        mode = target.record.host_config.network_mode
        if mode.startswith("container:"):
            raise InvalidParameter(f"conflicting options: cannot link to a container that shares a network: {name}")
        if mode == "host":
            raise InvalidParameter("conflicting options: host type networking can't be used with links. "
                                   "This would result in undefined behavior")  # fmt: skip
        found.append(f"{target.record.id}:{alias}")
    container.host_config.links = found or None


def of(container: Container, entries: ContainerStore) -> list[Linked]:
    """The links of a container on the default network; none to a target that has been removed."""
    found = []
    for text in container.host_config.links or () if _are_legacy(container) else ():
        target, alias = parse_link(text)
        if target in entries:
            found.append(Linked(entries.get(target), alias))
    return found


def resolve(container: Container, entries: ContainerStore) -> list[Linked]:
    """The same. Raises EngineError for a target that is on other networks alone, or does not run."""
    found = of(container, entries)
    for target, alias in found:
        if "bridge" not in target.record.networks:
            raise EngineError(f"Cannot link to /{target.record.name}, as it does not belong to the default network")
        if not target.record.state.running:
            raise EngineError(
                f"Cannot link to a non running container: /{target.record.name} AS /{container.name}/{alias}"
            )
    return found


def running(container: Container, entries: ContainerStore) -> list[Linked]:
    """The links to targets that run, and are where they can be reached."""
    found = (each for each in of(container, entries) if each.target.record.state.running)
    return [each for each in found if address(each.target.record)]


def shown(container: Container, entries: ContainerStore) -> list[str] | None:
    """The links as inspect shows them: "/db:/web/database"."""
    found = [f"/{target.record.name}:/{container.name}/{alias}" for target, alias in of(container, entries)]
    return found or None


def names(entries: ContainerStore) -> dict[str, list[str]]:
    """ "/web/database" and the like, by the ids of the containers that are called so."""
    found: dict[str, list[str]] = {}
    for entry in (each for each in entries if each.record.host_config.links):  # hardly any has
        for target, alias in of(entry.record, entries):
            found.setdefault(target.record.id, []).append(f"/{entry.record.name}/{alias}")
    return found


def remove(container: Container, alias: str) -> bool:
    """Whether there was such a link."""
    before = container.host_config.links or []
    container.host_config.links = [text for text in before if parse_link(text)[1] != alias] or None
    return len(container.host_config.links or ()) < len(before)


def _are_legacy(container: Container) -> bool:
    return container.host_config.network_mode in _DEFAULT


def address(target: Container) -> str:
    endpoint = target.networks.get("bridge")
    return endpoint.ip_address if endpoint is not None else ""


def hosts(linked: list[Linked]) -> list[tuple[str, str]]:
    """(address, names) for /etc/hosts."""
    lines = []
    for target, alias in linked:
        record = target.record
        names = " ".join(dict.fromkeys((alias, record.config.hostname, record.name)))
        endpoint = record.networks["bridge"]
        lines += [(each, names) for each in (endpoint.ip_address, endpoint.global_ipv6_address) if each]
    return lines


def rules(container: Container, linked: list[Linked]) -> list[Link]:
    """What may pass where there is no other communication."""
    own = address(container)
    return [
        Link(own, address(target.record), protocol, port)
        for target, _ in linked
        for port, protocol in _ports(target.record)
        if own and address(target.record)
    ]


def environment(container: Container, linked: list[Linked]) -> tuple[str, ...]:
    """``DB_PORT_5001_TCP_ADDR`` and the rest."""
    found = []
    for target, alias in linked:
        record = target.record
        prefix, where = alias.replace("-", "_").upper(), address(record)
        ports = sorted(_ports(record), key=lambda each: (each[1] != "tcp", each[0]))
        if ports:
            port, protocol = ports[0]
            found.append(f"{prefix}_PORT={protocol}://{where}:{port}")
        for port, protocol in ports:
            name = f"{prefix}_PORT_{port}_{protocol.upper()}"
            found += [
                f"{name}={protocol}://{where}:{port}",
                f"{name}_ADDR={where}",
                f"{name}_PORT={port}",
                f"{name}_PROTO={protocol}",
            ]
        found.append(f"{prefix}_NAME=/{container.name}/{alias}")
        for entry in record.config.env or ():
            name, _, value = entry.partition("=")
            if name not in _NOT_PASSED_ON:
                found.append(f"{prefix}_ENV_{name}={value}")
    return tuple(found)


def _ports(target: Container) -> list[tuple[int, str]]:
    exposed = {**(target.config.exposed_ports or {}), **target.host_config.port_bindings}
    return [parse_port(text) for text in exposed]
