"""Which proxy leads to an address, by the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read by Go's rules.

That is: the machine itself is always reached directly; NO_PROXY lists addresses, networks (10.0.0.0/8), names, which
mean what is below them too (".example.org" only that), each with a port if need be, and "*" for everything.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy's address, with name and password if it has them; None for a direct connection."""
    parts = urlsplit(url)
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    if not proxy or not parts.hostname or _is_exempt(parts, _variable(environment, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def shown(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY as people may see them: without a name and a password."""
    http, https = (_masked(_variable(environment, name)) for name in ("http_proxy", "https_proxy"))
    return http, https, _variable(environment, "no_proxy")


def _masked(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    log_in, _, host = rest.rpartition("@")
    return f"{scheme}{separator}xxxxx:xxxxx@{host}" if log_in else proxy


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name, "")


def _is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    host = (parts.hostname or "").lower().rstrip(".")
    port = str(parts.port or (443 if parts.scheme == "https" else 80))
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        if address is not None and "/" in entry:
            if _in_network(address, entry):
                return True
            continue
        name, wanted_port = _split_port(entry)
        if wanted_port and wanted_port != port:
            continue
        if address is not None:
            if _address(name) == address:
                return True
        elif host.endswith(name if name.startswith(".") else f".{name}") or host == name.removeprefix("*."):
            return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, port.removeprefix(":")
    host, colon, port = entry.partition(":")
    return (host, port) if colon and port.isdigit() else (entry, "")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> bool:
    try:
        return address in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
