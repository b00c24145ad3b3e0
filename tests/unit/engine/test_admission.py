"""Work that is let in by turns: as many as the limit at a time, first come, first served."""

import asyncio

import pytest

from tests.support.bare_engine import BareEngine
from tests.support.waiting import until
from wherry.common.errors import Unavailable
from wherry.engine import admission
from wherry.engine.admission import Admission, Standing


class Crowd:
    """Tasks that each have a place until they are told to go."""

    def __init__(self, admitted: Admission, count: int) -> None:
        self._admission = admitted
        self.inside: list[int] = []
        self._go = [asyncio.Event() for _ in range(count)]
        self.tasks = [asyncio.create_task(self._come(number)) for number in range(count)]

    async def _come(self, number: int) -> None:
        async with self._admission.place():
            self.inside.append(number)
            await self._go[number].wait()
            self.inside.remove(number)

    async def send_away(self, number: int) -> None:
        self._go[number].set()
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_are_inside_and_who_came_first_goes_on_first() -> None:
    crowd = Crowd(admitted := Admission(2), 5)
    await settled()
    assert crowd.inside == [0, 1]
    assert admitted.standing == Standing(waiting=3, under_way=2, limit=2)
    await crowd.send_away(1)
    assert crowd.inside == [0, 2]
    for number in (0, 2, 3, 4):
        await crowd.send_away(number)
    await asyncio.gather(*crowd.tasks)
    assert admitted.standing == Standing(0, 0, 2)


async def test_who_is_cancelled_waits_no_longer() -> None:
    crowd = Crowd(admitted := Admission(1), 3)
    await settled()
    crowd.tasks[1].cancel()
    await settled()
    assert admitted.standing == Standing(1, 1, 1)
    await crowd.send_away(0)
    assert crowd.inside == [2]


async def test_a_place_that_was_given_to_somebody_just_cancelled_goes_on_to_the_next() -> None:
    crowd = Crowd(admitted := Admission(1), 3)
    await settled()
    crowd._go[0].set()
    while admitted.standing.waiting == 2:  # noqa: ASYNC110  # the very moment is wanted
        await asyncio.sleep(0)
    crowd.tasks[1].cancel()
    await settled()
    assert crowd.inside == [2]


async def test_only_who_waits_gives_up() -> None:
    crowd = Crowd(admitted := Admission(1), 2)
    await settled()
    for task in crowd.tasks:
        admitted.give_up(task)
    await settled()
    assert [task.cancelled() for task in crowd.tasks] == [False, True]


async def test_who_waits_for_something_else_than_a_processor_does_not_hold_the_others_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "_PATIENCE", 0.01)
    crowd = Crowd(admitted := Admission(1), 2)
    await until(lambda: crowd.inside == [0, 1])
    await crowd.send_away(0)
    await crowd.send_away(1)
    assert admitted.standing == Standing(0, 0, 1)


async def test_an_engine_that_ends_lets_nobody_wait() -> None:
    crowd = Crowd(admitted := Admission(1), 3)
    await settled()
    admitted.close()
    for task in crowd.tasks[1:]:
        with pytest.raises(Unavailable):
            await task
    with pytest.raises(Unavailable):
        async with admitted.place():
            pass
    await crowd.send_away(0)
    assert crowd.inside == []


async def test_it_is_told_how_many_wait_until_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_TOLD_EVERY", 0.005)
    told: list[int] = []
    crowd = Crowd(Admission(1, lambda standing: told.append(standing.waiting)), 2)
    await until(lambda: told[-1:] == [1])
    await crowd.send_away(0)
    await until(lambda: told[-1:] == [0])
    heard = len(told)
    await asyncio.sleep(0.02)
    assert len(told) == heard


async def test_starts_wait_for_each_other_and_are_shown_to_wait(
    bare: BareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare.engine.starts, "_limit", 1)
    names = [(await bare.create(f"c{number}")).id for number in range(3)]
    async with bare.engine.starts.place():
        starting = [asyncio.create_task(bare.engine.containers.start(name)) for name in names]
        await settled()
        info = bare.engine.system.info()
        assert info["Starts"] == {"Waiting": 3, "UnderWay": 1, "AtATime": 1}
        assert "WARNING: 3 starts wait for their turn; 1 are under way, of 1 at a time" in info["Warnings"]
        assert not any(bare.engine.containers.get(name).state.running for name in names)
        await bare.engine.containers.remove(names[0], force=True)  # nobody waits to be rid of a container
    results = await asyncio.gather(*starting, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["Conflict", "NoneType", "NoneType"]
    assert not any("wait for their turn" in line for line in bare.engine.system.info()["Warnings"])
