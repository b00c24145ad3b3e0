"""Pull: an image by its name out of a registry.

The manifest says which layers there are, and the configuration what each of them unpacks to. What is here already is
not fetched; the rest comes all at once, is unpacked as it arrives, and is put to its place from the bottom up. The
image is there when everything is; otherwise nothing of it is.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry.common import reference
from wherry.common.errors import Forbidden, InvalidParameter, NotFound
from wherry.common.reference import Reference
from wherry.engine import platforms
from wherry.engine.context import Context, Service
from wherry.engine.image.transfers import (
    Message,
    Tell,
    Transfer,
    Transfers,
    message_stream,
    progress_message,
    short,
    status,
    step,
)
from wherry.model.image import Descriptor, ImageConfig, Manifest, Platform, decode
from wherry.registry.auth import NOBODY, Credentials
from wherry.registry.errors import RegistryError, printable
from wherry.registry.repository import Document, Repository
from wherry.registry.session import Session
from wherry.storage.content import chain_ids_of
from wherry.storage.ingest import free_space, unpack_again
from wherry.storage.tar.compression import COMPRESSIONS
from wherry.storage.worker import client
from wherry.storage.worker.jobs import StagedLayer

_INDEXES_AT_MOST = 4  # one inside the other


class Source(Protocol):
    """Where an image is read from: a repository of a registry, or an OCI layout of a client's."""

    async def manifest(self, tag_or_digest: str) -> Document: ...

    async def document(self, descriptor: Descriptor) -> bytes: ...

    def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True)
class _Target:
    """What a name leads to: the document that it names, and the manifest of the platform's image."""

    named: Document
    document: Document
    manifest: Manifest
    config: bytes


