"""Images as objects: `engine.images`, and what each of them can do."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wherry.client.containers import filtered
from wherry.client.process import pieces_of
from wherry.client.transport import WorkFailed
from wherry.common.reference import DEFAULT_DOMAIN, parse

if TYPE_CHECKING:
    import os

    from wherry.client.engine import AsyncEngine
    from wherry.client.process import Input

    Told = Callable[[dict[str, Any]], object]


class AsyncImageCollection:
    """`engine.images`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def made(self, id: str) -> AsyncImage:
        """The image of an id that the engine has given, which is not asked for."""
        return AsyncImage(self._engine, id)

    async def get(self, name: str) -> AsyncImage:
        """By name or id. Raises APIError, whose `not_found` is true when there is none.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     engine.images.get("busybox").tags
        ['busybox:latest']
        """
        return AsyncImage(self._engine, str((await self._engine.client.images.inspect(name))["Id"]))

    async def pull(self, name: str, *, platform: str = "", progress: Told | None = None) -> AsyncImage:
        """Fetches an image from its registry, with the log-in that `Engine.login` has left.

        `progress` is given what the engine tells meanwhile: `status`, `id` of a layer, `progressDetail`. Raises
        ClientError with the engine's words when that fails.
        """
        repository, digest, wanted = name.partition("@")
        tag = wanted
        if not digest:
            head, colon, last = name.rpartition(":")
            repository, tag = (head, last) if colon and "/" not in last else (name, "latest")
        auth = self._engine.authorization(parse(name).domain)
        await _follow(await self._engine.client.images.pull(repository, tag, platform=platform, auth=auth), progress)
        return await self.get(name)

    async def push(self, name: str, *, progress: Told | None = None) -> str:
        """Sends an image to the registry that its name begins with; the digest it has there. Without a tag: "latest".

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     engine.images.get("busybox").tag("127.0.0.1:1/mine")
        ...     try:
        ...         engine.images.push("127.0.0.1:1/mine")
        ...     except wherry.ClientError as error:
        ...         print("nobody listens" if "refused" in str(error) else error)
        ...     engine.images.remove("127.0.0.1:1/mine")
        nobody listens
        """
        reference = parse(name).with_default_tag()
        auth = self._engine.authorization(reference.domain)
        messages = await self._engine.client.images.push(reference.familiar_name, reference.tag, auth=auth)
        digest = ""

        def told(message: dict[str, Any]) -> None:
            nonlocal digest
            digest = str((message.get("aux") or {}).get("Digest") or digest)
            if progress is not None:
                progress(message)

        await _follow(messages, told)
        return digest

    async def load(self, source: Input) -> list[AsyncImage]:
        """The images of an archive that `save` has made: a path, bytes, an open file, or pieces.

        Raises OSError for the file, ClientError for its content.
        """
        client = self._engine.client
        data = pieces_of(client.loop, pathlib.Path(source) if isinstance(source, str) else source)
        response = await client.images.load(data, quiet=True)
        said: list[str] = []
        await _follow(response.values(), lambda message: said.append(str(message.get("stream", ""))))
        names = [line.partition(": ")[2] for line in "".join(said).splitlines() if line.startswith("Loaded image")]
        return [await self.get(name) for name in names]

    async def save(self, names: Sequence[str], path: str | os.PathLike[str]) -> None:
        """Writes images with all their layers into one archive. Raises APIError, OSError."""
        response = await self._engine.client.images.save([*names])
        with await self._engine.client.loop.call(lambda: open(path, "wb")) as file:
            async for piece in response.pieces():
                file.write(piece)

    async def search(self, term: str, *, limit: int = 25) -> list[dict[str, Any]]:
        """What a registry has of that name: `name`, `description`, `star_count`, `is_official`."""
        domain = parse(term).domain
        return await self._engine.client.images.search(term, auth=self._engine.authorization(domain), limit=limit)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Takes a name away from an image, with its last one the image."""
        await self._engine.client.images.remove(name, force=force)

    async def prune(self, *, filters: Mapping[str, Sequence[str] | str] | None = None) -> dict[str, Any]:
        """Removes images without a name, or with {"dangling": "false"} all that no container is made of."""
        return await self._engine.client.images.prune(filtered(filters))

    async def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str] | str] | None = None
    ) -> list[AsyncImage]:
        """The images, the youngest first; `filters` as of `images --filter`: {"reference": "busybox"}."""
        found = await self._engine.client.images.list(all=all, filters=filtered(filters))
        return [AsyncImage(self._engine, str(each["Id"])) for each in found]


class AsyncImage:
    """An image. Two are equal that stand for the same one. Its methods raise APIError when the engine refuses."""

    id: str

    def __init__(self, engine: AsyncEngine, id: str) -> None:
        self._engine = engine
        self.id = id

    def __repr__(self) -> str:
        return f"<AsyncImage {self.short_id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncImage) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def short_id(self) -> str:
        """The first twelve digits of `id`."""
        return self.id.removeprefix("sha256:")[:12]

    async def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, in the words of the API."""
        return await self._engine.client.images.inspect(self.id)

    @property
    async def tags(self) -> list[str]:
        """Its names."""
        return [str(tag) for tag in (await self.inspect()).get("RepoTags") or ()]

    @property
    async def size(self) -> int:
        """Bytes of the files in its layers."""
        return int((await self.inspect())["Size"])

    @property
    async def labels(self) -> dict[str, str]:
        """Names and values."""
        return dict(((await self.inspect()).get("Config") or {}).get("Labels") or {})

    async def history(self) -> list[dict[str, Any]]:
        """The steps it was made by, the last first: `CreatedBy`, `Size`, `Tags`."""
        return await self._engine.client.images.history(self.id)

    async def tag(self, repository: str, tag: str = "latest") -> None:
        """Gives it one more name."""
        await self._engine.client.images.tag(self.id, repository, tag)

    async def save(self) -> AsyncIterator[bytes]:
        """Itself with all its layers, as the pieces of an archive.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     packed = b"".join(engine.images.get("busybox").save())
        ...     engine.images.load(packed)[0] == engine.images.get("busybox")
        True
        """
        response = await self._engine.client.images.save([self.id])
        async for piece in response.pieces():
            yield piece

    async def remove(self, *, force: bool = False) -> None:
        """Takes it away with all its names; `force` also when it has several, or a stopped container is made of it."""
        await self._engine.client.images.remove(self.id, force=force)


async def _follow(messages: AsyncIterator[dict[str, Any]], told: Told | None) -> None:
    """Raises WorkFailed at a message that says that the work has failed."""
    async for message in messages:
        error = message.get("errorDetail") or message.get("error")
        if error:
            raise WorkFailed(str(error.get("message", "")) if isinstance(error, dict) else str(error))
        if told is not None:
            told(message)


def server(domain: str) -> str:
    """The address by which Docker's own registry is known to its log-ins."""
    return "https://index.docker.io/v1/" if domain in ("", DEFAULT_DOMAIN, "index.docker.io") else domain
