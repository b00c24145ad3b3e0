"""wherry for Python programs: `import wherry`, and an engine is one line away.

    with wherry.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

`Engine` is made by `connect`. What can go wrong is a `wherry.ClientError`: an `APIError` when the engine refuses (its
`status` is HTTP's, its `message` the engine's words), a `ConnectionFailed` when none answers. docs/library.md tells the
whole story.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wherry.client.client import Client
from wherry.client.containers import Container, Containers, Result, container_body
from wherry.client.errors import APIError
from wherry.client.host import TLS
from wherry.client.images import Images
from wherry.client.local import default_socket, named_by_environment, start_engine

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self, Unpack

    from wherry.client.containers import Options
    from wherry.client.images import Image

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
        options["stdin"] = input is not None
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
        from wherry.client.building import build
        from wherry.client.lean import dumps

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
