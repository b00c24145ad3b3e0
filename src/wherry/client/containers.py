"""Containers for Python programs: `engine.containers`, `Container`, and what a command that ran left, `Result`."""

from __future__ import annotations

import io
import posixpath
import select
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from wherry.client import archives
from wherry.client.client import Client, container_path
from wherry.client.options import pairs, words
from wherry.client.streams import STDERR, STDOUT, Demultiplexer, frames
from wherry.client.transport import APIError, ClientError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from wherry.client.endpoint import Stream

_BUFFER = 1 << 16


class Result:
    """How a command ended. `exit_code`: 128 + n where signal n ended it; `stdout` and `stderr` are bytes."""

    def __init__(self, exit_code: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        self.exit_code = exit_code
        self.stdout = b"".join(data for stream, data in pieces if stream == STDOUT)
        self.stderr = b"".join(data for stream, data in pieces if stream == STDERR)
        self._pieces = pieces

    @property
    def output(self) -> str:
        """Both streams as text, in the order in which they came. What is no UTF-8 becomes �."""
        return b"".join(data for _, data in self._pieces).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<Result exit_code={self.exit_code} output={self.output[:60]!r}>"


class CommandFailed(ClientError):
    """A command ended with an exit code other than 0, and `check` was asked for; `result` is all of it."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"the command ended with exit code {result.exit_code}: {result.output.strip()[-500:]}")
        self.result = result


class Containers:
    """`engine.containers`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None) -> list[Container]:
        """The running containers, the newest first, or `all`; `filters` as of `ps --filter`: {"label": ["a=b"]}.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"], labels={"test": "list"}):
        ...         [found.image for found in engine.containers.list(filters={"label": ["test=list"]})]
        ['busybox']
        """
        wanted = {name: [*values] for name, values in (filters or {}).items()}
        return [
            Container(self._client, str(each["Id"])) for each in self._client.containers.list(all=all, filters=wanted)
        ]

    def get(self, name: str) -> Container:
        """By name, id, or the beginning of an id. Raises APIError, whose `not_found` is true when there is none."""
        return Container(self._client, str(self._client.containers.inspect(name)["Id"]))


