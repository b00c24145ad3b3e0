"""Published ports: held on the host, and led to the container, by the kernel or where it cannot by the forwarder."""

import ipaddress
import logging
from collections.abc import Sequence
from typing import NamedTuple

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.network import options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.engine.network.endpoint import in_order
from wherry.model.container import Container, PortBinding
from wherry.model.network import EndpointSettings, Network
from wherry.network import bridge
from wherry.network.bridge import is_elsewhere
from wherry.network.ports import PROTOCOLS, Forwarder, Held, Ports, PortTaken, Wanted
from wherry.network.ruleset import Published

# What ``-p`` and ``-P`` ask for, as ports to hold.


def check_bindings(container: Container) -> None:
    """Raises InvalidParameter for what cannot be meant."""
    wanted_ports(container, ("0.0.0.0",))


def wanted_ports(container: Container, everywhere: tuple[str, ...]) -> list[Wanted]:
    """``everywhere`` are the host's addresses that a port without one is published at."""
    host = container.host_config
    found = []
    asked = {port: bindings or [PortBinding()] for port, bindings in host.port_bindings.items()}
    if host.publish_all_ports:
        for port in container.config.exposed_ports or {}:
            asked.setdefault(port, [PortBinding()])
    for port, bindings in asked.items():
        number, protocol = parse_port(port)
        for binding in bindings:
            first, last = _range(binding.host_port)
            found.append(Wanted(number, protocol, _addresses(binding.host_ip, everywhere), first, last))
    # Those that want one port come first, lest a range or chance should take it.
    return sorted(found, key=lambda each: (each.first == 0, each.last - each.first))


def parse_port(text: str) -> tuple[int, str]:
    """(80, "tcp") for "80/tcp" or "80". Raises InvalidParameter."""
    number, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f'invalid port specification: unsupported protocol "{protocol}" in "{text}"')
    return _number(number, number), protocol


def as_bindings(held: list[Held]) -> dict[str, list[PortBinding]]:
    """The bindings as inspect shows them."""
    found: dict[str, list[PortBinding]] = {}
    for each in held:
        bindings = found.setdefault(f"{each.port}/{each.protocol}", [])
        bindings.append(PortBinding(each.host_address, str(each.host_port)))
    return found


def bindings_of(container: Container) -> list[Wanted]:
    """The ports that a running container has, to be held again by a new engine."""
    found = []
    for port, bindings in container.ports.items():
        number, protocol = parse_port(port)
        for binding in bindings:
            host_port = int(binding.host_port)
            found.append(Wanted(number, protocol, (binding.host_ip,), host_port, host_port))
    return found


def _addresses(text: str, everywhere: tuple[str, ...]) -> tuple[str, ...]:
    if not text:
        return everywhere
    try:
        return (str(ipaddress.ip_address(text)),)
    except ValueError:
        raise InvalidParameter(f"invalid IP address {text!r} in the port binding") from None


def _range(text: str) -> tuple[int, int]:
    if not text or text == "0":
        return 0, 0
    first, _, last = text.partition("-")
    start = _number(first, text)
    end = _number(last, text) if last else start
    if end < start:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return start, end


def _number(number: str, text: str) -> int:
    """``number``, which is a part of ``text``."""
    if not (number.isascii() and number.isdigit()) or len(number) > 5 or not 0 < int(number) < 65536:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(number)


log = logging.getLogger("wherry.network")


class _Publications(NamedTuple):
    """All ports of one container, and the network by which they are reached."""

    network: Network
    held: list[Held]
    published: list[Published]
    forwarders: list[Forwarder]


class PortMapper:
    """``networks`` are everywhere those that a container has interfaces on."""

    def __init__(self, drivers: NetworkDrivers, *, proxy: bool) -> None:
        """``proxy``: ports that the kernel cannot lead to a container are forwarded by the engine."""
        self._proxy = proxy
        self._drivers = drivers
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
        for each in wanted_ports(record, self._everywhere(network)):
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
        record.ports = as_bindings(held)
        if held:
            self._published[record.id] = self._lead(held, network, endpoint)

    def take_over(self, record: Container, networks: Sequence[Network]) -> None:
        """The ports of a container that runs. One that somebody else has taken meanwhile is told of; the kernel's rules
        lead to the container all the same."""
        network = _way_in(record, networks)
        if network is None or not record.ports:
            return
        held, endpoint = [], record.networks[network.name]
        for wanted in bindings_of(record):
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
            if self._drivers.rules is not None:
                self._drivers.rules.withdraw(found.published)
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
        if is_elsewhere():  # whose rules do not hold for what comes to this host
            return (4, 6)
        if not self._proxy:
            return ()
        return (6,) if self._drivers.rules is not None and endpoint.ip_address else (4, 6)

    def _everywhere(self, network: Network) -> tuple[str, ...]:
        default = network.options.get(options.HOST_BINDING, "")
        if default and default != "0.0.0.0":
            return (default,)
        return ("0.0.0.0", "::") if bridge.has_ipv6() and (self._proxy or network.enable_ipv6) else ("0.0.0.0",)

    def _lead(self, held: list[Held], network: Network, endpoint: EndpointSettings) -> _Publications:
        rules = self._drivers.rules
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
    return next(iter(in_order(record, able)), None)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
