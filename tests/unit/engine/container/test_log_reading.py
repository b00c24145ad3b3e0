"""The moment that a container which has just been started is given before its log is read."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.common import times
from wherry.engine.container import logs


def live(*, age: int = 0, runs: bool = True) -> Any:
    """``age`` in ns."""
    state = SimpleNamespace(started_at=times.now() - age)
    return SimpleNamespace(
        record=SimpleNamespace(state=state), monitor=object() if runs else None, ended=asyncio.Event()
    )


async def test_a_young_container_may_end_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_YOUNG", 3600 * 10**9)
    young = live()
    settling = asyncio.create_task(logs._settled(young))
    done, _ = await asyncio.wait([settling], timeout=0.05)
    assert not done
    young.ended.set()
    await settling


async def test_one_that_goes_on_is_waited_for_no_longer_than_it_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_YOUNG", 10**7)
    young = live()
    await logs._settled(young)
    assert times.now() >= young.record.state.started_at + 10**7


@pytest.mark.parametrize("old", [{"age": 3601 * 10**9}, {"age": -(10**9)}, {"runs": False}])
async def test_nothing_else_waits(old: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is old, nor one that a clock set back has started tomorrow, nor one that does not run."""
    monkeypatch.setattr(logs, "_YOUNG", 3600 * 10**9)
    settling = asyncio.create_task(logs._settled(live(**old)))
    await asyncio.sleep(0)
    assert settling.done()
