"""An engine for this process: for pytest, notebooks and CI."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
from typing import TYPE_CHECKING

from wherry.client.blocking import plain
from wherry.client.engine import AsyncEngine, aconnect, client_of
from wherry.client.local import StartFailed, last_words, python

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from wherry.client.sync import Engine

_PATIENCE = 60.0  # seconds that an engine may take to start


def embedded(root: str | os.PathLike[str] | None = None, *, arguments: Sequence[str] = ()) -> Embedded:
    """An engine of this process's own, which ends with it, and all of its containers too, even by kill -9.

    Its state is in the folder `root`, where the next one finds images, volumes and what else is kept; without one, it
    is in a folder that is removed at the end. `arguments` are further ones of `wherry daemon`. As a context it gives
    what `connect` does, or with `async with` what `aconnect` does.

    >>> import wherry
    >>> with wherry.embedded() as engine:
    ...     [image.tags for image in engine.images.list()]
    []
    """
    return Embedded(root, arguments)


class Embedded:
    """An engine of this process's own, from the first `connect` to `close`. `host` is its address, `root` its folder.

    It ends when nobody holds its lease any more: a pipe, whose other side this process and those that it forks have.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, arguments: Sequence[str] = ()) -> None:
        """See `embedded`."""
        self.root = "" if root is None else os.path.abspath(os.fspath(root))
        self._is_scratch = root is None
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._lease = -1
        self._engine: Engine | None = None
        self._async_engine: AsyncEngine | None = None

    def __repr__(self) -> str:
        return f"<Embedded {self.root or '(not started)'}>"

    @property
    def host(self) -> str:
        """For WHERRY_HOST and DOCKER_HOST."""
        self.start()
        return f"unix://{self.root}/wherry.sock"

    @property
    def pid(self) -> int:
        """The engine's process."""
        self.start()
        assert self._process is not None
        return self._process.pid

    def connect(self) -> Engine:
        """A connection, as `wherry.connect` gives it."""
        engine: Engine = plain(AsyncEngine(client_of(self.host, None, None)))
        return engine

    def aconnect(self) -> AsyncEngine:
        """A connection, as `wherry.aconnect` gives it."""
        return aconnect(self.host)

    def start(self) -> None:
        """Starts it, if it does not run. Raises StartFailed, with what the engine said last."""
        if self._process is not None:
            return
        import subprocess

        if self._is_scratch:
            # In /var/tmp, as an overlay's upper directory cannot be on every tmpfs; a socket's path has to be short
            self.root = tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp")
        os.makedirs(self.root, mode=0o711, exist_ok=True)
        log = os.path.join(self.root, "daemon.log")
        lease, self._lease = os.pipe()
        ready, tell = os.pipe()
        try:
            with open(log, "ab") as output:
                said_before = output.tell()
                self._process = subprocess.Popen(
                    [*python(), "-m", "wherry.daemon", *self._words(tell, lease)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lease, tell),
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for this process, which ends it in its own time
                )
            os.close(tell)
            tell = -1
            readable, _, _ = select.select([ready], [], [], _PATIENCE)
            if not readable or not os.read(ready, 64):
                words = last_words(log, said_before)
                self.close()
                if self._is_scratch:
                    shutil.rmtree(self.root)
                raise StartFailed(f"the engine did not start; it said last:\n{words}")
        finally:
            for descriptor in (lease, ready, tell):
                if descriptor >= 0:
                    os.close(descriptor)

    def _words(self, ready: int, lease: int) -> list[str]:
        root = self.root
        words = ["--host", f"unix://{root}/wherry.sock", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec"]
        words += ["--live-restore=false", "--shutdown-timeout", "0", "--ready-fd", str(ready), "--lease-fd", str(lease)]
        return [*words, *(["--scratch", root] if self._is_scratch else []), *self._arguments]

    def close(self) -> None:
        """Ends the engine and its containers, and waits until they have ended."""
        if self._process is None:
            return
        os.close(self._lease)
        self._process.wait()
        self._process = None

    def __enter__(self) -> Engine:
        self._engine = self.connect()
        return self._engine

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.close()
        self.close()

    async def __aenter__(self) -> AsyncEngine:
        import asyncio

        await asyncio.to_thread(self.start)
        self._async_engine = self.aconnect()
        return self._async_engine

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        if self._async_engine is not None:
            self._async_engine.close()
        await asyncio.to_thread(self.close)
