"""Push: images by their names into a registry.

Layers go side by side. One that the registry has is not sent; one that it has in another repository, which an image
here has the name of, is mounted from there. What was pulled goes back as it came, under the same digest; for an image
made here a manifest is written.

Layers that were made here are plain tars, and are packed with gzip while they are sent. The first time, nobody knows
what will come of it; from then on its digest is remembered, and the registry is asked before anything is packed.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from wherry.common import reference
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.common.reference import Reference
from wherry.engine import platforms
from wherry.engine.context import Context, Service
from wherry.engine.image import bundle
from wherry.engine.image.bundle import Bundle
from wherry.engine.image.transfers import Message, Meter, Tell, message_stream, short, status, step
from wherry.model.image import CONFIG, MANIFEST, Descriptor, Manifest, decode
from wherry.registry.auth import NOBODY, Credentials
from wherry.registry.repository import Repository
from wherry.registry.session import Session
from wherry.storage.images import Image
from wherry.storage.layers import Layer
from wherry.storage.tar.compression import MEDIA_TYPES, Compressor

Answer = TypeVar("Answer")

_PIECE = 1 << 20
_SOURCES = 4  # repositories that a layer is tried to be mounted from


@dataclass(frozen=True)
class _Part:
    """A layer, and what the registry is to get for it; None for what has to be packed to know. ``path`` is where that
    lies, if it is no blob of the store's."""

    layer: Layer
    known: Descriptor | None
    path: str = ""
    named: bool = False  # by a manifest that is not to be rewritten

    @property
    def key(self) -> str:
        return self.known.digest if self.known else self.layer.diff_id


@dataclass(frozen=True)
class _Kept:
    """A manifest that the image came with, or was pushed with before."""

    raw: bytes
    media_type: str
    layers: list[Descriptor]


