"""What users ask of registries besides images: log-ins, searches, and what a name leads to there."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.common import reference
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.common.reference import DEFAULT_DOMAIN
from wherry.common.values import parse_int
from wherry.engine.context import Context
from wherry.engine.events import boolean, check_known
from wherry.engine.image.pull import translated
from wherry.model.image import Platform
from wherry.registry import search
from wherry.registry.auth import NOBODY, Credentials, complete
from wherry.registry.errors import NOT_JSON, LogInRefused, RegistryError, Unauthorized
from wherry.registry.repository import Document, Repository
from wherry.registry.search import Hit
from wherry.registry.session import Session

_SEARCH_FILTERS = {"is-automated", "is-official", "stars"}
_SEARCH_LIMIT = 25
_SEARCH_MOST = 100


class Registry:
    def __init__(self, context: Context) -> None:
        self._registries = context.registries

    async def log_in(self, credentials: Credentials) -> dict[str, str]:
        """The API's AuthResponse. Raises LogInRefused."""
        async with Session(self._registries, complete(credentials)) as session:
            try:
                token = await search.log_in(session, search.domain_of(credentials.serveraddress))
            except Unauthorized as error:
                raise LogInRefused(error.message) from None
        return {"Status": "Login Succeeded", "IdentityToken": token}

    async def search(
        self, term: str, limit: int | None, filters: Mapping[str, list[str]], credentials: Credentials = NOBODY
    ) -> list[dict[str, Any]]:
        """The API's search results, in the registry's order. Raises InvalidParameter, RegistryError."""
        if not term:
            raise InvalidParameter("search term is required")
        limit = limit or _SEARCH_LIMIT
        if not 1 <= limit <= _SEARCH_MOST:
            raise InvalidParameter(f"limit {limit} is outside the range of [1, {_SEARCH_MOST}]")
        _check_filters(filters)
        domain, wanted = _split_term(term)
        async with Session(self._registries, credentials) as session:
            found = await search.search(session, domain, wanted, limit)
        return [_result(hit) for hit in found if _passes(hit, filters)]

    async def distribution(self, name: str, credentials: Credentials = NOBODY) -> dict[str, Any]:
        """The API's DistributionInspect: what a name leads to in its registry, and for which platforms."""
        document, repository_platforms = await self._look(name, credentials)
        return {
            "Descriptor": {
                "mediaType": document.media_type,
                "digest": document.digest,
                "size": len(document.raw),
            },
            "Platforms": [_platform(each) for each in repository_platforms],
        }

    async def manifest(self, name: str, credentials: Credentials = NOBODY, *, insecure: bool = False) -> dict[str, Any]:
        """The document that a name leads to, and those that it names in turn: {"Ref", "Descriptor", "Raw"} of each,
        the raw bytes in base64.

        An extension of Docker's API, whose own command line asks the registry itself. ``insecure`` asks it even if it
        cannot prove who it is.
        """
        wanted = reference.parse(name).with_default_tag()
        registries = self._registries.also_insecure(wanted.domain) if insecure else self._registries
        async with Session(registries, credentials) as session:
            repository = Repository(session, wanted.domain, wanted.path)
            with translated(wanted):
                named = await repository.manifest(wanted.digest or wanted.tag)
            if named.is_index:
                entries = named.index().manifests
                inner = [(await repository.manifest(entry.digest), entry.platform) for entry in entries]
                platform = None
            else:
                inner = []
                platform = next(iter(await self._of_config(repository, named)), None)
        return _described(str(wanted), named, platform) | {
            "Manifests": [_described(f"{wanted}@{document.digest}", document, of) for document, of in inner]
        }

    async def _look(self, name: str, credentials: Credentials) -> tuple[Document, list[Platform]]:
        wanted = reference.parse(name).with_default_tag()
        async with Session(self._registries, credentials) as session:
            repository = Repository(session, wanted.domain, wanted.path)
            with translated(wanted):
                document = await repository.manifest(wanted.digest or wanted.tag)
            if document.is_index:
                return document, [entry.platform for entry in document.index().manifests if entry.platform is not None]
            return document, await self._of_config(repository, document)

    async def _of_config(self, repository: Repository, document: Document) -> list[Platform]:
        try:
            config = await repository.document(document.manifest().config)
            return [msgspec.json.decode(config, type=Platform)]
        except (NotSupported, RegistryError, *NOT_JSON):
            return []  # it is no image's, and says nothing


def _described(name: str, document: Document, platform: Platform | None) -> dict[str, Any]:
    descriptor = msgspec.structs.replace(document.descriptor, platform=platform)
    return {"Ref": name, "Descriptor": msgspec.to_builtins(descriptor), "Raw": b64encode(document.raw).decode()}


def _platform(found: Platform) -> dict[str, str]:
    shown = {"architecture": found.architecture, "os": found.os}
    return shown | ({"variant": found.variant} if found.variant else {})


def _split_term(term: str) -> tuple[str, str]:
    """(registry, what to look for there): "localhost:5000/debian" names one, as the name of an image would."""
    first, slash, rest = term.partition("/")
    if slash and (set(".:") & set(first) or first == "localhost"):
        return search.domain_of(first), rest.removeprefix("library/") if first == DEFAULT_DOMAIN else rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


def _check_filters(filters: Mapping[str, list[str]]) -> None:
    check_known(filters, _SEARCH_FILTERS)
    for text in filters.get("stars", ()):
        try:
            parse_int(text, function="Atoi")
        except ValueError as error:
            raise InvalidParameter(f"invalid filter 'stars={text}': {error}") from None


def _passes(hit: Hit, filters: Mapping[str, list[str]]) -> bool:
    if filters.get("is-automated") and boolean("is-automated", filters["is-automated"]) != hit.automated:
        return False
    if filters.get("is-official") and boolean("is-official", filters["is-official"]) != hit.official:
        return False
    return all(hit.stars >= int(text) for text in filters.get("stars", ()))


def _result(hit: Hit) -> dict[str, Any]:
    return {
        "star_count": hit.stars,
        "is_official": hit.official,
        "name": hit.name,
        "is_automated": hit.automated,
        "description": hit.description,
    }
