"""Published ports: held on the host, and led to the container, by the kernel or where it cannot by the forwarder."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from wherry.engine import network_options as options
from wherry.engine import port_bindings
from wherry.engine.fabric import Fabric
from wherry.model.container import Container
from wherry.model.errors import EngineError
from wherry.model.network import EndpointSettings, Network
from wherry.network import bridges
from wherry.network.forwarder import Forwarder
from wherry.network.ports import Held, Ports, PortTaken
from wherry.network.ruleset import Published

log = logging.getLogger("wherry.network")


class _Publications(NamedTuple):
    """All ports of one container, and the network by which they are reached."""

    network: Network
    held: list[Held]
    published: list[Published]
    forwarders: list[Forwarder]


class Publishing:
    """``networks`` are everywhere those that a container has interfaces on."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._ports = Ports()
        self._published: dict[str, _Publications] = {}

    def publish(self, record: Container, networks: Sequence[Network]) -> None:
        """Holds and publishes what the container asks for, and writes it into its record.

        Answers leave by the default route, so a network that this leads to now is the way in as well: a host may take
        no packets by another than it would send them. Raises EngineError."""
        network = _way_in(record, networks)
        if network is None or self.is_by(record, network):
            return
        self.withdraw(record)
        endpoint, mapped, held = record.networks[network.name], [], []
        for each in port_bindings.wanted(record, self._everywhere(network)):
            addresses = [a for a in each.addresses if not options.is_routed(network, _version(a))]
            if addresses:
                mapped.append(each._replace(addresses=tuple(addresses)))
            held += [Held(each.port, each.protocol, a, 0, None) for a in each.addresses if a not in addresses]
        try:
            held += self._ports.hold(mapped, listening=self._forwarded(endpoint))
        except PortTaken as error:
            raise EngineError(
                "failed to set up container networking: driver failed programming external connectivity on endpoint "
                f"{record.name} ({endpoint.endpoint_id}): {error}"
            ) from None
        record.ports = port_bindings.as_bindings(held)
        if held:
            self._published[record.id] = self._lead(held, network, endpoint)

    def take_over(self, record: Container, networks: Sequence[Network]) -> None:
        """The ports of a container that runs. One that somebody else has taken meanwhile is told of; the kernel's rules
        lead to the container all the same."""
        network = _way_in(record, networks)
        if network is None or not record.ports:
            return
        held, endpoint = [], record.networks[network.name]
        for wanted in port_bindings.of_record(record):
            if not wanted.first:  # reached at the container's own address
                held.append(Held(wanted.port, wanted.protocol, wanted.addresses[0], 0, None))
                continue
            try:
                held += self._ports.hold([wanted], listening=self._forwarded(endpoint))
            except PortTaken as error:
                log.warning("container %s: %s", record.name, error)
                held.append(Held(wanted.port, wanted.protocol, wanted.addresses[0], wanted.first, None))
        self._published[record.id] = self._lead(held, network, endpoint)

    def is_by(self, record: Container, network: Network) -> bool:
        """Whether its ports are reached by this network."""
        return record.id in self._published and self._published[record.id].network.id == network.id

    def withdraw(self, record: Container) -> None:
        found = self._published.pop(record.id, None)
        if found is not None:
            if self._fabric.rules is not None:
                self._fabric.rules.withdraw(found.published)
            for forwarder in found.forwarders:
                forwarder.close()
            self._ports.release(found.held)
        record.ports = {}

    def close(self) -> None:
        """Lets go of what this process has; what the kernel does it goes on doing."""
        for found in self._published.values():
            for forwarder in found.forwarders:
                forwarder.close()
            for each in found.held:
                if each.socket is not None:
                    each.socket.close()

    def _forwarded(self, endpoint: EndpointSettings) -> tuple[int, ...]:
        """The versions of IP whose ports the forwarder serves, too or alone."""
        return (6,) if self._fabric.rules is not None and endpoint.ip_address else (4, 6)

    def _everywhere(self, network: Network) -> tuple[str, ...]:
        default = network.options.get(options.HOST_BINDING, "")
        if default and default != "0.0.0.0":
            return (default,)
        return ("0.0.0.0", "::") if bridges.has_ipv6() else ("0.0.0.0",)

    def _lead(self, held: list[Held], network: Network, endpoint: EndpointSettings) -> _Publications:
        rules = self._fabric.rules
        published, forwarders = [], []
        for each in held:
            version = _version(each.host_address)
            target = endpoint.global_ipv6_address if version == 6 else endpoint.ip_address
            if rules is not None and target:
                published.append(Published(each.protocol, each.host_address, each.host_port, target, each.port))
            target = target or endpoint.ip_address or endpoint.global_ipv6_address
            if each.socket is not None and version in self._forwarded(endpoint) and each.protocol != "sctp":
                forwarders.append(Forwarder(each.socket, target, each.port))
        if rules is not None:
            rules.publish(published)
        return _Publications(network, held, published, forwarders)


def _way_in(record: Container, networks: Sequence[Network]) -> Network | None:
    """The network by which a container's ports are reached."""
    able = [each for each in networks if each.driver == "bridge" and not each.internal]
    return min(able, key=lambda each: (-record.networks[each.name].gw_priority, each.name), default=None)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
