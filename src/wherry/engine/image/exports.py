"""Where what was built goes: names in the store, registries, archives, and the files themselves."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from wherry.common.reference import Reference
from wherry.common.tar import END, header
from wherry.engine import platforms
from wherry.engine.context import Context, Service
from wherry.engine.image import bundle as bundles
from wherry.engine.image.attestation import Statement
from wherry.engine.image.bundle import Bundle, Format, Result
from wherry.engine.image.images import Images
from wherry.engine.image.push import Pushes
from wherry.engine.image.transfers import Message
from wherry.engine.platforms import host
from wherry.registry.auth import Credentials
from wherry.storage.tar.writer import file_entry
from wherry.storage.worker import client, jobs


class Exports(Service):
    def __init__(self, context: Context, images: Images, pushes: Pushes) -> None:
        super().__init__(context)
        self._images = images
        self._pushes = pushes

    def primary(self, results: Sequence[Result]) -> str:
        """The image that a name means on this machine: that of its own platform, or the first."""
        images = [self._store.images.get(result.image) for result in results]
        return next((image.id for image in images if platforms.of_image(image) == host()), images[0].id)

    async def put_names(self, results: Sequence[Result], form: Format, names: Sequence[Reference]) -> tuple[str, str]:
        """Gives what was built its names; the image that they mean, and the digest of the document that they stand for.

        That is "" where a name is just that of the image, since there is nothing else to say.
        """
        if len(results) > 1 or results[0].attestations or form.annotations.found:
            made = await bundles.bundle(self._store, "", results, form, names, files=False)
            return self.put_names_of(made, names), made.root.digest
        image = self.primary(results)
        for name in names:
            self._images.tag(image, name.familiar)
        return image, ""

    def put_names_of(self, made: Bundle, names: Sequence[Reference]) -> str:
        """Lets names stand for a bundle; the image that they mean."""
        bundles.keep(self._store, made)
        image = self.primary([Result(image.id) for image, _ in made.images])
        for name in names:
            self._images.tag(image, name.familiar, document=made.root.digest)
        return image

    @contextlib.asynccontextmanager
    async def bundle(
        self, results: Sequence[Result], form: Format, names: Sequence[Reference]
    ) -> AsyncIterator[Bundle]:
        """The bundle of it, whose packed layers are there inside the block. Raises EngineError."""
        async with self._store.staging.area() as area:
            yield await bundles.bundle(self._store, area, results, form, names, files=True)

    def push(
        self,
        made: Bundle,
        name: Reference,
        credentials: Credentials,
        *,
        by_digest: bool = False,
        insecure: bool = False,
    ) -> AsyncIterator[Message]:
        """The progress of its push."""
        return self._pushes.push_bundle(made, name, credentials, by_digest=by_digest, insecure=insecure)

    def archive(self, made: Bundle, names: Sequence[Reference], *, docker: bool) -> AsyncIterator[bytes]:
        """A tar of an OCI layout. ``docker``: with what makes it Docker's archive, too."""
        return bundles.tar(bundles.members(made, names, docker=docker))

    # --- the files themselves

    async def files(self, results: Mapping[str, Result], prefix: str = "") -> AsyncIterator[bytes]:
        """A tar of all files of images, each below its folder ("" for none), and of what is attested of them."""
        for folder, result in results.items():
            image = self._store.images.get(result.image)
            root = (self._store.snapshots.view(image.chain_id, ""),)
            held = b""
            async for chunk in self._store.files.export(root, f"{folder}/" if folder else ""):
                held += chunk
                ready, held = held[: -len(END)], held[-len(END) :]
                yield ready
            for said in result.attestations:
                if not said.inline_only:
                    name = f"{folder}/{prefix}{said.name}" if folder else f"{prefix}{said.name}"
                    content = Statement(said.predicate_type, [], said.predicate).encode()
                    yield header(file_entry(name, len(content), mode=0o600)) + content + bytes(-len(content) % 512)
        yield END

    @contextlib.asynccontextmanager
    async def unpacked(self, results: Mapping[str, Result], prefix: str = "") -> AsyncIterator[str]:
        """A directory with the same, which is gone after the block."""
        async with self._store.build_snapshots.workspace() as workspace:
            directory = workspace.directory("files")
            await client.run(jobs.ReceiveContext(directory=directory), input=self.files(results, prefix))
            yield directory
