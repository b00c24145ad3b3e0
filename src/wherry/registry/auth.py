"""Proving who one is: what a registry asks for, and what it is shown. Basic log-ins, and tokens of a token server.

A registry that wants a token says where to get it and what for ("repository:library/debian:pull"). Tokens are kept for
as long as they are good, one for each set of scopes. Names and passwords go to the registry that they are for and to
the token server that it names, and nowhere else; they are part of no message.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from wherry.registry import errors
from wherry.registry.errors import RegistryError, Unauthorized
from wherry.registry.http import join_url, shown_url

# A user's log-in at a registry, as clients send it along with a request.


class Credentials(msgspec.Struct, frozen=True):
    """The API's AuthConfig. An ``identitytoken`` or ``registrytoken`` goes before name and password."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, serveraddress={self.serveraddress!r})"

    def __bool__(self) -> bool:
        return bool(self.username or self.identitytoken or self.registrytoken)


NOBODY = Credentials()


def from_header(header: str) -> Credentials:
    """Reads X-Registry-Auth: base64 of JSON. What cannot be read is nobody's, as in Docker."""
    if not header:
        return NOBODY
    text = header.translate(str.maketrans("+/", "-_")).rstrip("=")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return complete(msgspec.json.decode(decoded, type=Credentials))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return NOBODY


def from_config_header(header: str) -> dict[str, Credentials]:
    """Reads X-Registry-Config, which builds come with: log-ins by the registry's domain, likewise."""
    text = header.translate(str.maketrans("+/", "-_")).rstrip("=")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = msgspec.json.decode(decoded, type=dict[str, Credentials]) if decoded else {}
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return {}
    return {_domain(server): complete(given) for server, given in found.items()}


def _domain(server: str) -> str:
    """ "https://index.docker.io/v1/" is docker.io; of others it is the host and the port."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def complete(given: Credentials) -> Credentials:
    """Takes name and password out of ``auth`` where that holds both."""
    if not given.auth or given.username:
        return given
    try:
        name, _, password = base64.b64decode(given.auth).decode().partition(":")
    except (binascii.Error, ValueError):
        return given
    return msgspec.structs.replace(given, username=name, password=password.strip("\0"))


def basic(given: Credentials) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{given.username}:{given.password}".encode()).decode()


_CLIENT = "wherry"
_LEAST_LIFE = 60  # seconds that a token is good for unless it says more, by the specification
_MARGIN = 10  # seconds before its end at which a token is not used any more

Send = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[tuple[int, bytes]]]
"""Method, address, headers and body of one request: (status, body of the answer)."""


class Challenge(NamedTuple):
    """``scheme`` in lower case; ``parameters`` with their names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Reads a WWW-Authenticate header, which may hold several: 'Bearer realm="…",service="…", Basic realm="…"'."""
    found: list[Challenge] = []
    rest = header.strip()
    while rest:
        word, rest = _token(rest)
        rest = rest.lstrip()
        if rest.startswith("=") and found and word:
            value, rest = _value(rest[1:].lstrip())
            found[-1].parameters[word.lower()] = value
        elif word:
            found.append(Challenge(word.lower(), {}))
        else:
            rest = rest[1:]
        rest = rest.lstrip(" \t,")
    return found


def _token(text: str) -> tuple[str, str]:
    end = next((at for at, char in enumerate(text) if char in '=, \t"'), len(text))
    return text[:end], text[end:]


def _value(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        end = next((at for at, char in enumerate(text) if char in ", \t"), len(text))
        return text[:end], text[end:]
    value, at = "", 1
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        value += text[at]
        at += 1
    return value, text[at + 1 :]


class _Answer(msgspec.Struct):
    """A token server's answer. Which name the token has depends on the protocol."""

    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None
    refresh_token: str | None = None


