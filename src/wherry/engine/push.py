"""Push: images by their names into a registry.

Layers go side by side. One that the registry has is not sent; one that it has in another repository, which an image
here has the name of, is mounted from there. What was pulled goes back as it came, under the same digest; for an image
made here a manifest is written, and kept, so that the next push has the same.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wherry.engine import platforms, progress
from wherry.engine.events import Events
from wherry.engine.progress import Message, Meter, Tell, status, step
from wherry.engine.transfers import short
from wherry.model import manifests, reference
from wherry.model.errors import InvalidParameter, NotFound
from wherry.model.manifests import Descriptor, Manifest
from wherry.model.reference import Reference
from wherry.registry.credentials import NOBODY, Credentials
from wherry.registry.endpoints import Registries
from wherry.registry.repository import Repository
from wherry.registry.session import Session
from wherry.storage import digests
from wherry.storage.images import Image
from wherry.storage.store import Store

_AT_ONCE = 5  # layers that are sent side by side; Docker's figure
_PIECE = 1 << 20
_SOURCES = 4  # repositories that a layer is tried to be mounted from


@dataclass(frozen=True)
class _Job:
    """One name that is pushed, with all that goes up for it."""

    name: Reference
    image: Image
    layers: list[tuple[Descriptor, str]]  # with the names that progress has for them; the top first, as in Docker
    config: Descriptor
    manifest: bytes
    media_type: str


class Pushes:
    def __init__(self, store: Store, events: Events, registries: Registries) -> None:
        self._store = store
        self._events = events
        self._registries = registries

    def push(
        self, name: str, tag: str = "", platform: str = "", credentials: Credentials = NOBODY
    ) -> AsyncIterator[Message]:
        """The progress of a push. Without a tag, all tags that the repository has here are pushed.

        Raises InvalidReference at once; NotFound for an image that is not here, or is for another ``platform``, and
        other EngineErrors as it goes, since that is where clients expect them.
        """
        wanted = reference.parse(name)
        if wanted.digest:
            raise InvalidParameter("cannot push a digest reference")
        if tag:
            wanted = reference.tagged(wanted.name, tag)
        return progress.stream(lambda tell: self._push(wanted, platform, credentials, tell))

    def _meant(self, wanted: Reference) -> list[tuple[Reference, str]]:
        tags = self._store.images.tags(wanted.name)
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}")
        found = [each for each in tags if wanted.tag in ("", each[0].tag)]
        if not found:
            raise NotFound(f"tag does not exist: {wanted.familiar}")
        return found

    async def _job(self, repository: Repository, name: Reference, image: Image) -> _Job:
        known = await self._as_pulled(repository, name, image) or self._store.images.manifest(image.id)
        if known is None:
            known = self._write_manifest(image)
        raw = self._store.blobs.read(known[0])
        manifest = manifests.decode(raw, Manifest, known[0])
        names = [layer.diff_id for layer in self._store.images.layers(image)]
        layers = {layer.digest: (layer, short(name)) for layer, name in zip(manifest.layers, names, strict=True)}
        return _Job(name, image, list(layers.values())[::-1], manifest.config, raw, known[1])

    async def _as_pulled(self, repository: Repository, name: Reference, image: Image) -> tuple[str, str] | None:
        """(digest, media type) of a manifest that the image came with, some of whose blobs were not fetched, since the
        layers were here from elsewhere, compressed in another way: where the registry has these blobs itself."""
        images = self._store.images
        sources = [other.path for other in images.names(image.id) if other.domain == name.domain]
        for digest, media_type in images.partial_manifests(image.id):
            for blob in images.missing_blobs(digest):
                if not await repository.has_blob(blob) and not await _mount(repository, blob, sources):
                    break
            else:
                return digest, media_type
        return None

    def _write_manifest(self, image: Image) -> tuple[str, str]:
        """(digest, media type) of a manifest for an image that was made here."""
        images = self._store.images
        config = Descriptor(manifests.CONFIG, image.id, len(images.raw(image.id)))
        layers = [Descriptor(layer.media_type, layer.blob, layer.blob_size) for layer in images.layers(image)]
        written = msgspec.json.encode(Manifest(config=config, layers=layers))
        return images.keep_document(image.id, written, manifests.MANIFEST), manifests.MANIFEST

    async def _push(self, wanted: Reference, platform: str, credentials: Credentials, tell: Tell) -> None:
        tell(status(f"The push refers to repository [{wanted.name}]"))
        meant = [(name, self._store.images.get(image_id)) for name, image_id in self._meant(wanted)]
        for name, image in meant:
            platforms.check(image, name.familiar, platform)
        async with Session(self._registries, credentials) as session:
            repository = Repository(session, wanted.domain, wanted.path, pushing=True)
            sent: set[str] = set()
            for name, image in meant:
                await self._push_one(repository, await self._job(repository, name, image), sent, tell)

    async def _push_one(self, repository: Repository, job: _Job, sent: set[str], tell: Tell) -> None:
        digest = digests.of(job.manifest)
        for _, shown in job.layers:
            tell(step("Preparing", shown))
        slots = asyncio.Semaphore(_AT_ONCE)
        await _all([self._send(repository, job.name, layer, shown, sent, slots, tell) for layer, shown in job.layers])
        if not await repository.has_blob(job.config.digest):
            config = self._store.images.raw(job.image.id)
            await repository.upload(job.config, lambda: _pieces(config))
        await repository.put_manifest(job.name.tag, job.manifest, job.media_type)
        self._store.images.tag(job.image.id, Reference(job.name.domain, job.name.path, digest=digest))
        tell(status(f"{job.name.tag}: digest: {digest} size: {len(job.manifest)}"))
        tell({"progressDetail": {}, "aux": {"Tag": job.name.tag, "Digest": digest, "Size": len(job.manifest)}})
        config_of = job.image.config.config
        labels = config_of.labels if config_of else {}
        self._events.publish("image", "push", job.name.familiar, labels | {"name": job.name.familiar_name})

    async def _send(
        self,
        repository: Repository,
        name: Reference,
        layer: Descriptor,
        shown: str,
        sent: set[str],
        slots: asyncio.Semaphore,
        tell: Tell,
    ) -> None:
        if slots.locked():
            tell(step("Waiting", shown))
        async with slots:
            if layer.digest in sent or await repository.has_blob(layer.digest):
                tell(step("Layer already exists", shown))
                return
            if source := await _mount(repository, layer.digest, self._elsewhere(name, layer.digest)):
                tell(step(f"Mounted from {source}", shown))
                sent.add(layer.digest)
                return
            meter = Meter(tell, "Pushing", shown, layer.size)
            await repository.upload(layer, lambda: self._read(layer.digest, meter))
            sent.add(layer.digest)
            tell(step("Pushed", shown))

    def _elsewhere(self, name: Reference, digest: str) -> list[str]:
        """Paths of other repositories of the same registry that ought to have a blob."""
        return [
            other.path
            for other in self._store.images.names_with_blob(digest)
            if other.domain == name.domain and other.path != name.path
        ]

    async def _read(self, digest: str, meter: Meter) -> AsyncIterator[bytes]:
        with self._store.blobs.open(digest) as file:
            sent = 0
            while chunk := await asyncio.to_thread(file.read, _PIECE):
                yield chunk
                sent += len(chunk)
                meter.at(sent)


async def _mount(repository: Repository, digest: str, sources: Sequence[str]) -> str:
    """The path of the repository from which the registry has mounted a blob; "" when it has from none."""
    for source in list(dict.fromkeys(sources))[:_SOURCES]:
        if await repository.mount(digest, source):
            return source
    return ""


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Does it side by side. Raises the first error, and ends the rest."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