class Pushes(Service):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._registries = context.registries
        self.limit(context.config.max_concurrent_uploads)

    def limit(self, at_once: int) -> None:
        """So many layers are sent side by side, of all pushes."""
        self._slots = asyncio.Semaphore(at_once)

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
            wanted = reference.parse_to_tag(wanted.name, tag)
        return message_stream(lambda tell: self._push(wanted, platform, credentials, tell))

    def push_bundle(
        self, made: Bundle, name: Reference, credentials: Credentials, *, by_digest: bool, insecure: bool
    ) -> AsyncIterator[Message]:
        """The same of a bundle that was made to leave, of which nothing is rewritten."""
        registries = self._registries.also_insecure(name.domain) if insecure else self._registries

        async def work(tell: Tell) -> None:
            async with Session(registries, credentials) as session:
                repository = Repository(session, name.domain, name.path, pushing=True)
                await self._push_bundle(repository, name, made, set(), tell, by_digest=by_digest)

        return message_stream(work)

    async def _push_bundle(
        self,
        repository: Repository,
        name: Reference,
        made: Bundle,
        sent: set[str],
        tell: Tell,
        *,
        by_digest: bool = False,
    ) -> None:
        parts = [_Part(each.layer, each.descriptor, each.path, named=True) for each in made.layers.values()]
        await self._send_all(repository, name, parts, sent, tell)
        for digest, raw in sorted(made.documents.items(), key=lambda each: each[0] in made.manifests):  # blobs first
            media_type = made.manifests.get(digest, "")
            if not media_type and not await repository.has_blob(digest):
                await repository.upload(Descriptor("", digest, len(raw)), functools.partial(_pieces, raw))
            elif media_type and digest != made.root.digest:
                await repository.put_manifest(digest, raw, media_type)
        raw = made.documents[made.root.digest]
        target = made.root.digest if by_digest else name.tag
        digest = await repository.put_manifest(target, raw, made.root.media_type)
        tell(status(f"{name.tag}: digest: {digest} size: {len(raw)}"))
        tell({"progressDetail": {}, "aux": {"Tag": name.tag, "Digest": digest, "Size": len(raw)}})
        self._events.publish("image", "push", name.familiar, {"name": name.familiar_name})

    def _meant(self, wanted: Reference) -> list[tuple[Reference, str]]:
        tags = self._store.images.tags(wanted.name)
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}")
        found = [each for each in tags if wanted.tag in ("", each[0].tag)]
        if not found:
            raise NotFound(f"tag does not exist: {wanted.familiar}")
        return found

    async def _kept(self, repository: Repository, name: Reference, image: Image, parts: list[_Part]) -> _Kept | None:
        """One whose blobs can all be had: from here, or, where layers were here from elsewhere, compressed in another
        way, and so were not fetched, from the registry itself. This goes first: it is what was pulled."""
        images, blobs = self._store.images, self._store.blobs
        to_pack = {part.layer.blob for part in parts if part.known is None or part.known.digest != part.layer.blob}
        ours = {part.known.digest for part in parts if part.known}
        sources = [other.path for other in images.names(image.id) if other.domain == name.domain]
        kept = None
        for digest, media_type in images.manifests(image.id):
            raw = blobs.read(digest)
            found = _Kept(raw, media_type, decode(raw, Manifest, digest).layers)
            named = {layer.digest for layer in found.layers}
            if named & to_pack or len(found.layers) != len(parts):
                continue  # an archive's, in which they are plain; or nonsense that a registry told
            missing = [each for each in named - ours if each not in blobs]
            if not missing:
                kept = kept or found
            elif await _has_all(repository, missing, sources):
                return found
        return kept

    def _write_manifest(self, image: Image, layers: list[Descriptor]) -> tuple[bytes, str]:
        """A manifest for an image that was made here, and its media type."""
        config = Descriptor(CONFIG, image.id, len(self._store.images.raw(image.id)))
        written = msgspec.json.encode(Manifest(config=config, layers=layers))
        self._store.images.keep_document(image.id, written, MANIFEST)
        return written, MANIFEST

    async def _push(self, wanted: Reference, platform: str, credentials: Credentials, tell: Tell) -> None:
        tell(status(f"The push refers to repository [{wanted.name}]"))
        meant = [(name, self._store.images.get(image_id)) for name, image_id in self._meant(wanted)]
        for name, image in meant:
            platforms.check(image, name.familiar, platform)
        async with Session(self._registries, credentials) as session:
            repository = Repository(session, wanted.domain, wanted.path, pushing=True)
            sent: set[str] = set()
            for name, image in meant:
                await self._push_one(repository, name, image, sent, tell)

    async def _push_one(
        self, repository: Repository, name: Reference, image: Image, sent: set[str], tell: Tell
    ) -> None:
        store = self._store
        if document := store.images.document_of(name):
            made = bundle.stored(store, document, store.images.media_type(document))
            await self._push_bundle(repository, name, made, sent, tell)
            store.images.tag(image.id, Reference(name.domain, name.path, digest=document), is_new=False)
            return
        parts = [_Part(layer, store.layers.pushed_as(layer)) for layer in store.images.layers(image)]
        kept = await self._kept(repository, name, image, parts)
        if kept:
            parts = [_Part(part.layer, layer) for part, layer in zip(parts, kept.layers, strict=True)]
        layers = await self._send_all(repository, name, parts, sent, tell)
        config = store.images.raw(image.id)
        if not await repository.has_blob(image.id):
            await repository.upload(Descriptor(CONFIG, image.id, len(config)), functools.partial(_pieces, config))
        if kept and [layer.digest for layer in layers] == [layer.digest for layer in kept.layers]:
            raw, media_type = kept.raw, kept.media_type
        else:
            raw, media_type = self._write_manifest(image, layers)
        digest = await repository.put_manifest(name.tag, raw, media_type)
        store.images.tag(image.id, Reference(name.domain, name.path, digest=digest), is_new=False)
        tell(status(f"{name.tag}: digest: {digest} size: {len(raw)}"))
        tell({"progressDetail": {}, "aux": {"Tag": name.tag, "Digest": digest, "Size": len(raw)}})
        labels = image.config.config.labels if image.config.config else {}
        self._events.publish("image", "push", name.familiar, labels | {"name": name.familiar_name})

    async def _send_all(
        self, repository: Repository, name: Reference, parts: list[_Part], sent: set[str], tell: Tell
    ) -> list[Descriptor]:
        """What the registry has of each layer, then. The top goes first, as in Docker; one that is twice, once."""
        once = {part.key: part for part in reversed(parts)}
        for part in once.values():
            tell(step("Preparing", short(part.layer.diff_id)))
        found = await _all([self._send(repository, name, part, sent, tell) for part in once.values()])
        by_key = dict(zip(once, found, strict=True))
        return [by_key[part.key] for part in parts]

    async def _send(
        self,
        repository: Repository,
        name: Reference,
        part: _Part,
        sent: set[str],
        tell: Tell,
    ) -> Descriptor:
        known, shown, slots = part.known, short(part.layer.diff_id), self._slots
        if slots.locked():
            tell(step("Waiting", shown))
        async with slots:
            if known and (known.digest in sent or await repository.has_blob(known.digest)):
                tell(step("Layer already exists", shown))
                return known
            if known and (source := await _mount(repository, known.digest, self._elsewhere(name, known.digest))):
                tell(step(f"Mounted from {source}", shown))
            else:
                known = await self._upload(repository, part, tell)
                tell(step("Pushed", shown))
            sent.add(known.digest)
            return known

    async def _upload(self, repository: Repository, part: _Part, tell: Tell) -> Descriptor:
        """Sends a layer: as it came, or a plain tar as gzip.

        Other versions of the library pack otherwise: what comes of it need not be what it was the last time.
        """
        layer, known, shown = part.layer, part.known, short(part.layer.diff_id)
        if known is not None and part.path:
            meter = Meter(tell, "Pushing", shown, known.size)
            await repository.upload(known, lambda: self._read(part.path, meter))
            return known
        if known is None or (layer.plain and known.digest not in self._store.blobs):
            meter = Meter(tell, "Pushing", shown, layer.blob_size)
            packed = await repository.upload_stream(
                lambda: _Packed(self._read(self._store.blobs.path(layer.blob), meter))
            )
            self._store.layers.note_pushed(layer.diff_id, packed.digest, packed.size)
            if part.named and part.known is not None and packed.digest != part.known.digest:
                raise EngineError(
                    f"layer {shown} is not kept in the form in which it was to be pushed: build it again, with --push"
                )
            return Descriptor(MEDIA_TYPES["gzip"], packed.digest, packed.size)
        path, meter = self._store.blobs.path(known.digest), Meter(tell, "Pushing", shown, known.size)
        await repository.upload(known, lambda: self._read(path, meter))
        return known

    def _elsewhere(self, name: Reference, digest: str) -> list[str]:
        """Paths of other repositories of the same registry that ought to have a blob."""
        return [
            other.path
            for other in self._store.images.names_with_blob(digest)
            if other.domain == name.domain and other.path != name.path
        ]

    async def _read(self, path: str, meter: Meter) -> AsyncGenerator[bytes, None]:
        with await asyncio.to_thread(open, path, "rb", 0) as file:
            sent = 0
            while chunk := await asyncio.to_thread(file.read, _PIECE):
                yield chunk
                sent += len(chunk)
                meter.at(sent)


