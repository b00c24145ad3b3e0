"""One repository of a registry: its manifests, blobs and tags, read and written. The distribution protocol, version 2.

What is read is checked against the digest and the size that were asked for, so a registry, a mirror and everything in
between need not be trusted for more than being there.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import msgspec

from wherry.common.errors import InvalidParameter, NotSupported
from wherry.model.image import (
    CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    INDEXES,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    Index,
    Manifest,
    decode,
)
from wherry.registry import errors
from wherry.registry.auth import scope
from wherry.registry.endpoints import Endpoint
from wherry.registry.errors import RegistryError, WrongContent, printable
from wherry.registry.http import join_url, shown_url
from wherry.registry.session import Body, Session, is_passed_over, patiently, pause

# Manifests and indexes as a registry serves them: checked before anything in them is believed.
#
# The bytes are what counts, for their digest is the image's name in the registry; they are kept as they came, with
# every field that is not understood here.

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or an index; what registries themselves take."""
MAX_CONFIG = 8 << 20
"""Bytes of an image's configuration, as for an archive's."""
MAX_LAYERS = 127
"""Docker's own depth of an image."""
MAX_ENTRIES = 4096
"""Of an index."""
MAX_BLOB = 1 << 40
"""Bytes of one layer."""

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
# What the configuration of an image is called; other artifacts have others.
_CONFIGS = frozenset((
    CONFIG, "application/vnd.docker.container.image.v1+json", "application/octet-stream", "text/html", "",
))  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A manifest or an index: its bytes, what they are, and their digest."""

    raw: bytes
    media_type: str
    digest: str

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def index(self) -> Index:
        """Raises InvalidParameter."""
        found = decode(self.raw, Index, self.digest)
        if len(found.manifests) > MAX_ENTRIES:
            raise InvalidParameter(
                f"{self.digest}: an index with {len(found.manifests)} entries (limit: {MAX_ENTRIES})"
            )
        _check(found.manifests, self.digest, MAX_MANIFEST)
        return found

    def manifest(self) -> Manifest:
        """Raises InvalidParameter for what is wrong or too much, NotSupported for what is no image."""
        found = decode(self.raw, Manifest, self.digest)
        if found.config.media_type not in _CONFIGS:
            kind = printable(found.config.media_type)
            raise NotSupported(f"{self.digest}: not an image, but something of the kind {kind}")
        if len(found.layers) > MAX_LAYERS:
            raise InvalidParameter(f"max depth exceeded: {len(found.layers)} layers (limit: {MAX_LAYERS})")
        _check([found.config], self.digest, MAX_CONFIG)
        _check(found.layers, self.digest, MAX_BLOB)
        return found


def parse_document(raw: bytes, media_type: str, expected: str = "") -> Document:
    """A document with this Content-Type. ``expected`` is the digest that was asked for, if it was by one.

    Raises WrongContent for another digest, InvalidParameter for what could be read in two ways (CVE-2021-41190).
    """
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if expected and digest != expected:
        raise WrongContent(f"manifest verification failed for digest {expected}: it came with the digest {digest}")
    members = _members(raw, digest)
    media_type = media_type.partition(";")[0].strip().lower()
    stated = members.get("mediaType")
    if members.get("schemaVersion") == 1 or media_type.startswith(_SCHEMA_1):
        raise NotSupported(
            "Docker Image manifest version 2, schema 1 is not supported any more: "
            "pull the image with an older engine, and push it again"
        )
    known = MANIFESTS | INDEXES
    if media_type not in known:
        media_type = stated if isinstance(stated, str) and stated in known else _guess(members, digest)
    if stated not in (None, "", media_type):
        raise InvalidParameter(f"{digest}: served as {media_type}, but says that it is {printable(str(stated))}")
    wrong = {"config", "layers"} if media_type in INDEXES else {"manifests"}
    if any(members.get(name) is not None for name in wrong | {"fsLayers"}):
        raise InvalidParameter(f"{digest}: a document that is both a manifest and an index")
    return Document(raw, media_type, digest)


def _members(raw: bytes, digest: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise InvalidParameter(f"{digest}: not a manifest: no valid JSON") from None
    if not isinstance(found, dict):
        raise InvalidParameter(f"{digest}: not a manifest: no JSON object")
    return found


def _guess(members: dict[str, Any], digest: str) -> str:
    if "manifests" in members:
        return INDEX
    if "config" in members:
        return MANIFEST
    raise NotSupported(f"{digest}: a document of an unknown kind, not an image")


def _check(descriptors: Sequence[Descriptor], where: str, largest: int) -> None:
    sizes: dict[str, int] = {}
    for descriptor in descriptors:
        if not _DIGEST.fullmatch(descriptor.digest):
            raise InvalidParameter(
                f"{where}: invalid digest {printable(descriptor.digest[:100])!r} (only sha256 is supported)"
            )
        if not 0 <= descriptor.size <= largest:
            raise InvalidParameter(
                f"{where}: {descriptor.digest} has a size of {descriptor.size} bytes (limit: {largest})"
            )
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise InvalidParameter(f"{where}: {descriptor.digest} has two sizes")


_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
_PAGE = 1000  # names or tags in one answer
_PAGES = 100
_LONGEST_LIST = 8 << 20
_BYTES = {"Content-Type": "application/octet-stream"}


class Stream(Protocol):
    """Bytes of which nobody knows how many they will be: ``digest`` and ``size`` are there when they all have come."""

    digest: str
    size: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Repository:
    """``domain`` and ``path`` as a reference has them."""

    def __init__(self, session: Session, domain: str, path: str, *, pushing: bool = False) -> None:
        self._session = session
        self._domain = domain
        self._path = path
        self._scopes = frozenset((scope(path, "pull", "push") if pushing else scope(path, "pull"),))
        self._mirrors = not pushing

    # Reading

    async def manifest(self, tag_or_digest: str) -> Document:
        """Raises RegistryError, WrongContent, and what ``documents.parse`` raises."""
        expected = tag_or_digest if ":" in tag_or_digest else ""

        async def get(endpoint: Endpoint) -> Document:
            body, headers = await self._session.read(
                endpoint,
                "GET",
                self._url(f"manifests/{tag_or_digest}"),
                self._scopes,
                headers={"Accept": _ACCEPT},
                limit=MAX_MANIFEST,
            )
            return parse_document(body, headers.get("Content-Type", ""), expected)

        return await self._session.try_each(self._domain, get, mirrors=self._mirrors)

    async def document(self, descriptor: Descriptor) -> bytes:
        """A small blob as a whole, such as a configuration."""
        data = bytearray()
        async for chunk in self.blob(descriptor):
            data += chunk
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != descriptor.digest:
            raise WrongContent(f"image config verification failed for digest {descriptor.digest}: it is {found}")
        return bytes(data)

    async def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        """The bytes of a blob, exactly as many as it is to have; what is cut off is gone on with where it was.

        Their digest is for the reader to check. Raises RegistryError, and WrongContent for too many or too few bytes.
        """
        endpoints = await self._session.endpoints(self._domain, mirrors=self._mirrors)
        offset = failures = 0
        while True:
            begun = offset
            try:
                async for data in self._read_from(endpoints[0], descriptor, offset):
                    offset += len(data)
                    yield data
            except WrongContent:
                raise
            except RegistryError as error:
                if offset == descriptor.size:
                    break  # only the end of the answer was cut off
                if len(endpoints) > 1 and is_passed_over(endpoints[0], error):
                    endpoints = endpoints[1:]
                    continue
                failures = 1 if offset > begun else failures + 1
                await pause(error, failures, was_there=True, attempts=self._session.registries.attempts)
            else:
                break
        if offset < descriptor.size:
            raise WrongContent(f"{descriptor.digest} is {offset} bytes long, expected {descriptor.size}")

    async def _read_from(self, endpoint: Endpoint, descriptor: Descriptor, offset: int) -> AsyncIterator[bytes]:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        path = self._url(f"blobs/{descriptor.digest}")
        async with self._session.request(endpoint, "GET", path, self._scopes, headers=headers) as response:
            skipped = offset
            if response.status == 206:
                start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
                if start != str(offset):
                    raise WrongContent(
                        f"{descriptor.digest}: asked for the bytes from {offset}, got those from {start}"
                    )
                skipped = 0
            length = response.content_length
            if length is not None and length + offset - skipped != descriptor.size:
                total = length + offset - skipped
                raise WrongContent(f"{descriptor.digest} is {total} bytes long, expected {descriptor.size}")
            left = descriptor.size - offset
            async for data in response.content.iter_any():
                if skipped:  # a registry without ranges begins anew
                    data, skipped = data[skipped:], max(0, skipped - len(data))
                left -= len(data)
                if left < 0:
                    raise WrongContent(f"{descriptor.digest} is longer than {descriptor.size} bytes")
                if data:
                    yield data

    async def tags(self) -> list[str]:
        """All of them, in the registry's order."""
        return await self._session.try_each(self._domain, self._list_tags, mirrors=self._mirrors)

    async def _list_tags(self, endpoint: Endpoint) -> list[str]:
        found = await list_pages(self._session, endpoint, self._url("tags/list"), "tags", self._scopes)
        return list(dict.fromkeys(found))

    # Writing

    async def has_blob(self, digest: str) -> bool:
        async def head(endpoint: Endpoint) -> bool:
            try:
                await self._session.read(endpoint, "HEAD", self._url(f"blobs/{digest}"), self._scopes)
            except RegistryError as error:
                if error.answered == 404:
                    return False
                raise
            return True

        return await self._session.try_each(self._domain, head)

    async def mount(self, digest: str, source: str) -> bool:
        """Takes a blob over from another repository of the same registry; False when that cannot be."""
        scopes = self._scopes | {scope(source, "pull")}
        query = urlencode({"mount": digest, "from": source})

        async def post(endpoint: Endpoint) -> bool:
            url = self._url(f"blobs/uploads/?{query}")
            try:
                async with self._session.request(endpoint, "POST", url, scopes, length=0) as response:
                    if response.status == 201:
                        return True
                    started = response.headers.get("Location", "")
            except RegistryError as error:
                if error.answered in (400, 401, 403, 404, 405):
                    return False
                raise
            await self._cancel(endpoint, url, started)
            return False

        return await self._session.try_each(self._domain, post)

    async def upload(self, descriptor: Descriptor, body: Body) -> None:
        """Sends a blob. One that breaks off is sent anew. Raises RegistryError."""

        async def send(endpoint: Endpoint) -> None:
            await patiently(lambda: self._upload_once(endpoint, descriptor, body))

        await self._session.try_each(self._domain, send)

    async def _upload_once(self, endpoint: Endpoint, descriptor: Descriptor, body: Body) -> None:
        await self._end_upload(endpoint, await self._begin_upload(endpoint), descriptor.digest, body, descriptor.size)

    async def upload_stream(self, begin: Callable[[], Stream]) -> Stream:
        """Sends a blob while it is being made; the stream that was sent. One that breaks off is begun and sent anew.

        Raises RegistryError.
        """

        async def send(endpoint: Endpoint) -> Stream:
            return await patiently(lambda: self._upload_stream_once(endpoint, begin))

        return await self._session.try_each(self._domain, send)

    async def _upload_stream_once(self, endpoint: Endpoint, begin: Callable[[], Stream]) -> Stream:
        target = await self._begin_upload(endpoint)
        streams: list[Stream] = []

        def body() -> Stream:  # once more for a registry that has asked for a log-in, or has redirected
            streams.append(begin())
            return streams[-1]

        async with self._session.request(
            endpoint, "PATCH", target, self._scopes, headers=_BYTES, body=body
        ) as response:
            target = _upload_address(target, response.headers.get("Location", ""))
        await self._end_upload(endpoint, target, streams[-1].digest)
        return streams[-1]

    async def _begin_upload(self, endpoint: Endpoint) -> str:
        """The address to send to."""
        path = self._url("blobs/uploads/")
        async with self._session.request(endpoint, "POST", path, self._scopes, length=0) as response:
            return _upload_address(f"{endpoint.base}{path}", response.headers.get("Location", ""))

    async def _end_upload(
        self, endpoint: Endpoint, target: str, digest: str, body: Body | None = None, length: int = 0
    ) -> None:
        """Says what was sent, with all of it if nothing was before."""
        separator = "&" if "?" in target else "?"
        async with self._session.request(
            endpoint,
            "PUT",
            f"{target}{separator}{urlencode({'digest': digest})}",
            self._scopes,
            headers=_BYTES,
            body=body,
            length=length,
        ) as response:
            found = response.headers.get("Docker-Content-Digest", digest)
        if found != digest:
            raise WrongContent(f"the registry took {digest} for {errors.printable(found)}")

    async def _cancel(self, endpoint: Endpoint, begun: str, location: str) -> None:
        if location:
            try:
                async with self._session.request(
                    endpoint, "DELETE", _upload_address(f"{endpoint.base}{begun}", location), self._scopes
                ):
                    return
            except RegistryError:
                return  # many cannot cancel: it goes by itself

    async def put_manifest(self, tag_or_digest: str, raw: bytes, media_type: str) -> str:
        """Writes a manifest, whose blobs must be there; its digest."""
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"

        async def put(endpoint: Endpoint) -> str:
            async with self._session.request(
                endpoint,
                "PUT",
                self._url(f"manifests/{tag_or_digest}"),
                self._scopes,
                headers={"Content-Type": media_type},
                body=lambda: _once(raw),
                length=len(raw),
            ) as response:
                return response.headers.get("Docker-Content-Digest", digest)

        found = await self._session.try_each(self._domain, lambda endpoint: patiently(lambda: put(endpoint)))
        if found != digest:
            raise WrongContent(f"the registry took the manifest {digest} for {errors.printable(found)}")
        return digest

    def _url(self, rest: str) -> str:
        return f"/v2/{quote(self._path)}/{rest}"


