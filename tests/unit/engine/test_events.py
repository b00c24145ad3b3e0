"""Event filters: every one must be met, by any of its values; of labels by all."""

import asyncio
from pathlib import Path

import pytest

from wherry.common import times
from wherry.engine.events import Events, matches
from wherry.storage.database import Database

EVENT = {
    "Type": "container",
    "Action": "exec_create: ls",
    "Actor": {"ID": "4f2a" * 16, "Attributes": {"name": "web", "image": "debian:bookworm", "tier": "front"}},
    "scope": "local",
}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["exec_create"]}, True),
        ({"event": ["exec"]}, False),
        ({"event": ["start", "exec_create"]}, True),
        ({"container": ["web"]}, True),
        ({"container": ["4f2a4f2a4f2a"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["debian:bookworm"]}, True),
        ({"image": ["debian"]}, True),
        ({"image": ["ubuntu"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=front", "missing"]}, False),
        ({"type": ["container"], "container": ["other"]}, False),
        ({"network": ["web"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: bool) -> None:
    assert matches(EVENT, filters) is expected


async def test_who_subscribes_misses_nothing_from_the_call_on(tmp_path: Path) -> None:
    events = Events(Database(str(tmp_path / "state.db")))
    events.publish("volume", "create", "before", {})
    found = events.subscribe({})
    events.publish("volume", "create", "after", {})
    assert (await anext(found))["Actor"]["ID"] == "after"
    assert events.listeners == 1
    await found.aclose()
    events.subscribe({})  # and is never listened to
    assert events.listeners == 0


async def test_those_of_a_moment_are_written_together(tmp_path: Path) -> None:
    """Before they are asked for, soon after, and at the end."""
    database = Database(str(tmp_path / "state.db"))
    events = Events(database)

    def written() -> int:
        rows = database.query("SELECT count(*) FROM events")
        return int(rows[0][0])

    for number in range(3):
        events.publish("volume", "create", str(number), {})
    assert written() == 0
    told = events.subscribe({}, since=1, until=times.now())
    assert [event["Actor"]["ID"] async for event in told] == ["0", "1", "2"] and written() == 3
    events.publish("volume", "create", "3", {})
    async with asyncio.timeout(30):
        while written() < 4:  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0.01)
    events.publish("volume", "create", "4", {})
    events.write()
    events.write()
    assert written() == 5
    database.close()


async def test_what_cannot_be_kept_is_told_all_the_same(tmp_path: Path) -> None:
    """On a full disk."""
    database = Database(str(tmp_path / "state.db"))
    events = Events(database)
    told = events.subscribe({})
    database.execute("PRAGMA query_only = 1")
    events.publish("network", "create", "some", {})
    assert (await anext(told))["Actor"]["ID"] == "some"
    database.close()