class Pulls(Service):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._registries = context.registries
        self.transfers = Transfers(context.store, context.config.max_concurrent_downloads)
        self.limit = self.transfers.limit
        self._needed: Counter[str] = Counter()  # layers that were there when a pull began, by how many pulls
        context.store.layers.leases.append(lambda: frozenset(self._needed))

    def pull(
        self, name: str, tag: str = "", platform: str = "", credentials: Credentials = NOBODY
    ) -> AsyncIterator[Message]:
        """The progress of a pull. ``name`` may have a tag of its own; without any, all tags are pulled, as in Docker.

        Raises InvalidReference at once; NotFound and other EngineErrors as it goes.
        """
        wanted = parse(name, tag)
        if wanted.familiar_name == "scratch":
            raise Forbidden("'scratch' is a reserved name")
        chosen = platforms.parse(platform)
        return message_stream(lambda tell: self._pull(wanted, chosen, bool(platform), credentials, tell))

    async def _pull(
        self, wanted: Reference, platform: Platform, explicit: bool, credentials: Credentials, tell: Tell
    ) -> None:
        async with Session(self._registries, credentials) as session:
            repository = Repository(session, wanted.domain, wanted.path)
            with translated(wanted):
                names = [wanted] if wanted.tag or wanted.digest else await self._all_tags(repository, wanted)
            news = False
            for name in names:
                with translated(name):
                    news |= await self._pull_one(repository, name, platform, explicit, tell)
            what = "Downloaded newer image" if news else "Image is up to date"
            tell(status(f"Status: {what} for {wanted.familiar}"))
            if news:
                self._store.staging.sync_later()

    async def _all_tags(self, repository: Repository, wanted: Reference) -> list[Reference]:
        found = [wanted.with_tag(tag) for tag in await repository.tags() if reference.is_tag(tag)]
        if not found:
            raise NotFound(f"repository {wanted.familiar_name} not found: it has no tags")
        return found

    async def _pull_one(
        self, repository: Repository, name: Reference, platform: Platform, explicit: bool, tell: Tell
    ) -> bool:
        """Whether anything came of it that was not here before."""
        named = await repository.manifest(name.digest or name.tag)
        document = await self._select(repository, named, platform)
        tell(status(f"Pulling from {name.path}", name.digest or name.tag))
        manifest = document.manifest()
        image_id = manifest.config.digest
        await self._bring_image(repository, named, document, tell)
        config = self._store.images.get(image_id).config
        with self._store.images.transaction():
            changed = self._name(name, image_id, named, document)
            for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=False):
                if layer.digest == diff_id:  # plain, and to be pushed as such again
                    self._store.layers.note_pushed(diff_id, layer.digest, layer.size)
        tell(status(f"Digest: {named.digest}"))
        labels = config.config.labels if config.config else {}
        self._events.publish("image", "pull", name.familiar, labels | {"name": name.familiar_name})
        _check_platform(config, platform, explicit, name, tell)
        return changed

    async def bring(self, source: Source, digest: str, platform: Platform) -> tuple[str, bool]:
        """An image without a name, and whether it was not here before. Raises EngineError."""
        named = await source.manifest(digest)
        document = await self._select(source, named, platform)
        is_new = await self._bring_image(source, named, document, lambda message: None)
        return document.manifest().config.digest, is_new

    async def _bring_image(self, source: Source, named: Document, document: Document, tell: Tell) -> bool:
        """Whether it was not here before."""
        manifest = document.manifest()
        if self._store.images.find(manifest.config.digest) is not None:
            return False
        raw = await source.document(manifest.config)
        await self._fetch(source, _Target(named, document, manifest, raw), tell)
        return True

    async def _select(self, repository: Source, document: Document, platform: Platform) -> Document:
        """The manifest of the platform's image, through as many indexes as there may be."""
        seen = {document.digest}
        while document.is_index:
            descriptor = platforms.choose(document.index().manifests, platform)
            if descriptor.digest in seen or len(seen) > _INDEXES_AT_MOST:
                raise InvalidParameter(f"{descriptor.digest}: indexes lead to each other, or are nested too deep")
            seen.add(descriptor.digest)
            document = await self._document(repository, descriptor)
        return document

    async def _document(self, repository: Source, descriptor: Descriptor) -> Document:
        """A manifest that an index names; from here, if it is the one of an image that is here."""
        if self._store.images.of_manifest(descriptor.digest) is not None:
            return Document(self._store.blobs.read(descriptor.digest), descriptor.media_type, descriptor.digest)
        found = await repository.manifest(descriptor.digest)
        if len(found.raw) != descriptor.size:
            raise InvalidParameter(f"{descriptor.digest} is {len(found.raw)} bytes long, expected {descriptor.size}")
        return found

    async def _fetch(self, repository: Source, target: _Target, tell: Tell) -> None:
        """Brings the layers that are not here, and makes the image."""
        config = decode(target.config, ImageConfig, "image configuration")
        if config.os not in ("", "linux"):
            raise InvalidParameter(
                f'image operating system "{printable(config.os)}" cannot be used on this platform: '
                "operating system is not supported"
            )
        layers = target.manifest.layers
        diff_ids = config.rootfs.diff_ids
        if len(layers) != len(diff_ids):
            raise InvalidParameter(
                "invalid manifest: number of layers and diffIDs don't match: "
                f"expected {len(layers)}, got {len(diff_ids)}"
            )
        chain = chain_ids_of(diff_ids)
        self._needed.update(chain)
        try:
            await self._bring(repository, layers, diff_ids, chain, tell)
            documents = {each.digest: (each.raw, each.media_type) for each in (target.named, target.document)}
            self._store.images.add(target.config, documents=[*documents.values()])
        finally:
            self._store.layers.release(chain)
            self._needed.subtract(chain)
            self._needed = +self._needed
            self._store.images.collect_layers()

    async def _bring(
        self, repository: Source, layers: Sequence[Descriptor], diff_ids: list[str], chain: list[str], tell: Tell
    ) -> None:
        found = self._store.layers.among(chain)
        present = [chain_id in found for chain_id in chain]
        here = self._store.layers.blobs()
        missing = {
            layer.digest: layer
            for layer, there in zip(layers, present, strict=True)
            if not there and layer.digest not in here
        }
        _check_room(sum(layer.size for layer in missing.values()), self._store.staging.path)
        for layer, there in zip(layers, present, strict=True):
            tell(step("Already exists" if there else "Pulling fs layer", short(layer.digest)))
        async with contextlib.AsyncExitStack() as stack:
            transfers = {
                digest: await stack.enter_async_context(self.transfers.join(layer, repository.blob, tell))
                for digest, layer in missing.items()
            }
            parent = ""
            for layer, diff_id, chain_id, there in zip(layers, diff_ids, chain, present, strict=True):
                if not there:
                    await self._place(layer, diff_id, parent, transfers, tell)
                parent = chain_id

    async def _place(
        self, layer: Descriptor, diff_id: str, parent: str, transfers: dict[str, Transfer], tell: Tell
    ) -> None:
        transfer = transfers.get(layer.digest)
        if transfer is None:
            await self._place_again(layer, diff_id, parent)
        else:
            await _unless_another_fails(transfer, transfers)
            tell(progress_message("Extracting", transfer.name, layer.size, layer.size))
            await self.transfers.take(transfer, parent, diff_id)
        tell(step("Pull complete", short(layer.digest)))

    async def _place_again(self, layer: Descriptor, diff_id: str, parent: str) -> None:
        """A layer whose blob is here, from an image in which it lies upon others."""
        known = self._store.layers.with_blob(layer.digest)
        if known.diff_id != diff_id:
            raise InvalidParameter(
                f"layers from manifest don't match image configuration: layer {layer.digest} "
                f"unpacks to {known.diff_id}, expected {diff_id}"
            )
        staged = StagedLayer(
            digest=known.blob, diff_id=known.diff_id, size=known.size, compression=COMPRESSIONS[known.media_type]
        )
        async with self._store.staging.area() as area:
            self._store.layers.add(await unpack_again(self._store.blobs, staged, area), parent)

    def _name(self, name: Reference, image_id: str, named: Document, document: Document) -> bool:
        """Gives the image its names; whether it did not have them."""
        images = self._store.images
        for kept in {named.digest: named, document.digest: document}.values():
            images.keep_document(image_id, kept.raw, kept.media_type)
        changed = False
        wanted = [Reference(name.domain, name.path, "", named.digest)]
        if name.tag and not name.digest:
            wanted.append(Reference(name.domain, name.path, name.tag))
        for each in wanted:
            if images.resolve(each) != image_id:
                images.tag(image_id, each, is_new=False)
                changed = True
        return changed