async def list_pages(session: Session, endpoint: Endpoint, path: str, member: str, scopes: frozenset[str]) -> list[str]:
    """A list of names that may come in pages: tags, or a registry's catalogue."""
    found: list[str] = []
    url = f"{path}?n={_PAGE}"
    for _ in range(_PAGES):
        body, headers = await session.read(endpoint, "GET", url, scopes, limit=_LONGEST_LIST)
        found += _names(body, member)
        following = _next_page(headers.get("Link", ""))
        if not following:
            break
        url = join_url(f"{endpoint.base}{path}", following)
        if not url.startswith(f"{endpoint.base}/"):
            break
    return found


def _names(body: bytes, member: str) -> list[str]:
    try:
        document: Any = msgspec.json.decode(body)
    except errors.NOT_JSON:
        raise RegistryError("the registry's list is no valid JSON") from None
    names = document.get(member) if isinstance(document, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _next_page(link: str) -> str:
    """Reads a Link header: '</v2/_catalog?last=x&n=100>; rel="next"'."""
    address, _, relation = link.partition(">")
    return address.removeprefix("<") if "next" in relation else ""


def _upload_address(asked: str, location: str) -> str:
    if not location:
        raise RegistryError(f"{shown_url(asked)}: does not say where to upload to")
    return join_url(asked, location)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
