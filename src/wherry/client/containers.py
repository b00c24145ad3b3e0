"""Containers as objects: `engine.containers`, and what each of them can do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from wherry.client import files
from wherry.client.options import changes, pairs, words
from wherry.client.process import AsyncProcess, Result, pieces_of
from wherry.client.streams import frames
from wherry.client.transport import APIError, ClientError

if TYPE_CHECKING:
    import os
    from typing import Self

    from wherry.client.client import AsyncClient
    from wherry.client.engine import AsyncEngine
    from wherry.client.images import AsyncImage
    from wherry.client.options import Limits, Pairs
    from wherry.client.process import Input
    from wherry.client.times import Moment


class AsyncContainerCollection:
    """`engine.containers`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str] | str] | None = None
    ) -> list[AsyncContainer]:
        """The running containers, the newest first, or `all`; `filters` as of `ps --filter`: {"label": "a=b"}.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"], labels={"test": "list"}):
        ...         [found.image for found in engine.containers.list(filters={"label": ["test=list"]})]
        ['busybox']
        """
        found = await self._engine.client.containers.list(all=all, filters=filtered(filters))
        return [AsyncContainer(self._engine, str(each["Id"])) for each in found]

    async def get(self, name: str) -> AsyncContainer:
        """By name, id, or the beginning of an id. Raises APIError, whose `not_found` is true when there is none."""
        return AsyncContainer(self._engine, str((await self._engine.client.containers.inspect(name))["Id"]))

    async def prune(self, *, filters: Mapping[str, Sequence[str] | str] | None = None) -> dict[str, Any]:
        """Removes all that do not run: `ContainersDeleted`, and `SpaceReclaimed` in bytes.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     _ = engine.create("busybox", ["true"], labels={"to": "go"})
        ...     len(engine.containers.prune(filters={"label": "to=go"})["ContainersDeleted"])
        1
        """
        return await self._engine.client.containers.prune(filtered(filters))


