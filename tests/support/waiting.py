"""Waiting for what comes about by itself, in tests of asynchronous code."""

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Raises TimeoutError when it does not come to hold."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # nobody sets an event for it
            await asyncio.sleep(0.002)
