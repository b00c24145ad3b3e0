"""`--network bridge` and `--network name=net,alias=a,ip=10.0.0.2`, `--add-host`, `--dns`, `--link`."""

from __future__ import annotations

from wherry.common import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Attachment:
    """One --network, or the default one."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.ipv4 = self.ipv6 = self.mac = ""
        self.link_local: list[str] = []
        self.driver_options: dict[str, str] = {}
        self.gateway_priority = 0


def is_user_defined(network: str) -> bool:
    return network not in ("default", "bridge", "host", "none") and not network.startswith("container:")


def parse_network(text: str) -> Attachment:
    """Raises ValueError with docker's words."""
    if not _is_long(text):
        return Attachment(text)
    from wherry.common import key_values

    attachment = Attachment("")
    for field in key_values.fields(text):
        key, equals, value = field.lower().partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        _take(attachment, key.strip(), value.strip())
    if not attachment.target:
        raise ValueError("network name/id is not specified")
    return attachment


def _is_long(text: str) -> bool:
    if "=" not in text:
        return False
    import re

    return re.search(r"\w=\w", text, re.ASCII) is not None


_TEXTS = {"name": "target", "ip": "ipv4", "ip6": "ipv6", "mac-address": "mac"}
_LISTS = {"alias": "aliases", "link-local-ip": "link_local"}


def _take(attachment: Attachment, key: str, value: str) -> None:
    if key in _TEXTS:
        setattr(attachment, _TEXTS[key], value)
    elif key in _LISTS:
        getattr(attachment, _LISTS[key]).append(value)
    elif key == "driver-opt":
        name, equals, setting = value.partition("=")
        if not equals or not name:
            raise ValueError("invalid key value pair format in driver options")
        attachment.driver_options[name.strip()] = setting.strip()
    elif key == "gw-priority":
        try:
            attachment.gateway_priority = values.parse_int(value, function="Atoi")
        except ValueError as error:
            raise ValueError(f"invalid gw-priority ({value}): {str(error).rpartition(': ')[2]}") from None
    else:
        raise ValueError(f"invalid field key {key}")


def endpoint(attachment: Attachment) -> dict[str, Any]:
    """The API's EndpointSettings, with every field. Raises ValueError with docker's words."""
    if not attachment.target.strip():
        raise ValueError("no name set for network")
    if not is_user_defined(attachment.target):
        if attachment.aliases:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if attachment.links:
            raise ValueError("links are only supported for user-defined networks")
    if attachment.mac and not is_mac(attachment.mac.strip()):
        raise ValueError(f"{attachment.mac} is not a valid mac address")
    address = {"IPv4Address": attachment.ipv4, "IPv6Address": attachment.ipv6, "LinkLocalIPs": attachment.link_local}
    return {
        "IPAMConfig": {key: value for key, value in address.items() if value} or None,
        "Links": attachment.links or None,
        "Aliases": attachment.aliases or None,
        "MacAddress": attachment.mac,
        "DriverOpts": attachment.driver_options or None,
        "GwPriority": attachment.gateway_priority,
        **dict.fromkeys(("NetworkID", "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address"), ""),
        "IPPrefixLen": 0,
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def is_mac(text: str) -> bool:
    """6, 8 or 20 bytes in hex, with colons or dashes between bytes or dots between pairs of them."""
    for mark, width in ((":", 2), ("-", 2), (".", 4)):
        if mark in text:
            parts = text.split(mark)
            whole = all(len(part) == width and all(char in "0123456789abcdefABCDEF" for char in part) for part in parts)
            return whole and len(parts) * width // 2 in (6, 8, 20)
    return False


def ip_address(text: str) -> str:
    """An address in its shortest form. Raises ValueError."""
    from ipaddress import IPv6Address, ip_address

    try:
        if "%" in text:
            raise ValueError
        address = ip_address(text.strip())
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def extra_host(text: str) -> str:
    """--add-host name:address, name=address or name:[address], as the engine takes it."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name or ":" in name:
        raise ValueError(f"bad format for add-host: {values.quoted(text)}")
    if address != "host-gateway":
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        try:
            ip_address(address)
        except ValueError:
            raise ValueError(f"invalid IP address in add-host: {values.quoted(address)}") from None
    return f"{name}:{address}"


def link(text: str) -> str:
    """--link container[:alias]"""
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text
