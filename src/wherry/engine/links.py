"""``--link NAME:ALIAS`` on the default network: names in /etc/hosts, and environment variables that say where.

On user-defined networks a link is an alias that one container has for another, which is the name service's business.
"""

from typing import NamedTuple

from wherry.engine.port_bindings import parse_port
from wherry.engine.roster import Live, Roster
from wherry.model.container import Container
from wherry.model.errors import InvalidParameter, NotFound
from wherry.network.ruleset import Link

_DEFAULT = ("bridge", "default")
_NOT_PASSED_ON = ("PATH", "HOME", "HOSTNAME", "TERM")


class Linked(NamedTuple):
    target: Live
    alias: str


def parse(text: str) -> tuple[str, str]:
    """("db", "database") for "db:database", "/db:/web/database" or, with the name for alias, "db"."""
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    return name, alias.rpartition("/")[2] or name


def are_legacy(container: Container) -> bool:
    return container.host_config.network_mode in _DEFAULT


def check(container: Container, roster: Roster) -> None:
    """Raises InvalidParameter when a target is not there, or cannot be linked to."""
    for text in container.host_config.links or ():
        name, _ = parse(text)
        try:
            target = roster.get(name)
        except NotFound:
            raise InvalidParameter(f"could not get container for {name}: No such container: {name}") from None
        mode = target.record.host_config.network_mode
        if mode.startswith("container:"):
            raise InvalidParameter(f"conflicting options: cannot link to a container that shares a network: {name}")
        if mode == "host":
            raise InvalidParameter("conflicting options: host type networking can't be used with links. "
                                   "This would result in undefined behavior")  # fmt: skip


def resolve(container: Container, roster: Roster) -> list[Linked]:
    """The links of a container on the default network. Raises InvalidParameter for a target that does not run."""
    if not are_legacy(container):
        return []
    found = []
    for text in container.host_config.links or ():
        name, alias = parse(text)
        target = roster.get(name)
        if not target.record.state.running:
            raise InvalidParameter(
                f"Cannot link to a non running container: /{target.record.name} AS /{container.name}/{alias}"
            )
        found.append(Linked(target, alias))
    return found


def names_in(container: Container, roster: Roster) -> list[tuple[str, str]]:
    """(target's id, "/web/db") of a container's links, for lists that show every name of a container."""
    found = []
    for text in container.host_config.links or () if are_legacy(container) else ():
        name, alias = parse(text)
        try:
            found.append((roster.get(name).record.id, f"/{container.name}/{alias}"))
        except (NotFound, InvalidParameter):
            continue
    return found


def address(target: Container) -> str:
    endpoint = target.networks.get("bridge")
    return endpoint.ip_address if endpoint is not None else ""


def hosts(linked: list[Linked]) -> list[tuple[str, str]]:
    """(address, names) for /etc/hosts."""
    lines = []
    for target, alias in linked:
        record = target.record
        names = dict.fromkeys((alias, record.id[:12], record.name))
        lines.append((address(record), " ".join(names)))
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
