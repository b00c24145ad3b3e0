"""The build cache in a registry or in a client's directory: which step led to which layers, and these.

It has the form of BuildKit's (``application/vnd.buildkit.cacheconfig.v0``), so that registries and what cleans them up
know it for what it is. The keys in it are this engine's own.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from wherry.common import times
from wherry.common.errors import InvalidParameter, NotFound
from wherry.common.reference import Reference
from wherry.engine.context import Context, Service
from wherry.engine.image.bundle import Bundle, Format, Packed, add_document, pack_layers
from wherry.engine.image.transfers import Transfers
from wherry.model.image import INDEX, INDEXES, MANIFEST, MANIFESTS, Descriptor, Index, Manifest, decode
from wherry.registry.auth import Credentials
from wherry.registry.endpoints import Registries
from wherry.registry.repository import Repository
from wherry.registry.session import Session
from wherry.storage.build_cache import Record
from wherry.storage.content import chain_id_of, check_digest
from wherry.storage.layers import Layer
from wherry.storage.store import Store

CONFIG = "application/vnd.buildkit.cacheconfig.v0"
_NO_PARENT = -1


class _Layer(msgspec.Struct, omit_defaults=True):
    blob: str
    parent: int = _NO_PARENT
    annotations: dict[str, Any] = {}


class _Result(msgspec.Struct, rename={"created": "createdAt"}):
    layer: int
    created: str = ""


class _Record(msgspec.Struct, omit_defaults=True):
    """``before`` is the chain id that the step began with, which BuildKit's records say in another way."""

    digest: str
    layers: list[_Result] = []
    before: str = ""
    description: str = ""


class _Config(msgspec.Struct):
    layers: list[_Layer] = []
    records: list[_Record] = []


# --- out


async def bundle(store: Store, area: str, records: Iterable[Record], form: Format, *, image_manifest: bool) -> Bundle:
    """The records with all layers that they lead to, packed in ``area``. ``image_manifest``: for registries that take
    no index of layers."""
    layers: dict[str, Layer] = {}
    kept = []
    for record in records:
        with contextlib.suppress(NotFound):  # it has been collected meanwhile
            layers |= {layer.chain_id: layer for layer in store.layers.chain(record.chain_id)}
            kept.append(record)
    packed = await pack_layers(store, area, list(layers.values()), form)
    numbers = {chain_id: number for number, chain_id in enumerate(layers)}
    config = _Config(
        [_described(each, numbers) for each in packed],
        [_record(each, numbers) for each in sorted(kept, key=lambda each: each.key)],
    )
    made = Bundle()
    described = add_document(made, msgspec.json.encode(config), CONFIG)
    made.layers = {each.descriptor.digest: each for each in packed}
    descriptors = [each.descriptor for each in made.layers.values()]
    if image_manifest:
        document, kind = msgspec.json.encode(Manifest(config=described, layers=descriptors)), MANIFEST
    else:
        document, kind = msgspec.json.encode(Index(manifests=[*descriptors, described])), INDEX
    made.root = add_document(made, document, kind)
    return made


def _described(packed: Packed, numbers: Mapping[str, int]) -> _Layer:
    layer, descriptor = packed.layer, packed.descriptor
    facts = {"mediaType": descriptor.media_type, "diffID": layer.diff_id, "size": descriptor.size}
    return _Layer(descriptor.digest, numbers.get(layer.parent, _NO_PARENT), facts)


def _record(record: Record, numbers: Mapping[str, int]) -> _Record:
    made = times.rfc3339(record.created)
    layers = [_Result(numbers[record.chain_id], made)] if record.chain_id else [_Result(_NO_PARENT, made)]
    return _Record(f"sha256:{record.key}", layers, record.parent, record.description)


# --- in


class Blobs(Protocol):
    """Where a cache lies."""

    async def root(self) -> tuple[bytes, str]:
        """The document that leads to all, and its media type. Raises EngineError."""

    async def document(self, descriptor: Descriptor) -> bytes: ...

    def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]: ...


class InRegistry:
    """A cache under a name; opened and left as a context."""

    def __init__(self, registries: Registries, name: Reference, credentials: Credentials) -> None:
        self._session = Session(registries, credentials)
        self._name = name
        self._repository = Repository(self._session, name.domain, name.path)

    async def __aenter__(self) -> "InRegistry":
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._session.__aexit__(None, None, None)

    async def root(self) -> tuple[bytes, str]:
        found = await self._repository.manifest(self._name.digest or self._name.tag)
        return found.raw, found.media_type

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._repository.document(descriptor)

    def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        return self._repository.blob(descriptor)


