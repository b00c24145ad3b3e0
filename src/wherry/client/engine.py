"""wherry for Python programs: `import wherry`, and an engine is one line away.

    with wherry.connect() as engine:
        print(engine.run("busybox", ["echo", "hi"]).output)

    async with wherry.aconnect() as engine:
        print((await engine.run("busybox", ["echo", "hi"])).output)

All of it is written once, as the classes whose names begin with Async; `connect` gives their faces (blocking.py).
What can go wrong is a `wherry.ClientError`. docs/library.md tells the whole story.
"""

from __future__ import annotations

import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from wherry.client import builds
from wherry.client.c_modules import dumps
from wherry.client.client import AsyncClient
from wherry.client.containers import AsyncContainer, AsyncContainerCollection, filtered
from wherry.client.images import AsyncImage, AsyncImageCollection, server
from wherry.client.local import default_socket, named_by_environment, start_engine
from wherry.client.options import container_body, named
from wherry.client.process import AsyncProcess, Result
from wherry.client.resources import AsyncNetworkCollection, AsyncVolumeCollection
from wherry.client.times import seconds
from wherry.client.transport import APIError

if TYPE_CHECKING:
    import os
    from typing import Self

    from wherry.client.builds import BuildEvent
    from wherry.client.endpoint import TLS
    from wherry.client.loops import Loop
    from wherry.client.options import Options, Pairs
    from wherry.client.process import Input
    from wherry.client.times import Moment


def client_of(host: str, tls: TLS | None, loop: Loop | None) -> AsyncClient:
    """The engine at `host`, of the environment, or of this machine, which is started if need be."""
    address = host or named_by_environment()
    if address:
        return AsyncClient(address, tls=tls, loop=loop)
    address = default_socket()

    def start() -> bool:
        if sys.platform != "linux":
            return False
        start_engine(address.removeprefix("unix://"))
        return True

    return AsyncClient(address, unreachable=start, loop=loop)


def aconnect(host: str = "", *, tls: TLS | None = None) -> AsyncEngine:
    """An engine for a program with asyncio (or uvloop): as `connect`, and everything is awaited.

    >>> import asyncio, wherry
    >>> async def main():
    ...     async with wherry.aconnect() as engine:
    ...         results = await asyncio.gather(*(engine.run("busybox", ["echo", str(n)]) for n in range(3)))
    ...         print([result.output for result in results])
    ...         async with await engine.start("busybox", "echo ready; sleep 60") as container:
    ...             async for piece in container.logs(stream=True):
    ...                 print(piece)
    ...                 break
    >>> asyncio.run(main())
    ['0\\n', '1\\n', '2\\n']
    b'ready\\n'
    """
    from wherry.client.asyncio_loop import Asyncio

    return AsyncEngine(client_of(host, tls, Asyncio()))


