"""wherry for Python programs: `import wherry`, and an engine is one line away.

    with wherry.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

`Engine` is made by `connect`. What can go wrong is a `wherry.ClientError`: an `APIError` when the engine refuses (its
`status` is HTTP's, its `message` the engine's words), a `ConnectionFailed` when none answers. docs/library.md tells the
whole story.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wherry.client.client import Client, image_path
from wherry.client.containers import Container, Containers, Result
from wherry.client.context import OUTSIDE, pack
from wherry.client.endpoint import TLS
from wherry.client.local import default_socket, named_by_environment, start_engine
from wherry.client.options import container_body
from wherry.client.transport import APIError, ClientError, checked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self, Unpack

    from wherry.client.client import Client
    from wherry.client.options import Options

# Images for Python programs: `engine.images` and `Image`.

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


__all__ = ["TLS", "Engine", "connect"]


def connect(host: str = "", *, tls: TLS | None = None) -> Engine:
    """An engine: that at `host`, or of WHERRY_HOST or DOCKER_HOST, or this machine's, which is started if need be.

    `host` is unix:///path, tcp://name:port (with `tls`), or ssh://[user@]name. Nothing is sent before the first use.
    Raises HostError for an address that cannot be one.

    >>> import wherry
    >>> with wherry.connect() as engine:
    ...     engine.run("busybox", ["echo", "hi"]).output
    'hi\\n'
    """
    address = host or named_by_environment()
    if address:
        return Engine(Client(address, tls=tls))
    address = default_socket()

    def start() -> bool:
        if sys.platform != "linux":
            return False
        start_engine(address.removeprefix("unix://"))
        return True

    return Engine(Client(address, unreachable=start))


class Engine:
    """A container engine, wherry's or Docker's. Not for several threads at once: each may have its own.

    `containers` and `images` find and make those; `client` is the Engine API itself, for all that has no word here.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.containers = Containers(client)
        self.images = Images(client)

    def run(
        self,
        image: str,
        command: Sequence[str] | str = (),
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        check: bool = False,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Result:
        """Runs a command in a new container, waits for its end, and removes the container unless `keep`.

        An image that is not there is pulled. `command` is a list of words, or one string for `/bin/sh -c`; empty, the
        image's own runs. `input` goes to its standard input. After `timeout` seconds it is killed and TimeoutError
        raised; with `check`, CommandFailed is raised for an exit code other than 0. `options`: see `Options`.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     result = engine.run("busybox", "echo $NAME; exit 3", env={"NAME": "boat"})
        >>> result.exit_code, result.output
        (3, 'boat\\n')
        >>> with wherry.connect() as engine:
        ...     engine.run("busybox", ["tr", "a-z", "A-Z"], input="boat").output
        'BOAT'
        """
        if input is not None:
            options["stdin"] = True
        container = self.create(image, command, **options)
        try:
            return container.run_to_end(input, timeout=timeout, check=check)
        finally:
            if not keep:
                container.remove(force=True, volumes=True)

    def create(self, image: str, command: Sequence[str] | str = (), **options: Unpack[Options]) -> Container:
        """Makes a container and does not start it. Raises APIError; an image that is not there is pulled first.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     container = engine.create("busybox", ["true"], name="prepared")
        ...     print(container.name, container.status)
        ...     container.remove()
        prepared created
        """
        body, name, platform = container_body(image, command, options)
        try:
            made = self.client.containers.create(body, name=name, platform=platform)
        except APIError as error:
            if not error.not_found or "No such image" not in error.message:
                raise
            self.images.pull(image, platform=platform)
            made = self.client.containers.create(body, name=name, platform=platform)
        return Container(self.client, str(made["Id"]))

    def start(self, image: str, command: Sequence[str] | str = (), **options: Unpack[Options]) -> Container:
        """Makes a container and starts it in the background. It is the caller's to stop and to remove.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"]) as container:
        ...         container.exec(["echo", "from inside"]).output
        'from inside\\n'
        """
        container = self.create(image, command, **options)
        try:
            container.start()
        except BaseException:
            container.remove(force=True, volumes=True)
            raise
        return container

    def build(
        self,
        path: str | os.PathLike[str] | None = None,
        tag: str | Sequence[str] = (),
        *,
        text: str | None = None,
        dockerfile: str | os.PathLike[str] = "",
        args: Mapping[str, str] | None = None,
        target: str = "",
        labels: Mapping[str, str] | None = None,
        platform: str = "",
        network: str = "",
        cache_from: Sequence[str] = (),
        no_cache: bool = False,
        pull: bool = False,
        output: Callable[[str], None] | None = None,
    ) -> Image:
        """Builds an image from the folder `path`, and from its Dockerfile, or from one that is given as a `text`.

        `dockerfile` names another one than `path`/Dockerfile, also outside of the folder. `tag` is a name or several,
        `args` are the build arguments. `output` is given what the build says, as it comes. Raises BuildFailed, whose
        `exit_code` is that of the command which failed, and APIError; OSError for files that cannot be read.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     image = engine.build(text="FROM busybox\\nARG WHO\\nRUN echo hello $WHO > /hello", args={"WHO": "you"})
        ...     engine.run(image.id, ["cat", "/hello"]).output
        ...     image.remove()
        'hello you\\n'
        """
        from wherry.client.c_modules import dumps

        query = {
            "t": [tag] if isinstance(tag, str) else [*tag],
            "buildargs": dict(args) if args else None,
            "target": target or None,
            "labels": dict(labels) if labels else None,
            "platform": platform or None,
            "networkmode": network or None,
            "cachefrom": dumps([*cache_from]).decode() if cache_from else None,
            "nocache": no_cache or None,
            "pull": pull or None,
        }
        return build(self.client, path, text, dockerfile, query, output)

    def version(self) -> dict[str, Any]:
        """What the engine says of itself: `Version`, `ApiVersion`, `KernelVersion`…"""
        found: dict[str, Any] = self.client.get("/version")
        return found

    def close(self) -> None:
        """Closes the connections. Containers run on."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# `engine.build`: a folder or a text goes to the engine's builder, an image comes back.


class BuildFailed(ClientError):
    """A step failed, or the Dockerfile says something that cannot be. The text says where.

    `exit_code` is that of the command which failed, 1 for what was no command; `log` is all that the build said.
    """

    def __init__(self, message: str, exit_code: int, log: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log = log


def build(
    client: Client,
    path: str | os.PathLike[str] | None,
    text: str | None,
    dockerfile: str | os.PathLike[str],
    query: Mapping[str, Any],
    output: Callable[[str], None] | None,
) -> Image:
    """See `Engine.build`."""
    if path is None:
        if text is None:
            raise ValueError("nothing to build: give a folder, or a Dockerfile as a text")
        data: Iterator[bytes | memoryview] = iter((text.encode(),))
        name = outside = ""
    else:
        name, content, outside = _dockerfile(os.fspath(path), os.fspath(dockerfile), text)
        data = pack(os.fspath(path), name, content)
    response = client.request(
        "POST",
        "/build",
        query={**query, "dockerfile": name or None, "outside": outside or None, "rm": True},
        data=data,
        headers={"Content-Type": "application/x-tar"},
    )
    return Image(client, _follow(response.values(), output))


def _dockerfile(directory: str, dockerfile: str, text: str | None) -> tuple[str, bytes | None, str]:
    """Its name in the context, and its content and own name when it is none of the folder's files. Raises OSError."""
    if text is not None:
        return OUTSIDE, text.encode(), "Dockerfile"
    if not dockerfile:
        return "", None, ""
    place = os.path.realpath(os.path.join(directory, dockerfile))
    inside = os.path.relpath(place, os.path.realpath(directory))
    if inside.split("/")[0] != "..":
        return inside, None, ""
    with open(place, "rb") as file:
        return OUTSIDE, file.read(), os.path.basename(place)


def _follow(messages: Iterator[dict[str, Any]], output: Callable[[str], None] | None) -> str:
    """The image's id."""
    said: list[str] = []
    image = ""
    for message in messages:
        if "errorDetail" in message:
            detail = message["errorDetail"]
            raise BuildFailed(str(detail.get("message")), int(detail.get("code") or 1), "".join(said))
        image = str((message.get("aux") or {}).get("ID") or image)
        piece = str(message.get("stream") or "")
        if piece:
            said.append(piece)
            if output is not None:
                output(piece)
    if not image:
        raise BuildFailed("the engine ended before the build did", 1, "".join(said))
    return image
