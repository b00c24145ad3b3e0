"""How long to wait before asking again, and how often."""

import datetime
import email.utils
import ipaddress
import random
from collections.abc import Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from wherry.common.errors import InvalidParameter
from wherry.common.ports import split_address
from wherry.registry.errors import RegistryError, printable

ATTEMPTS = 5
"""In a row without any progress; Docker's figure."""

_FIRST, _LONGEST = 0.5, 8.0  # seconds
_LONGEST_ASKED = 60.0  # a registry that asks for more than that is not waited for

_TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


def is_passing(status: int) -> bool:
    """Whether an HTTP status tells of something that may be better soon."""
    return status in _TRY_AGAIN


def delay(failures: int, asked: float | None = None, attempts: int = ATTEMPTS) -> float | None:
    """Seconds before the next attempt after so many failures; None when it is time to give up.

    It doubles, with some chance in it, so that many who were turned away together do not come back together.
    ``asked`` is what the registry wants at least.
    """
    if failures >= attempts or (asked is not None and asked > _LONGEST_ASKED):
        return None
    backoff: float = min(_LONGEST, _FIRST * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
    return max(backoff, asked or 0.0)


def retry_after(header: str | None) -> float | None:
    """Seconds, of a Retry-After header in either of its forms."""
    if not header:
        return None
    if header.isascii() and header.strip().isdigit():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


# Which proxy leads to an address, by the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read by Go's rules.
#
# That is: the machine itself is always reached directly; NO_PROXY lists addresses, networks (10.0.0.0/8), names, which
# mean what is below them too (".example.org" only that), each with a port if need be, and "*" for everything.


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy's address, with name and password if it has them; None for a direct connection."""
    parts = urlsplit(url)
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    if not proxy or not parts.hostname or _is_exempt(parts, _variable(environment, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def shown_proxies(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY as people may see them: without a name and a password."""
    http, https = (masked(_variable(environment, name)) for name in ("http_proxy", "https_proxy"))
    return http, https, _variable(environment, "no_proxy")


def masked(proxy: str) -> str:
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


# Addresses that a registry sends: they may be none at all, and may hold secrets.


def shown_url(url: str) -> str:
    """What people may see of it: without query, name and password."""
    try:
        parts = split_address(url)
    except InvalidParameter:
        return "what is no address"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def join_url(base: str, location: str) -> str:
    """Where ``location`` leads from ``base``. Raises RegistryError when that is nowhere on the web."""
    try:
        found = urljoin(base, location)
    except ValueError:
        found = ""
    if not is_web_url(found):
        raise RegistryError(f"{shown_url(base)}: leads to {shown_url(location)[:200]}: not an address of the web")
    return found


def is_web_url(url: str) -> bool:
    try:
        parts = split_address(url)
        return bool(parts.hostname) and parts.port != 0 and parts.scheme in ("http", "https")
    except InvalidParameter:
        return False
