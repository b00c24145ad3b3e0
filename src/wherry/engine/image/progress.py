"""The messages of Docker's progress stream, of which each is a line of JSON."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from wherry.common.sizes import human_size

Message = dict[str, Any]
Tell = Callable[[Message], None]

_SILENCE = 0.1  # seconds between two messages about how far one thing is


def status(text: str, name: str = "") -> Message:
    """One line of text, of the thing ``name`` if there is one."""
    return {"status": text, "id": name} if name else {"status": text}


def step(text: str, name: str) -> Message:
    """What is done now with the thing ``name``, which keeps its line on a terminal."""
    return {"status": text, "progressDetail": {}, "id": name}


def progress(text: str, name: str, current: int, total: int) -> Message:
    """How far it is, in bytes. The bar's text is what clients of old print as it is."""
    filled = min(50, current * 50 // total) if total else 0
    bar = "=" * max(0, filled - 1) + ">" if filled else ">"
    return {
        "status": text,
        "progressDetail": {"current": current, "total": total},
        "progress": f"[{bar:<50}] {human_size(current):>8}/{human_size(total)}",
        "id": name,
    }


class Meter:
    """Tells how far one thing is, not more often than people can read."""

    def __init__(self, tell: Tell, text: str, name: str, total: int) -> None:
        self._tell = tell
        self._text = text
        self._name = name
        self._total = total
        self._next = 0.0

    def at(self, current: int) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + _SILENCE
            self._tell(progress(self._text, self._name, current, self._total))


async def stream(work: Callable[[Tell], Coroutine[Any, Any, None]]) -> AsyncIterator[Message]:
    """Does ``work`` and yields what it tells. Its error is raised at the end; who stops listening ends it."""
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    task = asyncio.create_task(work(messages.put_nowait))
    task.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        while (message := await messages.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # raised above where somebody listens
            await task
