"""Who may ask: no web page, and what authorization plug-ins allow, which are asked before each request and before its
answer, by Docker's protocol.

All of them have to allow it. One that does not answer is one that does not allow: nothing gets past a plug-in that is
away. Log-ins to registries are not shown to them.
"""

import base64
import functools
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from wherry.api.connection import Caller, Connection
from wherry.common.errors import EngineError, Forbidden
from wherry.engine.plugins import Address, Plugin, find_address

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("wherry.api")

_MAX_BODY = 4 << 20  # bytes; what is longer is refused, as in Docker, since no plug-in could judge it
_LOG_IN = re.compile(r"/(?:v[0-9.]+/)?auth")  # its body is a name and a password
_SECRET = frozenset(("authorization", "x-registry-config", "x-registry-auth"))


class Inquiry:
    """What plug-ins are told of one request, and later of its answer."""

    def __init__(self, plugins: list[Plugin], http: web.BaseRequest, caller: Caller | None) -> None:
        self.allowed = False
        self._plugins = plugins
        self._http = http
        self._told: dict[str, Any] = {
            "RequestMethod": http.method,
            "RequestUri": http.raw_path,
            "RequestHeaders": _headers(http.headers.items()),
        }
        if caller is not None:
            self._told |= {"User": caller.user, "UserAuthNMethod": "TLS"}
            self._told["RequestPeerCertificates"] = [_encoded(caller.certificate)]

    async def ask(self) -> bytes | None:
        """Raises Forbidden, and EngineError when a plug-in fails. The body, where it had to be read for this."""
        body = None
        if self._is_shown(self._http.headers.get("Content-Type", "")) and self._http.body_exists:
            body = await _read(self._http)
            self._told["RequestBody"] = _encoded(body)
        await self._ask_all("AuthZPlugin.AuthZReq")
        self.allowed = True
        return body

    async def ask_of_answer(self, answer: web.StreamResponse) -> None:
        """The same for what is to be answered. A stream has been sent by then."""
        self._told |= {"ResponseStatusCode": answer.status, "ResponseHeaders": _headers(answer.headers.items())}
        if isinstance(answer, web.Response) and self._is_shown(answer.headers.get("Content-Type", "")):
            self._told["ResponseBody"] = _encoded(bytes(answer.body or b""))  # type: ignore[arg-type]  # ours are bytes
        await self._ask_all("AuthZPlugin.AuthZRes")

    def _is_shown(self, content_type: str) -> bool:
        return content_type.partition(";")[0].strip().lower() == "application/json" and not _LOG_IN.match(
            self._http.path
        )

    async def _ask_all(self, method: str) -> None:
        for plugin in self._plugins:
            try:
                answer = await plugin.call(method, self._told)
            except EngineError as error:
                raise EngineError(f"plugin {plugin.name} failed with error: {error.message}") from None
            if answer.get("Allow") is not True:
                raise Forbidden(f"authorization denied by plugin {plugin.name}: {answer.get('Msg') or ''}")


class Authorization:
    """The plug-ins that were asked so far, by name and address."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Address], Plugin] = {}

    def inquiry(self, names: tuple[str, ...], http: web.BaseRequest) -> Inquiry | None:
        """None where nobody is to be asked. Raises EngineError when a plug-in is not there any more."""
        if not names:
            return None
        caller = http.protocol.caller if isinstance(http.protocol, Connection) else None
        return Inquiry([self._get(name) for name in names], http, caller)

    def _get(self, name: str) -> Plugin:
        address = find_address(name)
        if address is None:
            raise EngineError(f'plugin {name} failed with error: plugin "{name}" not found')
        key = name, address
        if key not in self._found:
            self._found[key] = Plugin(name, address, "authz")
        return self._found[key]


async def _read(http: web.BaseRequest) -> bytes:
    body = bytearray()
    async for chunk in http.content.iter_any():
        body += chunk
        if len(body) > _MAX_BODY:
            raise EngineError(f"request body too large for authorization plugin: size exceeds {_MAX_BODY} bytes")
    return bytes(body)


def _headers(items: Any) -> dict[str, str]:
    """The headers by the names that Go gives them."""
    shown = ((name, value) for name, value in items if name.lower() not in _SECRET)
    return {"-".join(part.capitalize() for part in name.split("-")): value for name, value in shown}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# What a web page may ask of a TCP socket without TLS: nothing.
#
# Anybody's page can have a browser on this machine, or beside it, send requests here. What it gets back it may not
# read, unless it comes by a name of its own that it has pointed at this address meanwhile (DNS rebinding), which the
# browser tells in Host; or opens a websocket, which browsers let every page do, and which tells the page's address in
# Origin. The engine's own clients come by an address, or by a name that nobody outside can hold.

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