class Container:
    """A container. As a context it is removed at the end of the block, running or not.

    All of its methods raise APIError when the engine refuses.
    """

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove(force=True, volumes=True)

    def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, now, in the words of the API."""
        return self._client.containers.inspect(self.id)

    @property
    def name(self) -> str:
        """Now: another may be given to it."""
        return str(self.inspect()["Name"]).removeprefix("/")

    @property
    def image(self) -> str:
        """What it was made from, as it was named then."""
        return str(self.inspect()["Config"]["Image"])

    @property
    def status(self) -> str:
        """Now: created, running, paused, restarting, removing, exited or dead."""
        return str(self.inspect()["State"]["Status"])

    @property
    def ports(self) -> dict[str, list[int]]:
        """The host's ports by the container's: {"80/tcp": [32768]}; [] for one that is exposed and not published.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"], ports={80: 0}) as container:
        ...         len(container.ports["80/tcp"])
        1
        """
        found = self.inspect()["NetworkSettings"].get("Ports") or {}
        # One port of all the host's addresses is there twice, for IPv4 and for IPv6.
        return {
            port: list(dict.fromkeys(int(each["HostPort"]) for each in bindings or ()))
            for port, bindings in found.items()
        }

    def start(self) -> None:
        """Starts it in the background; one that runs goes on."""
        self._client.containers.start(self.id)

    def stop(self, timeout: int | None = None) -> None:
        """Asks it to end, and ends it after so many seconds (None: as the container says, 10)."""
        self._client.containers.stop(self.id, timeout=timeout)

    def restart(self, timeout: int | None = None) -> None:
        """Stops it as `stop` does, if it runs, and starts it."""
        self._client.containers.restart(self.id, timeout=timeout)

    def kill(self, signal: str = "KILL") -> None:
        """Sends its first process a signal: "KILL", "SIGHUP", "9"."""
        self._client.containers.kill(self.id, signal)

    def pause(self) -> None:
        """Freezes all of its processes."""
        self._client.post(container_path(self.id, "pause"))

    def unpause(self) -> None:
        """Lets them run on."""
        self._client.post(container_path(self.id, "unpause"))

    def wait(self) -> int:
        """Waits for its end; the exit code."""
        return int(self._client.containers.wait(self.id)["StatusCode"])

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """`force`: also a running one; `volumes`: with the volumes that have no name. One that is gone is no error."""
        try:
            self._client.containers.remove(self.id, force=force, volumes=volumes)
        except APIError as error:
            if not error.not_found:
                raise

    @overload
    def logs(self, *, stream: Literal[False] = False, tail: int | None = None, timestamps: bool = False) -> str: ...

    @overload
    def logs(self, *, stream: Literal[True], tail: int | None = None, timestamps: bool = False) -> Iterator[bytes]: ...

    def logs(self, *, stream: bool = False, tail: int | None = None, timestamps: bool = False) -> str | Iterator[bytes]:
        """What it has printed, as text; with `stream` also what it prints from now on, in pieces, up to its end.

        `tail`: only so many of the last lines.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", "for i in 1 2 3; do echo line $i; done") as container:
        ...         b"".join(container.logs(stream=True))
        ...         container.logs(tail=1)
        b'line 1\\nline 2\\nline 3\\n'
        'line 3\\n'
        """
        pieces = self._logs(follow=stream, tail=tail, timestamps=timestamps)
        return pieces if stream else b"".join(pieces).decode("utf-8", "replace")

    def _logs(self, *, follow: bool, tail: int | None, timestamps: bool) -> Iterator[bytes]:
        tty = bool(self.inspect()["Config"]["Tty"])
        response = self._client.containers.logs(
            self.id, stdout=True, stderr=True, follow=follow, tail=tail, timestamps=timestamps
        )
        try:
            if tty:
                while piece := response.piece():
                    yield bytes(piece)
            else:
                for _, data in frames(response):
                    yield data
        finally:
            response.close()

    def exec(
        self,
        command: Sequence[str] | str,
        *,
        input: bytes | str | None = None,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        check: bool = False,
    ) -> Result:
        """Runs one more command in it while it runs, and waits for its end.

        `command`, `input` and `check` are as for `Engine.run`.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.start("busybox", ["sleep", "60"]) as container:
        ...         container.exec(["wc", "-c"], input="twelve bytes").output
        '12\\n'
        """
        config = {
            "AttachStdin": input is not None,
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": words(command),
            "Env": pairs(env or {}),
            "User": user,
            "WorkingDir": workdir,
        }
        exec_id = self._client.execs.create(self.id, config)
        stream, early = self._client.execs.attach(exec_id, {"Detach": False, "Tty": False}).take_over()
        try:
            _feed(stream, input)
            pieces = _collect(stream, early, tty=False, deadline=None)
        finally:
            stream.close()
        return _checked(Result(int(self._client.execs.inspect(exec_id)["ExitCode"]), pieces), check)

    def read(self, path: str) -> bytes:
        """The content of a file in it, whether it runs or not; a link is followed. Raises APIError, IsADirectoryError.

        >>> import wherry
        >>> with wherry.connect() as engine:
        ...     with engine.create("busybox", ["true"]) as container:
        ...         container.write("/tmp/greeting", b"hello")
        ...         container.read("/tmp/greeting")
        b'hello'
        """
        import tarfile

        found = archives.stat_path(self._client, self.id, path)
        if found["mode"] & archives.SYMLINK:
            path = found["linkTarget"]
        _, response = archives.get_archive(self._client, self.id, path)
        with tarfile.open(fileobj=io.BytesIO(response.read())) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member is not None else None
            if content is None:
                raise IsADirectoryError(f"{path} is not a file of container {self.id[:12]}")
            return content.read()

    def write(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Puts a file into it, whether it runs or not; its directory must be there. It belongs to root."""
        import tarfile

        data = content.encode() if isinstance(content, str) else content
        directory, name = posixpath.split(path)
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(data), mode, int(time.time())
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.addfile(header, io.BytesIO(data))
        archives.put_archive(self._client, self.id, directory or "/", [packed.getvalue()])

    def stats(self) -> dict[str, Any]:
        """What it uses: one sample over a second, in the words of the API; bytes and nanoseconds."""
        found: dict[str, Any] = self._client.get(container_path(self.id, "stats"), stream=0)
        return found

    def run_to_end(
        self, input: bytes | str | None = None, *, timeout: float | None = None, check: bool = False
    ) -> Result:
        """Starts it, and waits for its end with all that it prints; see `Engine.run`."""
        containers = self._client.containers
        tty = bool(self.inspect()["Config"]["Tty"])
        attaching = containers.attach(self.id, stdin=input is not None)
        waiting = containers.begin_wait(self.id, "next-exit")
        stream, early = attaching.take_over()
        ending = waiting.response()
        try:
            containers.start(self.id)
            deadline = None if timeout is None else time.monotonic() + timeout
            writer = _feed(stream, input)
            try:
                pieces = _collect(stream, early, tty=tty, deadline=deadline)
            except TimeoutError:
                self.kill()
                raise TimeoutError(f"the command had not ended after {timeout:g} seconds and was killed") from None
            if writer is not None:
                writer.join()
            return _checked(Result(int(ending.json()["StatusCode"]), pieces), check)
        finally:
            stream.close()
            ending.close()


def _checked(result: Result, check: bool) -> Result:
    if check and result.exit_code:
        raise CommandFailed(result)
    return result


def _feed(stream: Stream, input: bytes | str | None) -> threading.Thread | None:
    """Sends the input beside the reading of the output: a command that does both at once would wait for ever."""
    if input is None:
        return None
    data = input.encode() if isinstance(input, str) else input

    def send() -> None:
        try:
            stream.sendall(data)
            stream.shutdown(1)
        except OSError:
            pass  # it has ended without having read all of it

    writer = threading.Thread(target=send, daemon=True)
    writer.start()
    return writer


def _collect(stream: Stream, early: bytes, *, tty: bool, deadline: float | None) -> list[tuple[int, bytes]]:
    """Everything that comes up to the stream's end, as (stream, bytes). Raises TimeoutError."""
    pieces: list[tuple[int, bytes]] = []
    split = Demultiplexer(lambda number, buffers: pieces.append((number, b"".join(buffers))))
    buffer = bytearray(_BUFFER)
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    data = memoryview(early)
    while True:
        if data and tty:
            pieces.append((STDOUT, bytes(data)))
        elif data:
            split.feed(data)
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        count = stream.recv_into(buffer)
        if not count:
            return pieces
        data = memoryview(buffer)[:count]
