"""Requests to a registry: connections, log-ins, redirects, and asking again when it was busy.

One session serves one piece of work, a pull or a push, and is closed after it, so that the idle engine holds nothing.
Errors name addresses without their queries, which may hold signatures that are as good as passwords.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from wherry import __version__
from wherry.registry import errors, http
from wherry.registry.auth import NOBODY, Authorizer, Credentials
from wherry.registry.endpoints import Endpoint, Registries
from wherry.registry.errors import RegistryError, Unauthorized, Unreachable
from wherry.registry.http import is_web_url, join_url, proxy_for, shown_url

if TYPE_CHECKING:
    import aiohttp  # 3 MB of memory, which only those who use a registry need

Answer = TypeVar("Answer")

CONNECT_SECONDS = 15
IDLE_SECONDS = 60  # without a single byte, until a connection counts as cut
_READ_BUFFER = 1 << 20
_REDIRECTS = 10
_MOVED = frozenset((301, 302, 303, 307, 308))
_MOVED_AS_A_WHOLE = frozenset((307, 308))  # what was sent is to be sent there
_LONGEST_ERROR = 64 << 10
_LONGEST_TOKEN = 1 << 20

Body = Callable[[], AsyncIterable[bytes]]
"""What to send, from its beginning each time it is called."""


class Session:
    """``async with Session(registries, credentials) as session``; then a ``Repository`` speaks through it."""

    def __init__(
        self,
        registries: Registries,
        credentials: Credentials = NOBODY,
        *,
        idle_seconds: float = IDLE_SECONDS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.registries = registries
        self._credentials = credentials
        self._idle_seconds = idle_seconds
        self._environment = os.environ if environment is None else environment
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._authorizers: dict[str, Authorizer] = {}
        self._chosen: dict[str, Endpoint] = {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Session":
        import aiohttp

        self._http = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._idle_seconds),
            headers={"User-Agent": f"wherry/{__version__}", "Accept-Encoding": "identity"},
            read_bufsize=_READ_BUFFER,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def try_each(
        self, domain: str, attempt: Callable[[Endpoint], Awaitable[Answer]], *, mirrors: bool = False
    ) -> Answer:
        """``attempt`` at a registry's endpoints in turn, until one of them answers.

        One that cannot be reached is passed over, a mirror also when it does not have what is wanted. The one that
        answered is kept to. Raises the last error.
        """
        endpoints = await self.endpoints(domain, mirrors=mirrors)
        for endpoint in endpoints:
            try:
                answer: Answer = await attempt(endpoint)
            except RegistryError as error:
                if endpoint is endpoints[-1] or not is_passed_over(endpoint, error):
                    raise
                continue
            if not endpoint.mirror:
                self._chosen[domain] = endpoint
                self.registries.note(endpoint)
            return answer
        raise AssertionError("a registry has at least one endpoint")

    async def endpoints(self, domain: str, *, mirrors: bool = False) -> list[Endpoint]:
        """Where to try, in this order: what has answered before, and mirrors before that."""
        found = await self.registries.endpoints(domain, mirrors=mirrors)
        chosen = self._chosen.get(domain)
        return found if chosen is None else [*(each for each in found if each.mirror), chosen]

    def authorizer(self, endpoint: Endpoint) -> Authorizer:
        if endpoint.base not in self._authorizers:
            credentials = NOBODY if endpoint.mirror else self._credentials
            self._authorizers[endpoint.base] = Authorizer(
                endpoint.base, credentials, self._send_plainly, self.registries.is_insecure
            )
        return self._authorizers[endpoint.base]

    async def read(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        scopes: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        limit: int = _LONGEST_ERROR,
    ) -> tuple[bytes, Mapping[str, str]]:
        """A small answer as a whole, and its headers. What passes is waited for. Raises RegistryError."""

        async def attempt() -> tuple[bytes, Mapping[str, str]]:
            async with self.request(endpoint, method, path, scopes, headers=headers) as response:
                return await _read(response, limit), dict(response.headers)

        return await patiently(attempt)

    @contextlib.asynccontextmanager
    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        scopes: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        length: int | None = None,
        offline: bool = False,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """One request, with a log-in if it is asked for one. ``path`` may also be a whole address of the registry's.

        Raises RegistryError for what it refuses, Unreachable when it cannot be spoken to or breaks off in the block.
        """
        import aiohttp

        url = urljoin(endpoint.base, path)
        own = urlsplit(url).netloc == endpoint.host
        given = dict(headers or {}) | ({"Content-Length": str(length)} if length is not None else {})
        authorizer = self.authorizer(endpoint)
        shown = await authorizer.header(scopes) if own else None
        try:
            for _ in range(_REDIRECTS):
                sent = given | ({"Authorization": shown} if shown else {})
                response = await self._open(method, url, sent, body)
                try:
                    if response.status == 401 and own:
                        challenge = ", ".join(response.headers.getall("WWW-Authenticate", []))
                        if shown is not None and not _wants_token(challenge):
                            raise await _refusal(response)
                        previous, shown = shown, await authorizer.challenged(challenge, scopes, offline=offline)
                        if shown == previous:
                            raise await _refusal(response)
                        await _read(response, _LONGEST_ERROR, cut=True)
                        response.release()
                        response = await self._open(method, url, given | {"Authorization": shown}, body)
                    if response.status in (_MOVED if method in ("GET", "HEAD") else _MOVED_AS_A_WHOLE):
                        await _read(response, _LONGEST_ERROR, cut=True)  # so that the connection can be used again
                        url = _redirected(url, response.headers.get("Location", ""))
                        # Whoever it leads to is not to see who we are.
                        own = urlsplit(url).netloc == endpoint.host
                        shown = await authorizer.header(scopes) if own else None
                        continue
                    if not 200 <= response.status < 300:
                        raise await _refusal(response)
                    yield response
                    return
                finally:
                    response.close() if not response.content.is_eof() else response.release()
            raise RegistryError(f"{shown_url(url)}: too many redirects")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error, method, url) from None
        except Unauthorized as error:
            if error.code:
                raise
            text = f'{method.capitalize()} "{shown_url(url)}": {error.message}'
            raise Unauthorized(text, answered=401) from None

    async def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, data: bytes | None = None
    ) -> "aiohttp.ClientResponse":
        assert self._http is not None
        import yarl

        parts = urlsplit(url)
        proxy, proxy_log_in = _proxy(proxy_for(url, self._environment))
        try:
            return await self._http.request(
                method,
                yarl.URL(url, encoded=True),
                headers=headers,
                data=body() if body is not None else data,
                allow_redirects=False,
                ssl=await self._context(parts.netloc) if parts.scheme == "https" else True,
                proxy=proxy,
                proxy_auth=proxy_log_in,
            )
        except ValueError as error:  # of a host that no name service could be asked for
            if isinstance(error, OSError):
                raise  # a certificate's
            raise RegistryError(f"{shown_url(url)}: not an address of the web") from None

    async def _context(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:
            self._contexts[host] = await self.registries.tls(host)
        return self._contexts[host]

    async def _send_plainly(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None
    ) -> tuple[int, bytes]:
        """A request to a token server. It is not redirected: a password would go along."""
        import aiohttp

        async def attempt() -> tuple[int, bytes]:
            try:
                response = await self._open(method, url, headers, data=data)
                try:
                    if http.is_passing(response.status):
                        raise await _refusal(response)
                    return response.status, await _read(response, _LONGEST_TOKEN)
                finally:
                    response.release()
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                raise _unreachable(failure, method, url) from None

        return await patiently(attempt)


def is_passed_over(endpoint: Endpoint, error: RegistryError) -> bool:
    """Whether the next endpoint may do better: this is a mirror, or is not there at all."""
    return endpoint.mirror or (isinstance(error, Unreachable) and error.host == endpoint.host)


async def patiently(attempt: Callable[[], Awaitable[Answer]]) -> Answer:
    """What an attempt gives, made again and again while that may help. Raises the last one's RegistryError."""
    failures = 0
    while True:
        try:
            return await attempt()
        except RegistryError as error:
            failures += 1
            await pause(error, failures)