class RemoteCache:
    """Made by ``open``. Layers are only fetched when a step is found that made them."""

    def __init__(self, store: Store, transfers: Transfers, blobs: Blobs, config: _Config, chains: list[str]) -> None:
        self._store = store
        self._transfers = transfers
        self._blobs = blobs
        self._config = config
        self._chains = chains
        self._numbers = {chain_id: number for number, chain_id in enumerate(chains)}
        self._records = {each.digest.removeprefix("sha256:"): each for each in config.records}

    @classmethod
    async def open(cls, store: Store, transfers: Transfers, blobs: Blobs) -> "RemoteCache | None":
        """None where there is something else, such as an image. Raises EngineError."""
        raw, media_type = await blobs.root()
        found = _find_config(raw, media_type)
        if found is None:
            return None
        config = decode(await blobs.document(found), _Config, "the cache's configuration")
        chains: list[str] = []
        for number, layer in enumerate(config.layers):
            if not _NO_PARENT <= layer.parent < number:
                raise InvalidParameter(f"the cache's configuration: layer {number} stands upon layer {layer.parent}")
            parent = chains[layer.parent] if layer.parent >= 0 else ""
            chains.append(chain_id_of(parent, check_digest(str(layer.annotations.get("diffID", "")))))
        return cls(store, transfers, blobs, config, chains)

    async def find(self, key: str) -> Record | None:
        """What the step with this key made elsewhere, with its layers here. Raises EngineError."""
        record = self._records.get(key)
        if record is None or not record.layers:
            return None
        number = record.layers[0].layer
        if number >= len(self._chains):
            raise InvalidParameter(f"the cache's configuration: there is no layer {number}")
        chain_id = self._chains[number] if number >= 0 else ""
        await self._bring(number)
        created = times.parse_rfc3339(record.layers[0].created or times.NEVER)
        self._store.build_cache.add(
            key, chain_id=chain_id, parent=record.before, description=record.description, created=created
        )
        self._store.layers.release(self._chains)
        return self._store.build_cache.find(key)

    async def _bring(self, number: int) -> None:
        """Brings a layer with all below it that are not here."""
        wanted: list[int] = []
        while number >= 0 and not self._store.layers.hold(self._chains[number]):
            wanted.append(number)
            number = self._config.layers[number].parent
        for each in reversed(wanted):
            layer = self._config.layers[each]
            facts = layer.annotations
            descriptor = Descriptor(
                str(facts.get("mediaType", "")), check_digest(layer.blob), int(facts.get("size", 0))
            )
            parent = self._chains[layer.parent] if layer.parent >= 0 else ""
            async with self._transfers.join(descriptor, self._blobs.blob, lambda message: None) as transfer:
                await self._transfers.take(transfer, parent, str(facts["diffID"]))


def _find_config(raw: bytes, media_type: str) -> Descriptor | None:
    if media_type in INDEXES:
        entries: Sequence[Descriptor] = decode(raw, Index, "the cache's index").manifests
    elif media_type in MANIFESTS:
        entries = [decode(raw, Manifest, "the cache's manifest").config]
    else:
        return None
    return next((each for each in entries if each.media_type == CONFIG), None)


class Caches(Service):
    """Opens caches in registries, and makes new ones."""

    def __init__(self, context: Context, transfers: Transfers) -> None:
        super().__init__(context)
        self._registries = context.registries
        self._transfers = transfers

    def in_registry(self, name: Reference, credentials: Credentials) -> InRegistry:
        return InRegistry(self._registries, name, credentials)

    async def open(self, blobs: Blobs) -> RemoteCache | None:
        """None where there is something else, such as an image. Raises EngineError."""
        return await RemoteCache.open(self._store, self._transfers, blobs)

    @contextlib.asynccontextmanager
    async def bundle(self, records: Iterable[Record], form: Format, *, image_manifest: bool) -> AsyncIterator[Bundle]:
        """A cache that is ready to leave, whose packed layers are there inside the block. Raises EngineError."""
        async with self._store.staging.area() as area:
            yield await bundle(self._store, area, records, form, image_manifest=image_manifest)
