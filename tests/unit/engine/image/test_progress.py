"""The progress stream: its lines, how often they come, and what becomes of its work."""

import asyncio

import pytest

from wherry.common.errors import NotFound
from wherry.engine.image.transfers import Message, Meter, Tell, message_stream, progress_message, status, step


@pytest.mark.parametrize(
    ("current", "total", "bar"),
    [
        (0, 100, "[>" + " " * 49 + "]       0B/100B"),
        (50, 100, "[" + "=" * 24 + ">" + " " * 25 + "]      50B/100B"),
        (1_500_000, 1_500_000, "[" + "=" * 49 + ">]    1.5MB/1.5MB"),
        (5, 0, "[>" + " " * 49 + "]       5B/0B"),
        (200, 100, "[" + "=" * 49 + ">]     200B/100B"),
    ],
)
def test_the_bar(current: int, total: int, bar: str) -> None:
    found = progress_message("Downloading", "abc", current, total)
    assert found["progress"] == bar
    assert found["progressDetail"] == {"current": current, "total": total}


def test_lines() -> None:
    assert status("Done") == {"status": "Done"}
    assert status("Done", "abc") == {"status": "Done", "id": "abc"}
    assert step("Waiting", "abc") == {"status": "Waiting", "progressDetail": {}, "id": "abc"}


async def test_a_meter_tells_no_more_than_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    told: list[Message] = []
    meter = Meter(told.append, "Downloading", "abc", 1000)
    for at in range(10):
        meter.at(at)
    assert [each["progressDetail"]["current"] for each in told] == [0]
    now += 1
    meter.at(10)
    assert [each["progressDetail"]["current"] for each in told] == [0, 10]


async def test_what_the_work_raises_comes_after_what_it_told() -> None:
    async def work(tell: Tell) -> None:
        tell(status("begun"))
        raise NotFound("gone")

    found = message_stream(work)
    assert await anext(found) == {"status": "begun"}
    with pytest.raises(NotFound, match="gone"):
        await anext(found)


async def test_who_stops_listening_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work(tell: Tell) -> None:
        try:
            tell(status("begun"))
            await asyncio.sleep(60)
        finally:
            ended.set()

    found = message_stream(work)
    await anext(found)
    await found.aclose()
    assert ended.is_set()
