"""What ``-p`` and ``-P`` ask for, as ports to hold."""

import ipaddress

from wherry.model.container import Container
from wherry.model.errors import InvalidParameter
from wherry.model.host import PortBinding
from wherry.network.ports import PROTOCOLS, Held, Wanted


def check(container: Container) -> None:
    """Raises InvalidParameter for what cannot be meant."""
    wanted(container, ("0.0.0.0",))


def wanted(container: Container, everywhere: tuple[str, ...]) -> list[Wanted]:
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
        raise InvalidParameter(f"invalid port specification: unsupported protocol {protocol!r} in {text!r}")
    return _number(number), protocol


def as_bindings(held: list[Held]) -> dict[str, list[PortBinding]]:
    """As inspect shows them."""
    found: dict[str, list[PortBinding]] = {}
    for each in held:
        bindings = found.setdefault(f"{each.port}/{each.protocol}", [])
        bindings.append(PortBinding(each.host_address, str(each.host_port)))
    return found


def of_record(container: Container) -> list[Wanted]:
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
    start = _number(first)
    end = _number(last) if last else start
    if end < start:
        raise InvalidParameter(f"invalid hostPort: {text}")
    return start, end


def _number(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InvalidParameter(f"invalid port specification: {text!r}")
    return int(text)
