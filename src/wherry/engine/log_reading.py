"""``logs``: what a container printed, and with ``follow`` what it goes on to print, up to its end."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator

from wherry.engine import clock, log_options
from wherry.engine.roster import Live
from wherry.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from wherry.runtime.logs import Reader

_YOUNG = 50_000_000  # ns


async def read_logs(
    live: Live,
    *,
    stdout: bool,
    stderr: bool,
    follow: bool,
    since: int | None,
    until: int | None,
    tail: int | None,
    timestamps: bool,
    details: bool,
    by_line: bool = False,
) -> AsyncIterator[bytes]:
    """Framed chunks, raw for a terminal; ``by_line``: a frame for each line.

    A container that does not run is not followed, as in Docker.
    """
    log = log_options.log_of(live.record)
    if not follow:
        await _settled(live)
    reader = Reader(
        log,
        stdout=stdout,
        stderr=stderr,
        since=since,
        until=until,
        tail=tail,
        timestamps=timestamps,
        details=details,
        framed=not live.record.config.tty,
        by_line=by_line,
    )
    with contextlib.closing(reader), contextlib.ExitStack() as watching:
        # Watched before the first read, so that nothing is written unseen in between.
        changes = watching.enter_context(_Changes(log.path)) if follow and live.monitor else None
        async for chunk in _in_thread(reader.read()):
            yield chunk
        while changes is not None and not reader.done:
            ended = live.ended.is_set()
            async for chunk in _in_thread(reader.read()):
                yield chunk
            if ended or not await _more(changes, live, until):
                return


async def _settled(live: Live) -> None:
    """Waits for a container that has only just been started to end, or to be no longer that young.

    Docker's own start answers so much later than the process begins that scripts start a short command and read its
    log at once. Here they would come before the first line.
    """
    left = live.record.state.started_at + _YOUNG - clock.now()
    if live.monitor is not None and 0 < left <= _YOUNG:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(live.ended.wait(), left / 1e9)


async def _more(changes: "_Changes", live: Live, until: int | None) -> bool:
    """Waits for the log to change or the container to end. False when the time to stop at has come before that."""
    delay = None if until is None else max(0, until - clock.now()) / 1e9
    waits = [asyncio.ensure_future(changes.wait()), asyncio.ensure_future(live.ended.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, each made in a thread: looking at lines takes time that others would have to wait."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


class _Changes:
    """Tells when the log's file grows, or another takes its place."""

    def __init__(self, path: str) -> None:
        self._changed = asyncio.Event()
        self._inotify = Inotify()
        self._inotify.watch(os.path.dirname(path), IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._hear)

    def __enter__(self) -> "_Changes":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _hear(self) -> None:
        for _ in self._inotify.events():
            self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()
