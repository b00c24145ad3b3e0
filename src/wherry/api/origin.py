"""What a web page may ask of a TCP socket without TLS: nothing.

Anybody's page can have a browser on this machine, or beside it, send requests here. What it gets back it may not read,
unless it comes by a name of its own that it has pointed at this address meanwhile (DNS rebinding), which the browser
tells in Host; or opens a websocket, which browsers let every page do, and which tells the page's address in Origin.
The engine's own clients come by an address, or by a name that nobody outside can hold.
"""

import functools
import ipaddress
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.common.errors import Forbidden

if TYPE_CHECKING:
    from aiohttp import web

_HOSTS = "/etc/hosts"


def check(http: "web.BaseRequest", addresses: Iterable[str]) -> None:
    """Raises Forbidden for what a page sends. ``addresses`` are those that the engine listens on."""
    sock = http.transport.get_extra_info("socket") if http.transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:  # where TLS is taken off before, it is a unix socket too
        return
    host, origin = http.headers.get("Host", ""), http.headers.get("Origin")
    if not _is_own(_name(host), addresses):
        raise Forbidden(
            f"the name {host!r} may be a web page's: reach the engine by its address, by a name without a dot, "
            f"or by one that {_HOSTS} on its machine has; or give it TLS"
        )
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Forbidden(f"a web page of {origin} cannot use the engine")


def _name(host: str) -> str:
    """The name in a Host header: without a port, and without the brackets of IPv6."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.strip("[]").rstrip(".").lower()


def _is_own(name: str, addresses: Iterable[str]) -> bool:
    if "." not in name or name.endswith(".localhost") or name == os.uname().nodename.lower():
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        listening = (_name(address.partition("://")[2]) for address in addresses)
        return name in listening or name in _names_of(os.stat(_HOSTS).st_mtime_ns if os.path.exists(_HOSTS) else 0)
    return True


@functools.lru_cache(maxsize=1)
def _names_of(modified: int) -> frozenset[str]:
    """The names in /etc/hosts, as it was at that time."""
    if not modified:
        return frozenset()
    with open(_HOSTS, encoding="ascii", errors="replace") as file:
        lines = [line.partition("#")[0].split() for line in file]
    return frozenset(name.lower() for line in lines for name in line[1:])