async def pause(error: RegistryError, failures: int, *, was_there: bool = False, attempts: int = http.ATTEMPTS) -> None:
    """Waits before the next attempt. Raises the error when it will not help, or has not for too long.

    A registry that ``was_there`` a moment ago may be starting anew.
    """
    passing = was_there or error.broke_off if isinstance(error, Unreachable) else http.is_passing(error.answered)
    seconds = http.delay(failures, error.retry_after, attempts) if passing else None
    if seconds is None:
        raise error
    await asyncio.sleep(seconds)


def _proxy(address: str | None) -> tuple[str | None, "aiohttp.BasicAuth | None"]:
    """A proxy's address without the log-in, and the log-in. Raises RegistryError for what cannot be a proxy."""
    if address is None:
        return None, None
    if not is_web_url(address):
        text = f"proxyconnect tcp: {shown_url(address)} is no proxy that can be used: only http and https ones can"
        raise RegistryError(text)
    parts = urlsplit(address)
    if parts.username is None:
        return address, None
    import aiohttp

    log_in = aiohttp.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", log_in


def _redirected(url: str, location: str) -> str:
    target = join_url(url, location)
    if url.startswith("https://") and not target.startswith("https://"):
        raise RegistryError(f"{shown_url(url)}: redirects to {shown_url(target)}, away from TLS: refused")
    return target


