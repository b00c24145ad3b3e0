"""Authorization plug-ins: asked before each request and before its answer, by Docker's protocol.

All of them have to allow it. One that does not answer is one that does not allow: nothing gets past a plug-in that is
away. Log-ins to registries are not shown to them.
"""

import base64
import logging
import re
from typing import Any

from aiohttp import web

from wherry.api.connection import Caller, Connection
from wherry.common.errors import EngineError, Forbidden
from wherry.engine.plugins import Address, Plugin, find_address

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
    """By the names that Go gives them."""
    shown = ((name, value) for name, value in items if name.lower() not in _SECRET)
    return {"-".join(part.capitalize() for part in name.split("-")): value for name, value in shown}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
