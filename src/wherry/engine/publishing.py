"""Published ports: held on the host, and led to the container, by the kernel or where it cannot by the forwarder."""

import logging
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


class Publications(NamedTuple):
    """All ports of one container."""

    network_id: str
    held: list[Held]
    published: list[Published]
    forwarders: list[Forwarder]

    def close(self) -> None:
        """Lets go of what this process has; what the kernel does it goes on doing."""
        for forwarder in self.forwarders:
            forwarder.close()
        for each in self.held:
            if each.socket is not None:
                each.socket.close()


class Publishing:
    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._ports = Ports()

    def publish(self, record: Container, network: Network) -> Publications | None:
        """Holds and publishes what the container asks for, and writes it into its record. Raises EngineError."""
        wanted = port_bindings.wanted(record, self._everywhere(network))
        if not wanted:
            return None
        endpoint = record.networks[network.name]
        mapped, held = [], []
        for each in wanted:
            addresses = [a for a in each.addresses if not options.is_routed(network, _version(a))]
            if addresses:
                mapped.append(each._replace(addresses=tuple(addresses)))
            held += [Held(each.port, each.protocol, a, 0, None) for a in each.addresses if a not in addresses]
        try:
            held += self._ports.hold(mapped, listening=self._listening)
        except PortTaken as error:
            raise EngineError(
                "failed to set up container networking: driver failed programming external connectivity on endpoint "
                f"{record.name} ({endpoint.endpoint_id}): {error}"
            ) from None
        record.ports = port_bindings.as_bindings(held)
        return self._lead(held, network, endpoint)

    def take_over(self, record: Container, network: Network) -> Publications:
        """The ports of a container that runs. One that somebody else has taken meanwhile is told of; the kernel's rules
        lead to the container all the same."""
        held = []
        for wanted in port_bindings.of_record(record):
            if not wanted.first:  # reached at the container's own address
                held.append(Held(wanted.port, wanted.protocol, wanted.addresses[0], 0, None))
                continue
            try:
                held += self._ports.hold([wanted], listening=self._listening)
            except PortTaken as error:
                log.warning("container %s: %s", record.name, error)
                held.append(Held(wanted.port, wanted.protocol, wanted.addresses[0], wanted.first, None))
        return self._lead(held, network, record.networks[network.name])

    def withdraw(self, publications: Publications) -> None:
        if self._fabric.rules is not None:
            self._fabric.rules.withdraw(publications.published)
        for forwarder in publications.forwarders:
            forwarder.close()
        self._ports.release(publications.held)

    @property
    def _listening(self) -> tuple[int, ...]:
        """The versions of IP whose ports the forwarder serves, too or alone."""
        return (6,) if self._fabric.rules is not None else (4, 6)

    def _everywhere(self, network: Network) -> tuple[str, ...]:
        default = network.options.get(options.HOST_BINDING, "")
        if default and default != "0.0.0.0":
            return (default,)
        return ("0.0.0.0", "::") if bridges.has_ipv6() else ("0.0.0.0",)

    def _lead(self, held: list[Held], network: Network, endpoint: EndpointSettings) -> Publications:
        rules = self._fabric.rules
        published, forwarders = [], []
        for each in held:
            version = _version(each.host_address)
            target = endpoint.global_ipv6_address if version == 6 else endpoint.ip_address
            if rules is not None and target:
                published.append(Published(each.protocol, each.host_address, each.host_port, target, each.port))
            target = target or endpoint.ip_address or endpoint.global_ipv6_address
            if each.socket is not None and version in self._listening and each.protocol != "sctp":
                forwarders.append(Forwarder(each.socket, target, each.port))
        if rules is not None:
            rules.publish(published)
        return Publications(network.id, held, published, forwarders)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