def _wants_token(challenge: str) -> bool:
    return "bearer" in challenge.lower()


async def _refusal(response: "aiohttp.ClientResponse") -> RegistryError:
    body = b"" if response.method == "HEAD" else await _read(response, _LONGEST_ERROR, cut=True)
    return errors.of_answer(response.status, body, retry_after=http.retry_after(response.headers.get("Retry-After")))


async def _read(response: "aiohttp.ClientResponse", limit: int, *, cut: bool = False) -> bytes:
    """The body, unless it is longer than ``limit``. Raises RegistryError, or cuts it."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            if cut:
                break
            raise RegistryError(f"{shown_url(str(response.url))}: the answer is longer than {limit} bytes")
    return bytes(data[:limit])


def _unreachable(error: Exception, method: str, url: str) -> Unreachable:
    import aiohttp

    no_connection = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError | aiohttp.InvalidURL)
    text = f'{method.capitalize()} "{shown_url(url)}": {_reason(error, url)}'
    return Unreachable(text, broke_off=not no_connection, host=urlsplit(url).netloc if no_connection else "")


def _reason(error: Exception, url: str) -> str:
    """Why there was no answer, in Go's words where people know them."""
    import aiohttp

    host = urlsplit(url).netloc.rpartition("@")[2]
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: x509: {_certificate_reason(error.certificate_error)}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"tls: handshake with {host} failed: {_without_source(str(error.os_error))}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {urlsplit(url).hostname}: no such host"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"proxyconnect tcp: {_connecting(error.os_error)}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"proxyconnect tcp: the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {host}: connect: {_connecting(error.os_error)}"
    if isinstance(error, TimeoutError):
        return "net/http: timeout awaiting response"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"malformed HTTP response: {errors.printable(error.message)}"
    text = str(getattr(error, "strerror", None) or type(error).__name__)
    if text.startswith("[SSL:") and "ALERT_" in text:  # "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] …" is the other side's word
        return f"remote error: tls: {text.partition('ALERT_')[2].partition(']')[0].replace('_', ' ').lower()}"
    return errors.printable(text)


def _connecting(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error)).lower() or "eof"


def _certificate_reason(error: Exception) -> str:
    return getattr(error, "verify_message", "") or _without_source(str(error))


def _without_source(text: str) -> str:
    """An error of OpenSSL's without the line of C that it comes from."""
    return errors.printable(text.partition(" (_ssl.c")[0])
