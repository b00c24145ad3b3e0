"""Images for Python programs: `engine.images` and `Image`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wherry.client.client import Client, image_path
from wherry.client.errors import checked

if TYPE_CHECKING:
    import os

_PIECE = 1 << 20


class Images:
    """`engine.images`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[Image]:
        """The images, the youngest first; `filters` as of `images --filter`: {"reference": ["busybox"]}."""
        wanted = {name: [*values] for name, values in (filters or {}).items()}
        return [Image(self._client, str(each["Id"])) for each in self._client.images.list(filters=wanted)]

    def get(self, name: str) -> Image:
        """By name or id. Raises APIError, whose `not_found` is true when there is none.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     engine.images.get("busybox").tags
        ['busybox:latest']
        """
        return Image(self._client, str(self._client.images.inspect(name)["Id"]))

    def pull(self, name: str, *, platform: str = "") -> Image:
        """Fetches an image from its registry. Raises ClientError with the engine's words when that fails."""
        repository, digest, wanted = name.partition("@")
        tag = wanted
        if not digest:
            head, colon, last = name.rpartition(":")
            repository, tag = (head, last) if colon and "/" not in last else (name, "latest")
        for _ in checked(self._client.images.pull(repository, tag, platform=platform)):
            pass
        return self.get(name)

    def load(self, path: str | os.PathLike[str]) -> Sequence[Image]:
        """The images of an archive that `save` has made. Raises OSError for the file, ClientError for its content."""
        with open(path, "rb") as file:
            response = self._client.request(
                "POST",
                "/images/load",
                query={"quiet": 1},
                data=iter(lambda: file.read(_PIECE), b""),
                headers={"Content-Type": "application/x-tar"},
            )
            said = "".join(str(message.get("stream", "")) for message in checked(response.values()))
        names = [line.partition(": ")[2] for line in said.splitlines() if line.startswith("Loaded image")]
        return [self.get(name) for name in names]

    def save(self, names: Sequence[str], path: str | os.PathLike[str]) -> None:
        """Writes images with all their layers into one archive. Raises APIError, OSError."""
        response = self._client.request("GET", "/images/get", query={"names": [*names]})
        with open(path, "wb") as file:
            while piece := response.piece():
                file.write(piece)


class Image:
    """An image. Its methods raise APIError when the engine refuses."""

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<Image {self.id.removeprefix('sha256:')[:12]}>"

    def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, in the words of the API."""
        return self._client.images.inspect(self.id)

    @property
    def tags(self) -> list[str]:
        """Its names."""
        return [str(tag) for tag in self.inspect().get("RepoTags") or ()]

    @property
    def size(self) -> int:
        """Bytes of the files in its layers."""
        return int(self.inspect()["Size"])

    @property
    def labels(self) -> dict[str, str]:
        """Names and values."""
        return dict((self.inspect().get("Config") or {}).get("Labels") or {})

    def tag(self, repository: str, tag: str = "latest") -> None:
        """Gives it one more name."""
        self._client.post(image_path(self.id, "tag"), repo=repository, tag=tag)

    def remove(self, *, force: bool = False) -> None:
        """Takes it away with all its names; `force` also when it has several, or a stopped container is made of it."""
        self._client.delete(image_path(self.id), force=force)
