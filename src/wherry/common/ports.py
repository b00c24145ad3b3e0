"""Port specifications, [[address:]host port[-range]:]container port[-range][/protocol]: of -p, --expose and EXPOSE."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from wherry.common import values
from wherry.common.errors import InvalidParameter
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Bindings = dict[str, list[dict[str, str]]]

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_published(specs: Sequence[str]) -> Bindings:
    """The API's PortMap. Raises ValueError with docker's words."""
    bindings: Bindings = {}
    for spec in specs:
        for port, binding in mappings(_standard(spec)):
            bindings.setdefault(port, []).append(binding)
    return bindings


def _standard(spec: str) -> str:
    """The short form of published=8080,target=80,protocol=tcp."""
    if "=" not in spec:
        return spec
    parts = {"protocol": "tcp"}
    for part in spec.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{part}')")
        parts[key] = value
    return f"{parts.get('published', '')}:{parts.get('target', '')}/{parts['protocol']}"


def mappings(spec: str) -> list[tuple[str, dict[str, str]]]:
    """The container's ports ("80/tcp"), each with the API's PortBinding. Raises ValueError with docker's words."""
    *before, container = spec.split(":")
    host = before.pop() if before else ""
    address = _address(":".join(before))
    protocol, container = _protocol(container)
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    try:
        first, last = port_range(container)
    except ValueError:
        raise ValueError(f"invalid containerPort: {container}") from None
    host_first = host_last = 0
    if host:
        try:
            host_first, host_last = port_range(host)
        except ValueError:
            raise ValueError(f"invalid hostPort: {host}") from None
        # A range of host ports for one of the container's: the engine takes one that is free.
        if last - first != host_last - host_first and first != last:
            raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    if protocol.lower() not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    found = []
    for offset in range(last - first + 1):
        chosen = str(host_first + offset) if host else ""
        if first == last and host_first != host_last:
            chosen = f"{chosen}-{host_last}"
        found.append((f"{first + offset}/{protocol.lower()}", {"HostIp": address, "HostPort": chosen}))
    return found


def _address(text: str) -> str:
    if not text:
        return ""
    from ipaddress import ip_address

    if text[0] == "[" and "]" not in text:
        raise ValueError(f"invalid IP address {text}: address {text}:: missing ']' in address")
    bare = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
    try:
        ip_address(bare)
    except ValueError:
        raise ValueError(f"invalid IP address: {bare}") from None
    return bare


def _protocol(text: str) -> tuple[str, str]:
    """Protocol and port of "80/tcp"."""
    parts = text.split("/")
    if not parts[0]:
        return "", ""
    return (parts[1] if len(parts) > 1 and parts[1] else "tcp"), parts[0]


def port_range(text: str) -> tuple[int, int]:
    """First and last of "80" or "80-90"."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, rest = text.partition("-")
    start = values.parse_unsigned(first, 16)
    end = values.parse_unsigned(rest.split("-")[0], 16) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def parse_exposed(specs: Sequence[str]) -> list[str]:
    """The ports of --expose, each with its protocol."""
    found = []
    for spec in specs:
        if ":" in spec:
            raise ValueError(f"invalid port format for --expose: {spec}")
        protocol, ports = _protocol(spec)
        try:
            first, last = port_range(ports)
        except ValueError as error:
            raise ValueError(f"invalid range format for --expose: {spec}, error: {error}") from None
        found += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return found


# Addresses of the web, which clients and registries write, and which may be none.


def split_address(text: str) -> SplitResult:
    """Its parts. Raises InvalidParameter for brackets around no address and a port that is no number."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise InvalidParameter(f"parse {quoted(text)}: {error}") from None
    return parts