def parse(name: str, tag: str) -> Reference:
    """What a client wants: ``tag`` may also be a digest. Raises InvalidReference."""
    wanted = reference.parse(name)
    if not tag:
        return wanted
    if ":" in tag:
        return reference.parse(f"{wanted.name}@{tag}")
    return reference.parse_to_tag(wanted.name, tag)


async def _unless_another_fails(transfer: Transfer, transfers: dict[str, Transfer]) -> None:
    """Waits for a transfer. Raises the error of whichever fails first: nobody waits for the rest then."""
    while not transfer.staged.done():
        pending = [each.staged for each in transfers.values() if not each.staged.done()]
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for each in transfers.values():
            if each.staged.done():
                each.staged.result()


def _check_room(size: int, path: str) -> None:
    """A pull that cannot end well is not begun."""
    room = free_space(path)
    if size > room:
        raise client.Full(f"no space left on device: the image's layers have {size} bytes to come, and {room} are free")


def _check_platform(config: ImageConfig, wanted: Platform, explicit: bool, name: Reference, tell: Tell) -> None:
    found = Platform(config.architecture, config.os, config.variant)
    if explicit and found.architecture and not platforms.matches(found, wanted):
        tell(status(
            f"WARNING: image with reference {name.familiar} was found but does not match the specified platform: "
            f"wanted {platforms.name(wanted)}, actual: {platforms.name(found)}"
        ))  # fmt: skip


@contextlib.contextmanager
def translated(name: Reference) -> Iterator[None]:
    """What a registry says of an image that cannot be pulled, as Docker says it."""
    try:
        yield
    except RegistryError as error:
        text = error.message
        if error.code == "DENIED" or (error.code == "UNAUTHORIZED" and "requested access" in text):
            raise NotFound(
                f"pull access denied for {name.familiar_name}, repository does not exist or may require "
                f"'docker login': {text}"
            ) from None
        if error.code == "MANIFEST_UNKNOWN" or (error.answered == 404 and not error.code):
            raise NotFound(f"manifest for {name.familiar} not found: {text}") from None
        if error.code == "NAME_UNKNOWN":
            raise NotFound(f"repository {name.familiar_name} not found: {text}") from None
        raise