class _Packed:
    """A stream as gzip, packed as it is read. ``digest`` and ``size`` are of all of it, at its end."""

    def __init__(self, plain: AsyncGenerator[bytes, None]) -> None:
        self._plain = plain
        self.digest, self.size = "", 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        gzip = await asyncio.to_thread(Compressor)
        async with contextlib.aclosing(self._plain) as pieces:
            async for piece in pieces:
                if packed := await asyncio.to_thread(gzip.pack, piece):
                    yield packed
        yield await asyncio.to_thread(gzip.finish)
        self.digest, self.size = gzip.digest, gzip.size


async def _has_all(repository: Repository, blobs: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether the repository has these blobs, or has now mounted them."""
    for blob in blobs:
        if not await repository.has_blob(blob) and not await _mount(repository, blob, sources):
            return False
    return True


async def _mount(repository: Repository, digest: str, sources: Sequence[str]) -> str:
    """The path of the repository from which the registry has mounted a blob; "" when it has from none."""
    for source in list(dict.fromkeys(sources))[:_SOURCES]:
        if await repository.mount(digest, source):
            return source
    return ""


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _all(work: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Does it side by side; what came of each. Raises the first error, and ends the rest."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        for task in asyncio.as_completed(tasks):
            await task
        return [task.result() for task in tasks]
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
