"""What a build's stream ends with when the build does."""

import errno
import json
from collections.abc import AsyncIterator

import pytest

from wherry.api.build import classic_stream, own_stream
from wherry.dockerfile.lexer import Position
from wherry.engine.builder import progress
from wherry.engine.builder.progress import Event
from wherry.engine.builder.request import StepFailed


async def _fails(failure: Exception) -> AsyncIterator[Event]:
    yield progress.Planned(1)
    yield progress.Begun(1, 0, "stage-0", "FROM a", 1)
    raise failure


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        (StepFailed("it failed", Position(), 7), {"message": "it failed", "code": 7}),
        (OSError(errno.ENOSPC, "full"), {"message": "no space left on device"}),
        (RuntimeError("a mistake"), {"message": "internal error: RuntimeError: a mistake"}),
    ],
)
async def test_the_last_line_says_why(failure: Exception, detail: dict[str, object]) -> None:
    for stream in (own_stream(_fails(failure)), classic_stream(_fails(failure), quiet=False)):
        *_, last = [json.loads(line) async for line in stream]
        assert last == {"errorDetail": detail, "error": detail["message"]}


async def test_what_fails_before_the_first_line_is_for_the_status() -> None:
    with pytest.raises(RuntimeError):
        async for _ in classic_stream(_fails(RuntimeError("early")), quiet=True):
            pass