class AsyncContainer:
    """A container. As a context it is removed at the end of the block, running or not.

    Two are equal that stand for the same one. All of its methods raise APIError when the engine refuses.
    """

    id: str

    def __init__(self, engine: AsyncEngine, id: str) -> None:
        self._engine = engine
        self._client: AsyncClient = engine.client
        self.id = id

    def __repr__(self) -> str:
        return f"<AsyncContainer {self.short_id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncContainer) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.loop.finish(self.remove(force=True, volumes=True))

    # What the engine knows of it, now.

    @property
    def short_id(self) -> str:
        """The first twelve digits of `id`."""
        return self.id[:12]

    async def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, now, in the words of the API."""
        return await self._client.containers.inspect(self.id)

    @property
    async def name(self) -> str:
        """Now: another may be given to it."""
        return str((await self.inspect())["Name"]).removeprefix("/")

    @property
    async def image(self) -> str:
        """What it was made from, as it was named then."""
        return str((await self.inspect())["Config"]["Image"])

    @property
    async def labels(self) -> dict[str, str]:
        """Names and values."""
        return dict((await self.inspect())["Config"].get("Labels") or {})

    @property
    async def status(self) -> str:
        """Now: created, running, paused, restarting, removing, exited or dead."""
        return str((await self.inspect())["State"]["Status"])

    @property
    async def health(self) -> str:
        """Now: healthy, unhealthy or starting; "unknown" where nothing checks it."""
        return str(((await self.inspect())["State"].get("Health") or {}).get("Status", "unknown"))

    @property
    async def ports(self) -> dict[str, list[int]]:
        """The host's ports by the container's: {"80/tcp": [32768]}; [] for one that is exposed and not published.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"], ports={80: 0}) as container:
        ...         len(container.ports["80/tcp"])
        1
        """
        found = (await self.inspect())["NetworkSettings"].get("Ports") or {}
        # One port of all the host's addresses is there twice, for IPv4 and for IPv6.
        return {
            port: list(dict.fromkeys(int(each["HostPort"]) for each in bindings or ()))
            for port, bindings in found.items()
        }

    async def top(self, ps_args: str = "") -> dict[str, Any]:
        """Its processes as ps(1) shows them: `Titles`, and `Processes` as lists of texts."""
        return await self._client.containers.top(self.id, ps_args)

    async def diff(self) -> list[dict[str, Any]]:
        """The files that differ from its image's: `Path`, and `Kind`, 0 for changed, 1 for new, 2 for gone.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.create("busybox", ["true"]) as container:
        ...         container.write("/hello", b"")
        ...         container.diff()
        [{'Path': '/hello', 'Kind': 1}]
        """
        return await self._client.containers.changes(self.id)

    @overload
    def stats(self, *, stream: Literal[False] = False) -> Coroutine[Any, Any, dict[str, Any]]: ...

    @overload
    def stats(self, *, stream: Literal[True]) -> AsyncIterator[dict[str, Any]]: ...

    def stats(self, *, stream: bool = False) -> Coroutine[Any, Any, dict[str, Any]] | AsyncIterator[dict[str, Any]]:
        """What it uses, in the words of the API, bytes and nanoseconds: one sample, or with `stream` one each second.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
        ...     samples = container.stats(stream=True)
        ...     [next(samples)["memory_stats"]["usage"] > 0 for _ in range(2)]
        [True, True]
        """
        return self._samples() if stream else self._sample()

    async def _sample(self) -> dict[str, Any]:
        response = await (await self._client.containers.stats(self.id, stream=False)).response()
        sample: dict[str, Any] = await response.json()
        return sample

    async def _samples(self) -> AsyncIterator[dict[str, Any]]:
        response = await (await self._client.containers.stats(self.id, stream=True)).response()
        async for sample in response.values():
            yield sample

    # What is done with it.

    async def start(self) -> None:
        """Starts it in the background; one that runs goes on."""
        await self._client.containers.start(self.id)

    async def stop(self, timeout: int | None = None, *, signal: str = "") -> None:
        """Asks it to end, and ends it after so many seconds (None: as the container says, 10)."""
        await self._client.containers.stop(self.id, timeout=timeout, signal=signal)

    async def restart(self, timeout: int | None = None) -> None:
        """Stops it as `stop` does, if it runs, and starts it."""
        await self._client.containers.restart(self.id, timeout=timeout)

    async def kill(self, signal: str | int = "KILL") -> None:
        """Sends its first process a signal: "KILL", "SIGHUP", 9."""
        await self._client.containers.kill(self.id, str(signal))

    async def pause(self) -> None:
        """Freezes all of its processes."""
        await self._client.containers.pause(self.id)

    async def unpause(self) -> None:
        """Lets them run on."""
        await self._client.containers.unpause(self.id)

    async def rename(self, name: str) -> None:
        """Gives it another name.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.create("busybox", name="before") as container:
        ...     container.rename("after")
        ...     container.name
        'after'
        """
        await self._client.containers.rename(self.id, name)

    async def update(self, **limits: Unpack[Limits]) -> None:
        """Changes its limits while it runs, in the words it was made with: `memory`, `cpus`, `pids_limit`, `restart`…

        >>> import wherry
        >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
        ...     container.update(memory="64m", memory_swap="64m", pids_limit=20)
        ...     container.inspect()["HostConfig"]["PidsLimit"]
        20
        """
        await self._client.containers.update(self.id, changes(limits))

    async def wait(self, *, timeout: float | None = None, condition: str = "not-running") -> int:
        """Waits for its end (or "next-exit", "removed"); the exit code. Raises TimeoutError after so many seconds.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
        ...     try:
        ...         container.wait(timeout=0.1)
        ...     except TimeoutError:
        ...         container.kill()
        ...         container.wait()
        137
        """
        async with self._client.loop.timeout(timeout):
            return int((await self._client.containers.wait(self.id, condition))["StatusCode"])

    async def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """`force`: also a running one; `volumes`: with the volumes that have no name. One that is gone is no error."""
        try:
            await self._client.containers.remove(self.id, force=force, volumes=volumes)
        except APIError as error:
            if not error.not_found:
                raise

    async def commit(
        self,
        repository: str = "",
        tag: str = "",
        *,
        message: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> AsyncImage:
        """Makes an image of its files. `changes` are lines of a Dockerfile: 'CMD ["sh"]'.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.create("busybox", ["true"]) as container:
        ...     container.write("/hello", "world")
        ...     image = container.commit("kept", changes=["CMD cat /hello"])
        ...     print(engine.run("kept").output)
        ...     image.remove(force=True)
        world
        """
        made = await self._client.containers.commit(
            self.id,
            repo=repository,
            tag=tag,
            comment=message,
            author=author,
            pause="1" if pause else "0",
            changes="\n".join(changes),
        )
        return self._engine.images.made(made)

    # What it says, and further commands in it.

    @overload
    def logs(
        self,
        *,
        stream: Literal[False] = False,
        stdout: bool = True,
        stderr: bool = True,
        tail: int | None = None,
        timestamps: bool = False,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: None = None,
    ) -> Coroutine[Any, Any, str]: ...

    @overload
    def logs(
        self,
        *,
        stream: Literal[True],
        stdout: bool = True,
        stderr: bool = True,
        tail: int | None = None,
        timestamps: bool = False,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: bool | None = None,
    ) -> AsyncIterator[bytes]: ...

    def logs(
        self,
        *,
        stream: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tail: int | None = None,
        timestamps: bool = False,
        since: Moment | None = None,
        until: Moment | None = None,
        follow: bool | None = None,
    ) -> Coroutine[Any, Any, str] | AsyncIterator[bytes]:
        """What it has printed, as text; with `stream` in pieces, and also what it prints from now on, up to its end.

        `tail`: only so many of the last lines; `since` and `until`: seconds since 1970, a datetime, a timedelta back
        from now, or text as of `logs --since`; `follow=False`: a stream of what there is.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", "for i in 1 2 3; do echo line $i; done") as container:
        ...         b"".join(container.logs(stream=True))
        ...         container.logs(tail=1), container.logs(until=0.5), container.logs(since="1h", stderr=False)
        b'line 1\\nline 2\\nline 3\\n'
        ('line 3\\n', '', 'line 1\\nline 2\\nline 3\\n')
        """
        from wherry.client.times import seconds

        pieces = self._logs(
            stdout=stdout,
            stderr=stderr,
            follow=stream if follow is None else follow,
            tail=tail,
            timestamps=timestamps,
            since=seconds(since),
            until=seconds(until),
        )
        return pieces if stream else _joined(pieces)

    async def _logs(self, **query: Any) -> AsyncIterator[bytes]:
        tty = bool((await self.inspect())["Config"]["Tty"])
        response = await self._client.containers.logs(self.id, **query)
        try:
            if tty:
                while piece := await response.piece():
                    yield bytes(piece)
            else:
                async for _, data in frames(response):
                    yield data
        finally:
            response.close()

    async def attach(self, *, stdin: bool = False, logs: bool = False) -> AsyncProcess:
        """Its streams, from now on; with `logs` also what it has printed before. It runs on when they are left.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.start("busybox", ["cat"], stdin=True) as container:
        ...     with container.attach(stdin=True) as process:
        ...         process.write("to and fro")
        ...         next(iter(process))
        b'to and fro'
        """
        tty = bool((await self.inspect())["Config"]["Tty"])
        pending = await self._client.containers.attach(self.id, stdin=stdin, logs=logs)
        return self._process(*await pending.take_over(), tty, self.wait, _nothing)

    def _process(
        self, stream: Any, early: bytes, tty: bool, ending: Callable[[], Any], leave: Callable[[], Any]
    ) -> AsyncProcess:
        containers = self._client.containers

        async def resize(rows: int, columns: int) -> None:
            await containers.resize(self.id, rows, columns)

        return AsyncProcess(
            self._client, self.id, stream, early, tty=tty, kill=self.kill, resize=resize, ending=ending, leave=leave
        )

    async def begin(self, *, stdin: bool, leave: Callable[[], Any]) -> AsyncProcess:
        """Starts it, with its streams. `leave` is what `AsyncProcess.close` ends with."""
        containers = self._client.containers
        tty = bool((await self.inspect())["Config"]["Tty"])
        attaching = await containers.attach(self.id, stdin=stdin)
        waiting = await containers.begin_wait(self.id, "next-exit")
        stream, early = await attaching.take_over()
        ended = await waiting.response()

        async def ending() -> int:
            return int((await ended.json())["StatusCode"])

        async def left() -> None:
            ended.close()
            await leave()

        process = self._process(stream, early, tty, ending, left)
        try:
            await containers.start(self.id)
        except BaseException:
            await process.close()
            raise
        return process

    @overload
    async def exec(
        self,
        command: Sequence[str] | str,
        *,
        stream: Literal[False] = False,
        detach: Literal[False] = False,
        input: Input | None = None,
        env: Pairs | None = None,
        environment: Pairs | None = None,
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        privileged: bool = False,
        timeout: float | None = None,
        check: bool = False,
        output: Callable[[bytes], object] | None = None,
    ) -> Result: ...

    @overload
    async def exec(
        self,
        command: Sequence[str] | str,
        *,
        stream: Literal[True],
        stdin: bool = False,
        env: Pairs | None = None,
        environment: Pairs | None = None,
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        privileged: bool = False,
    ) -> AsyncProcess: ...

    @overload
    async def exec(
        self,
        command: Sequence[str] | str,
        *,
        detach: Literal[True],
        env: Pairs | None = None,
        environment: Pairs | None = None,
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        privileged: bool = False,
    ) -> AsyncProcess: ...

    async def exec(
        self,
        command: Sequence[str] | str,
        *,
        stream: bool = False,
        detach: bool = False,
        stdin: bool = False,
        input: Input | None = None,
        env: Pairs | None = None,
        environment: Pairs | None = None,
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        privileged: bool = False,
        timeout: float | None = None,
        check: bool = False,
        output: Callable[[bytes], object] | None = None,
    ) -> Result | AsyncProcess:
        """Runs one more command in it while it runs, and waits for its end.

        `command`, `input`, `check`, `timeout` and `output` are as for `Engine.run`; after `timeout` seconds the
        command is killed. With `stream` its streams are the answer, as soon as it runs, and with `detach` it runs in
        the background: see `Process`. `environment` is docker-py's word for `env`.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.start("busybox", ["sleep", "60"]) as container:
        ...     print(container.exec(["wc", "-c"], input="twelve bytes").output)
        ...     print(container.exec("echo $A; test -t 0", env={"A": "B"}, tty=True))
        ...     process = container.exec("sleep 0.1; exit 7", detach=True)
        ...     print(process.wait())
        12
        <BLANKLINE>
        <Result exit_code=0 output='B\\r\\n'>
        7
        """
        if (stream or detach) and (input is not None or timeout is not None or check or output is not None):
            raise TypeError("input, timeout, check and output are for an exec whose end is waited for")
        if env is not None and environment is not None:
            raise TypeError("env and environment are the same, Docker's Env: give one of them")
        config = {
            "AttachStdin": stdin or input is not None,
            "AttachStdout": not detach,
            "AttachStderr": not detach,
            "Tty": tty,
            "Privileged": privileged,
            "Cmd": words(command),
            "Env": pairs(env or environment or {}),
            "User": str(user),
            "WorkingDir": workdir,
        }
        process = await self._exec(config, detach=detach)
        if stream or detach:
            return process
        return (await process.communicate(input, timeout=timeout, output=output)).checked(check)

    async def _exec(self, config: dict[str, Any], *, detach: bool) -> AsyncProcess:
        execs, id = self._client.execs, await self._client.execs.create(self.id, config)

        async def kill(signal: str) -> None:
            await execs.kill(id, signal)

        async def resize(rows: int, columns: int) -> None:
            await execs.resize(id, rows, columns)

        async def ending() -> int:
            return await self._exec_code(id)

        tty = bool(config["Tty"])
        process = AsyncProcess(
            self._client, id, None, tty=tty, kill=kill, resize=resize, ending=ending, leave=_nothing if detach else None
        )
        begin = {"Detach": detach, "Tty": tty}
        try:
            if detach:
                await execs.start(id, begin)
            else:
                process.join(*await (await execs.attach(id, begin)).take_over())
        except Exception:
            raise  # the engine has refused it
        except BaseException:
            await self._client.loop.finish(process.kill())
            raise
        return process

    async def _exec_code(self, id: str) -> int:
        """Of an exec, as soon as it has ended. Raises ClientError when it could not begin."""
        found = await self._client.execs.inspect(id)
        if found["ExitCode"] is None and not found["Running"]:
            raise ClientError("the command could not be started: the container does not run any more, or is paused")
        if not found["Running"]:
            return int(found["ExitCode"])
        filters = {"container": [self.id], "event": ["exec_die"]}
        response = await self._client.system.events(filters=filters)
        try:
            found = await self._client.execs.inspect(id)  # it may have ended before anybody listened
            while found["Running"]:
                async for event in response.arrived():
                    if event["Actor"]["Attributes"].get("execID") == id:
                        return int(event["Actor"]["Attributes"]["exitCode"])
            return int(found["ExitCode"] or 0)
        finally:
            response.close()

    # Its files, whether it runs or not.

    async def read(self, path: str) -> bytes:
        """The content of a file in it; a link is followed. Raises APIError, IsADirectoryError.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.create("busybox", ["true"]) as container:
        ...         container.write("/tmp/greeting", b"hello")
        ...         container.read("/tmp/greeting")
        b'hello'
        """
        return await files.read(self._client, self.id, path)

    async def write(self, path: str, content: Input, *, mode: int = 0o644) -> None:
        """Puts a file into it; its directory must be there. It belongs to root.

        `content` is bytes, text, a `pathlib.Path`, an open file, or what gives pieces when it is iterated over.
        """
        await files.write(self._client, self.id, path, content, mode)

    async def copy_to(self, source: str | os.PathLike[str], path: str) -> None:
        """Copies a local file or folder into it, to `path`; where that ends with a slash, into it by its own name.

        >>> import pathlib, tempfile, wherry
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "a").write_text("1") and None
        >>> with wherry.connect() as engine, engine.create("busybox", ["cat", "/srv/a"]) as container:
        ...     container.copy_to(folder, "/srv")
        ...     container.copy_from("/srv", folder / "back")
        >>> (folder / "back" / "a").read_text()
        '1'
        """
        await files.copy_to(self._client, self.id, source, path)

    async def copy_from(self, path: str, destination: str | os.PathLike[str]) -> None:
        """Copies a file or a folder of it to `destination`, or into it where that is a folder.

        The container's word is not trusted: nothing is written beside the destination, and devices are refused.
        """
        await files.copy_from(self._client, self.id, path, destination)

    async def get_archive(self, path: str) -> tuple[AsyncIterator[bytes], dict[str, Any]]:
        """A file or a folder of it as the pieces of a tar, and what is known of it: `name`, `size`, `mode`, `mtime`."""
        found, response = await self._client.containers.get_archive(self.id, path)
        return response.pieces(), found

    async def put_archive(self, path: str, data: Input) -> None:
        """Unpacks a tar into a folder of it."""
        await self._client.containers.put_archive(self.id, path, pieces_of(self._client.loop, data))

    async def export(self) -> AsyncIterator[bytes]:
        """All of its files as the pieces of a tar.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.create("busybox") as container:
        ...     sum(map(len, container.export())) > 1_000_000
        True
        """
        response = await self._client.containers.export(self.id)
        try:
            while piece := await response.piece():
                yield bytes(piece)
        finally:
            response.close()


async def _joined(pieces: AsyncIterator[bytes]) -> str:
    return b"".join([piece async for piece in pieces]).decode("utf-8", "replace")


async def _nothing() -> None:
    """What runs on is left alone."""


def filtered(filters: Mapping[str, Sequence[str] | str] | None) -> dict[str, list[str]]:
    """As the API has them."""
    return {name: [values] if isinstance(values, str) else [*values] for name, values in (filters or {}).items()}
