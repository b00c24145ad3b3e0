"""What is asked of a registry as a whole: whether a log-in is good, and what it has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from wherry.common.errors import InvalidParameter
from wherry.common.ports import split_address
from wherry.common.reference import DEFAULT_DOMAIN, is_domain
from wherry.common.values import quoted
from wherry.registry.endpoints import HUB_ACCOUNT, HUB_SEARCH, Endpoint
from wherry.registry.errors import NOT_JSON, RegistryError, printable
from wherry.registry.repository import list_pages
from wherry.registry.session import Session

_LONGEST_RESULT = 8 << 20
_CATALOGUE = frozenset(("registry:catalog:*",))


@dataclass(frozen=True)
class Hit:
    """One repository that a search found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


def domain_of(address: str) -> str:
    """The registry's name in what a user logs in to: "https://host:5000/v1/" is "host:5000", nothing is Docker Hub."""
    if not address or address == HUB_ACCOUNT:
        return DEFAULT_DOMAIN
    try:
        host = split_address(address if "://" in address else f"//{address}").netloc
    except InvalidParameter as error:
        raise InvalidParameter(f"unable to parse server address: {error.message}") from None
    if not is_domain(host):
        raise InvalidParameter(f"unable to parse server address: parse {quoted(address)}: invalid host")
    return DEFAULT_DOMAIN if host in ("index.docker.io", "registry-1.docker.io") else host


async def log_in(session: Session, domain: str) -> str:
    """Shows the session's log-in; the identity token that the registry gave for it, or "". Raises Unauthorized."""

    async def ping(endpoint: Endpoint) -> str:
        async with session.request(endpoint, "GET", "/v2/", frozenset(), offline=True):
            return session.authorizer(endpoint).identity_token

    return await session.try_each(domain, ping)


async def search(session: Session, domain: str, term: str, limit: int) -> list[Hit]:
    """Repositories with ``term`` in their names: by the search API, or else by the registry's catalogue."""
    if domain == DEFAULT_DOMAIN:
        return await _search(session, Endpoint(HUB_SEARCH), term, limit)

    async def look(endpoint: Endpoint) -> list[Hit]:
        try:
            return await _search(session, endpoint, term, limit)
        except RegistryError as error:
            if error.answered not in (400, 404, 405, 501):
                raise
        names = await list_pages(session, endpoint, "/v2/_catalog", "repositories", _CATALOGUE)
        return [Hit(f"{domain}/{printable(name)}") for name in names if term.lower() in name.lower()][:limit]

    return await session.try_each(domain, look)


async def _search(session: Session, endpoint: Endpoint, term: str, limit: int) -> list[Hit]:
    path = "/v1/search?" + urlencode({"q": term, "n": limit})
    body, _ = await session.read(endpoint, "GET", path, frozenset(), limit=_LONGEST_RESULT)
    try:
        document: Any = msgspec.json.decode(body)
    except NOT_JSON:
        raise RegistryError(f"{endpoint.base}: the answer to the search is no valid JSON", answered=404) from None
    results = document.get("results") if isinstance(document, dict) else None
    return list(_hits(results if isinstance(results, list) else []))[:limit]


def _hits(results: list[Any]) -> Iterator[Hit]:
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("name"), str):
            stars = result.get("star_count")
            yield Hit(
                printable(result["name"]),
                printable(str(result.get("description") or "")),
                stars if isinstance(stars, int) else 0,
                bool(result.get("is_official")),
                bool(result.get("is_automated")),
            )