class AsyncEngine:
    """A container engine, wherry's or Docker's. Not for several threads at once: each may have its own.

    `containers`, `images`, `volumes` and `networks` find and make those; `client` is the Engine API itself, for all
    that has no word here.
    """

    client: AsyncClient
    containers: AsyncContainerCollection
    images: AsyncImageCollection
    volumes: AsyncVolumeCollection
    networks: AsyncNetworkCollection

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.containers = AsyncContainerCollection(self)
        self.images = AsyncImageCollection(self)
        self.volumes = AsyncVolumeCollection(self)
        self.networks = AsyncNetworkCollection(self)
        self._log_ins: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        return f"<AsyncEngine {self.client.host.address}>"

    def close(self) -> None:
        """Closes the connections. Containers run on."""
        self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # Containers.

    @overload
    async def run(
        self,
        image: str,
        command: Sequence[str] | str = (),
        *,
        stream: Literal[False] = False,
        input: Input | None = None,
        timeout: float | None = None,
        check: bool = False,
        keep: bool = False,
        output: Callable[[bytes], object] | None = None,
        **options: Unpack[Options],
    ) -> Result: ...

    @overload
    async def run(
        self,
        image: str,
        command: Sequence[str] | str = (),
        *,
        stream: Literal[True],
        keep: bool = False,
        **options: Unpack[Options],
    ) -> AsyncProcess: ...

    async def run(
        self,
        image: str,
        command: Sequence[str] | str = (),
        *,
        stream: bool = False,
        input: Input | None = None,
        timeout: float | None = None,
        check: bool = False,
        keep: bool = False,
        output: Callable[[bytes], object] | None = None,
        **options: Unpack[Options],
    ) -> Result | AsyncProcess:
        """Runs a command in a new container, waits for its end, and removes the container unless `keep`.

        An image that is not there is pulled. `command` is a list of words, or one string for `/bin/sh -c`; empty, the
        image's own runs. `input` goes to its standard input: bytes, text, a `pathlib.Path`, an open file, or pieces.
        `output` is called with what it prints, as it comes. After `timeout` seconds it is killed and CommandTimedOut
        raised; with `check`, CommandFailed is raised for an exit code other than 0. With `stream` its streams are the
        answer, as soon as it runs: see `Process`. `options`: see `Options`.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     result = engine.run("busybox", "echo $NAME; exit 3", env={"NAME": "boat"})
        >>> result.exit_code, result.output
        (3, 'boat\\n')
        >>> with wherry.connect() as engine:
        ...     engine.run("busybox", ["tr", "a-z", "A-Z"], input=(piece for piece in (b"bo", b"at"))).output
        ...     with engine.run("busybox", "echo one; echo two", stream=True) as process:
        ...         print(b"".join(process), process.wait())
        'BOAT'
        b'one\\ntwo\\n' 0
        """
        if stream and (input is not None or timeout is not None or check or output is not None):
            raise TypeError("input, timeout, check and output are for a command whose end is waited for")
        if input is not None:
            options["stdin"] = True
        container = await self.create(image, command, **options)

        async def leave() -> None:
            if not keep:
                await container.remove(force=True, volumes=True)

        try:
            process = await container.begin(stdin=bool(options.get("stdin") or options.get("stdin_open")), leave=leave)
        except BaseException:
            await self.client.loop.finish(leave())
            raise
        if stream:
            return process
        return (await process.communicate(input, timeout=timeout, output=output)).checked(check)

    async def create(self, image: str, command: Sequence[str] | str = (), **options: Unpack[Options]) -> AsyncContainer:
        """Makes a container and does not start it. Raises APIError; an image that is not there is pulled first.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     container = engine.create("busybox", ["true"], name="prepared")
        ...     print(container.name, container.status)
        ...     container.remove()
        prepared created
        """
        body, name, platform = container_body(image, command, options)
        return await self.client.loop.acquire(
            self._create(body, name, platform), lambda made: made.remove(force=True, volumes=True)
        )

    async def _create(self, body: dict[str, Any], name: str, platform: str) -> AsyncContainer:
        try:
            made = await self.client.containers.create(body, name=name, platform=platform)
        except APIError as error:
            if not error.not_found or "No such image" not in error.message:
                raise
            await self.images.pull(body["Image"], platform=platform)
            made = await self.client.containers.create(body, name=name, platform=platform)
        return AsyncContainer(self, str(made["Id"]))

    async def start(self, image: str, command: Sequence[str] | str = (), **options: Unpack[Options]) -> AsyncContainer:
        """Makes a container and starts it in the background. It is the caller's to stop and to remove.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"]) as container:
        ...         container.exec(["echo", "from inside"]).output
        'from inside\\n'
        """
        container = await self.create(image, command, **options)
        try:
            await container.start()
        except BaseException:
            await self.client.loop.finish(container.remove(force=True, volumes=True))
            raise
        return container

    # Images.

    async def build(
        self,
        path: str | os.PathLike[str] | None = None,
        tag: str | Sequence[str] = (),
        *,
        text: str | None = None,
        dockerfile: str | os.PathLike[str] = "",
        context: Mapping[str, bytes | str] | None = None,
        fileobj: Input | None = None,
        args: Pairs | None = None,
        buildargs: Pairs | None = None,
        secrets: Mapping[str, bytes | str | os.PathLike[str]] | None = None,
        target: str = "",
        labels: Pairs | None = None,
        platform: str = "",
        network: str = "",
        extra_hosts: Mapping[str, str] | None = None,
        cache_from: Sequence[str] = (),
        inline_cache: bool = False,
        no_cache: bool = False,
        nocache: bool = False,
        pull: bool = False,
        output: Callable[[str], object] | None = None,
        progress: Callable[[BuildEvent], object] | None = None,
    ) -> AsyncImage:
        """Builds an image from the folder `path`, and from its Dockerfile, or from one that is given as a `text`.

        `context` are files in memory, by their paths, and `fileobj` is a context as a tar, each in place of `path`.
        `dockerfile` names another one than `path`/Dockerfile, also outside of the folder. `tag` is a name or several,
        `args` (docker-py: `buildargs`) are the build arguments. `secrets` are bytes, text or paths by the ids that RUN
        --mount=type=secret names. `inline_cache` writes into the image what another build can take with `cache_from`.
        `output` is given what the build says as it comes, and `progress` each BuildEvent. Raises BuildFailed, whose
        `exit_code` is that of the command which failed, and APIError; OSError for files that cannot be read.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     image = engine.build(text="FROM busybox\\nARG WHO\\nRUN echo hello $WHO > /hello", args={"WHO": "you"})
        ...     engine.run(image.id, ["cat", "/hello"]).output
        ...     image.remove()
        'hello you\\n'
        >>> dockerfile = '''
        ... FROM busybox AS base
        ... COPY greeting /
        ... RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length
        ... FROM base AS other
        ... RUN false
        ... '''
        >>> files = {"Dockerfile": dockerfile, "greeting": "ahoy"}
        >>> seen = []
        >>> with wherry.connect() as engine:
        ...     image = engine.build(
        ...         context=files, target="base", secrets={"token": b"1234"}, no_cache=True,
        ...         progress=lambda event: seen.append(event.type),
        ...     )
        ...     engine.run(image.id, "cat /greeting /length").output
        ...     image.remove()
        'ahoy4\\n'
        >>> seen.count("done"), seen[-1]
        (3, 'built')
        """
        arguments = named(args or {}) | named(buildargs or {})
        if inline_cache:
            arguments["BUILDKIT_INLINE_CACHE"] = "1"
        query = builds.query_of(
            buildargs=arguments,
            target=target,
            labels=named(labels or {}),
            platform=platform,
            networkmode=network,
            extrahosts=[f"{name}:{address}" for name, address in (extra_hosts or {}).items()],
            cachefrom=[*cache_from],
            nocache=no_cache or nocache,
            pull=pull,
        )
        query["t"] = [tag] if isinstance(tag, str) else [*tag]
        request = builds.Request(query, path, text, dockerfile, context, fileobj, secrets, output, progress)
        return AsyncImage(self, await builds.build(self.client, request))

    async def login(self, username: str, password: str, *, registry: str = "") -> None:
        """Logs in at a registry (Docker's own if none is named) for the pulls and pushes of this connection.

        Nothing is written down. Raises APIError when the registry refuses.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     try:
        ...         engine.login("me", "secret", registry="127.0.0.1:1")
        ...     except wherry.APIError as error:
        ...         error.status
        500
        """
        address = server(registry)
        credentials = {"username": username, "password": password, "serveraddress": address}
        answer = await self.client.system.login(credentials)
        if token := answer.get("IdentityToken"):
            credentials = {"username": username, "identitytoken": str(token), "serveraddress": address}
        self._log_ins[address] = credentials

    def authorization(self, domain: str) -> str:
        """The X-Registry-Auth header for a registry, "" where nobody has logged in."""
        found = self._log_ins.get(server(domain))
        return urlsafe_b64encode(dumps(found)).decode() if found else ""

    # The engine itself.

    async def events(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        filters: Mapping[str, Sequence[str] | str] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """What happens, as it happens: `Type`, `Action`, `Actor`. With `until`, up to then.

        >>> import datetime, wherry
        >>> with wherry.connect() as engine:
        ...     begin = datetime.datetime.now()
        ...     with engine.create("busybox", name="seen"):
        ...         pass
        ...     seen = engine.events(since=begin, until=datetime.datetime.now(), filters={"container": "seen"})
        ...     [event["Action"] for event in seen]
        ['create', 'destroy']
        """
        query = {"since": seconds(since), "until": seconds(until), "filters": filtered(filters)}
        response = await self.client.system.events(**query)
        async for event in response.values():
            yield event

    async def version(self) -> dict[str, Any]:
        """What the engine says of itself: `Version`, `ApiVersion`, `KernelVersion`…"""
        return await self.client.system.version()

    async def info(self) -> dict[str, Any]:
        """What the engine says of itself and its machine: `Containers`, `MemTotal`, `Driver`…"""
        return await self.client.system.info()

    async def df(self) -> dict[str, Any]:
        """What lies on the disk: `Images`, `Containers`, `Volumes`, `BuildCache`."""
        return await self.client.system.df()

    async def ping(self) -> bool:
        """True when the engine answers. Raises ConnectionFailed.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     engine.ping()
        True
        """
        await self.client.ping()
        return True
