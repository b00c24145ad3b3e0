"""Where a registry is: its addresses in the order in which they are tried, and how far each is trusted.

Docker Hub has other names than the one it is known by, and may have mirrors. A registry is reached by TLS; one that the
user calls insecure, or that is on this machine, by TLS with any certificate, or without TLS.
"""

import asyncio
import contextlib
import copy
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.common.errors import EngineError, InvalidParameter
from wherry.common.ports import split_address
from wherry.common.reference import DEFAULT_DOMAIN
from wherry.common.tls import client_context
from wherry.registry import http

HUB = "https://registry-1.docker.io"
HUB_ACCOUNT = "https://index.docker.io/v1/"
HUB_SEARCH = "https://index.docker.io"
_HUB_NAMES = frozenset(("docker.io", "index.docker.io", "registry-1.docker.io"))

ALWAYS_INSECURE = ("::1/128", "127.0.0.0/8")
CERTIFICATES = "/etc/docker/certs.d"


@dataclass(frozen=True)
class Endpoint:
    """``base`` is an address without a path ("https://registry.example:5000"). A mirror is shown no log-in."""

    base: str
    mirror: bool = False

    @property
    def host(self) -> str:
        return self.base.partition("://")[2]


class Registries:
    """The settings for all registries. Raises InvalidParameter for mirrors that are no addresses."""

    def __init__(
        self, insecure: Iterable[str] = (), mirrors: Iterable[str] = (), certificates: str = CERTIFICATES
    ) -> None:
        self._certificates = certificates
        self._without_tls: set[str] = set()
        self.configure(insecure, mirrors)

    def configure(self, insecure: Iterable[str], mirrors: Iterable[str], attempts: int = http.ATTEMPTS) -> None:
        """``attempts`` at what a registry sends of a layer, in a row without any progress."""
        self.mirrors = tuple(_mirror(text) for text in mirrors)
        self.attempts = attempts
        self._networks = [ipaddress.ip_network(text) for text in ALWAYS_INSECURE]
        self._names: set[str] = set()
        for text in insecure:
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                self._names.add(text.removeprefix("http://").removeprefix("https://").rstrip("/").lower())

    @property
    def insecure_networks(self) -> list[str]:
        return [str(network) for network in self._networks]

    @property
    def insecure_names(self) -> list[str]:
        return sorted(self._names)

    def also_insecure(self, domain: str) -> "Registries":
        """The same settings, but for one registry that need not prove who it is."""
        found = copy.copy(self)
        found._names = self._names | {domain.lower()}
        return found

    async def endpoints(self, domain: str, *, mirrors: bool = False) -> list[Endpoint]:
        """The endpoints of a registry, by the name that references have. ``mirrors`` of Docker Hub go first."""
        if domain in _HUB_NAMES:
            return [*(Endpoint(mirror, mirror=True) for mirror in (self.mirrors if mirrors else ())), Endpoint(HUB)]
        secure, plain = Endpoint(f"https://{domain}"), Endpoint(f"http://{domain}")
        if not await self.is_insecure(domain):
            return [secure]
        return [plain, secure] if domain in self._without_tls else [secure, plain]

    def note(self, endpoint: Endpoint) -> None:
        """This one answered: it is the first to be tried from now on."""
        change = self._without_tls.add if endpoint.base.startswith("http://") else self._without_tls.discard
        change(endpoint.host)

    async def is_insecure(self, host: str) -> bool:
        """Whether a host, with its port if it has one, need not prove who it is: by its name, or by its address.

        Raises InvalidParameter for what is no host.
        """
        name = split_address(f"//{host}").hostname or ""
        if host.lower() in self._names or name in self._names:
            return True
        try:
            addresses = [ipaddress.ip_address(name)]
        except ValueError:
            addresses = await _look_up(name)
        return any(address in network for address in addresses for network in self._networks)

    async def tls(self, host: str) -> ssl.SSLContext:
        """The context for ``host`` (with its port): the machine's authorities and those of the host's own folder.

        Raises EngineError for certificates that cannot be read.
        """
        return await asyncio.to_thread(self._load, host, await self.is_insecure(host))

    def _load(self, host: str, insecure: bool) -> ssl.SSLContext:
        context = client_context(verify=not insecure)
        folder = os.path.join(self._certificates, host)
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = sorted(os.listdir(folder))
        for name in names:
            path = os.path.join(folder, name)
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    key = path.removesuffix(".cert") + ".key"
                    if os.path.basename(key) not in names:
                        raise EngineError(f"missing key {os.path.basename(key)} for client certificate {name}")
                    context.load_cert_chain(path, key)
            except (OSError, ssl.SSLError) as error:
                raise EngineError(f"{path}: {error.strerror or error}") from None
        return context


def _mirror(text: str) -> str:
    try:
        parts = split_address(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid mirror: {error.message}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameter(f'invalid mirror: "{text}" is not an address like https://mirror.example')
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise InvalidParameter("invalid mirror: its address must not have a path, a query, a fragment or a user")
    return f"{parts.scheme}://{parts.netloc}"


async def _look_up(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of a name; none when it has none, which is for the connection to say."""
    if not name or name == DEFAULT_DOMAIN:
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
