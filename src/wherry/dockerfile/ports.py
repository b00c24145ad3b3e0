"""EXPOSE's port specifications: ``80``, ``53/udp``, ``8000-8010/tcp``.

``address:host:container`` is allowed, and its host's part checked, but an image can only say the container's part.
"""

from wherry.dockerfile.errors import DockerfileError

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_ports(specification: str) -> list[str]:
    """The container's ports that a specification names, each as ``80/tcp``, in rising order. Raises DockerfileError."""
    host, _, container = specification.rpartition(":")
    ports, _, protocol = container.partition("/")
    if not ports:
        raise DockerfileError(f"no port specified: {specification}<empty>")
    protocol = (protocol or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise DockerfileError(f"invalid proto: {protocol}: expected tcp, udp or sctp")
    numbers = _range(ports)
    if numbers is None:
        raise DockerfileError(f"invalid containerPort: {ports}: expected a port or a range of ports from 0 to 65535")
    _check_host(host, ports, numbers)
    return [f"{number}/{protocol}" for number in numbers]


def _check_host(host: str, ports: str, numbers: range) -> None:
    address, _, host_ports = host.rpartition(":")
    if address:
        from ipaddress import ip_address  # nearly no EXPOSE has an address, and the engine is to start fast

        try:
            ip_address(address.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise DockerfileError(f"invalid IP address: {address}") from None
    if not host_ports:
        return
    host_numbers = _range(host_ports)
    if host_numbers is None:
        raise DockerfileError(f"invalid hostPort: {host_ports}")
    if len(numbers) not in (1, len(host_numbers)):
        raise DockerfileError(f"invalid ranges specified for container and host Ports: {ports} and {host_ports}")


def _range(text: str) -> range | None:
    first, separator, last = text.partition("-")
    start = _number(first)
    end = _number(last) if separator else start
    if start is None or end is None or end < start:
        return None
    return range(start, end + 1)


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= 65535 else None