class Authorizer:
    """Log-ins at one endpoint. ``may_use`` says whether the token server's address may be given the password."""

    def __init__(
        self, base: str, credentials: Credentials, send: Send, may_use: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._base = base
        self._credentials = credentials
        self._send = send
        self._may_use = may_use
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], tuple[str, float]] = {}
        self._fetching = asyncio.Lock()
        self.identity_token = ""  # what a token server gave in exchange for the password

    async def header(self, scopes: frozenset[str]) -> str | None:
        """What to show with a request; None while it is not known that the registry wants anything."""
        if self._credentials.registrytoken:
            return f"Bearer {self._credentials.registrytoken}"
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return basic(self._credentials)
        return f"Bearer {await self._token(scopes)}"

    async def challenged(self, header: str, scopes: frozenset[str], *, offline: bool = False) -> str:
        """What to show after a refusal with this WWW-Authenticate header. Raises Unauthorized when there is nothing."""
        if self._credentials.registrytoken:
            raise Unauthorized("unauthorized: authentication required", answered=401)
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        if "bearer" in challenges:
            self._challenge = challenges["bearer"]
            return f"Bearer {await self._token(scopes, offline=offline, refused=True)}"
        if "basic" in challenges:
            if not self._credentials.username:
                raise Unauthorized("no basic auth credentials", answered=401)
            self._challenge = challenges["basic"]
            return basic(self._credentials)
        raise Unauthorized("unauthorized: authentication required", answered=401)

    async def _token(self, scopes: frozenset[str], *, offline: bool = False, refused: bool = False) -> str:
        assert self._challenge is not None
        wanted = scopes | frozenset(
            self._challenge.parameters.get("scope", "").split() if refused and not scopes else ()
        )
        before = self._tokens.get(wanted)
        async with self._fetching:
            known = self._tokens.get(wanted)
            # Of many requests that were refused at once, the first fetches a token for all.
            if known is not None and known[1] > time.monotonic() and not (refused and known is before):
                return known[0]
            token, life = await self._fetch(self._challenge.parameters, sorted(wanted), offline)
            self._tokens[wanted] = (token, time.monotonic() + max(life, _LEAST_LIFE) - _MARGIN)
            return token

    async def _fetch(self, parameters: Mapping[str, str], scopes: list[str], offline: bool) -> tuple[str, float]:
        if not parameters.get("realm"):
            raise RegistryError(f"{self._base}: no realm specified for token auth challenge")
        realm = join_url(self._base, parameters["realm"])
        parts = urlsplit(realm)
        credentials = self._credentials
        if credentials and not await self._is_safe(parts.scheme, parts.netloc):
            raise RegistryError(
                f"{self._base}: wants the log-in to be sent to {parts.scheme}://{parts.netloc} without TLS, "
                "which is refused (--insecure-registry allows it)"
            )
        if credentials.identitytoken:
            status, body = await self._exchange(realm, parameters, scopes)
        else:
            status, body = await self._ask(realm, parameters, scopes, offline)
        if status != 200:
            raise errors.of_answer(status, body)
        return self._read(body, shown_url(realm))

    async def _ask(
        self, realm: str, parameters: Mapping[str, str], scopes: list[str], offline: bool
    ) -> tuple[int, bytes]:
        query: list[tuple[str, str]] = []
        if parameters.get("service"):
            query.append(("service", parameters["service"]))
        query += [("scope", scope) for scope in scopes]
        headers: dict[str, str] = {}
        if self._credentials.username:
            query.append(("account", self._credentials.username))
            headers["Authorization"] = basic(self._credentials)
        if offline:
            query += [("client_id", _CLIENT), ("offline_token", "true")]
        separator = "&" if urlsplit(realm).query else "?"
        return await self._send("GET", f"{realm}{separator}{urlencode(query)}", headers, None)

    async def _exchange(self, realm: str, parameters: Mapping[str, str], scopes: list[str]) -> tuple[int, bytes]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.identitytoken,
            "service": parameters.get("service", ""),
            "client_id": _CLIENT,
            "scope": " ".join(scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._send("POST", realm, headers, urlencode(form).encode())

    def _read(self, body: bytes, where: str) -> tuple[str, float]:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except errors.NOT_JSON:
            raise RegistryError(f"{where}: the answer is no token") from None
        token = answer.token or answer.access_token or ""
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError("authorization server did not include a token in the response")
        if answer.refresh_token:
            self.identity_token = answer.refresh_token
        return token, answer.expires_in or 0

    async def _is_safe(self, scheme: str, host: str) -> bool:
        """Whether it is as safe to log in there as at the registry."""
        return scheme == "https" or self._base.startswith("http://") or await self._may_use(host)


def scope(repository: str, *actions: str) -> str:
    """ "repository:library/debian:pull,push"."""
    return f"repository:{repository}:{','.join(actions)}"
