"""What a build tells, and how far it may be ahead of who listens."""

import asyncio

from wherry.engine.builder.progress import Printed, Progress

LINES = 1000


def test_output_waits_for_who_listens() -> None:
    async def main() -> list[int]:
        heard = Progress()
        told = 0

        async def work() -> str:
            nonlocal told
            for number in range(LINES):
                await heard.tell_when_heard(Printed(number, 1, "line\n"))
                told += 1
            return "sha256:…"

        task = asyncio.create_task(work())
        for _ in range(LINES):
            await asyncio.sleep(0)
        assert told < LINES / 2, "nobody has listened yet"
        return [event.step async for event in heard.follow(task) if isinstance(event, Printed)]

    assert asyncio.run(main()) == list(range(LINES))


def test_who_does_not_listen_any_more_ends_the_work() -> None:
    async def main() -> bool:
        heard = Progress()

        async def work() -> str:
            while True:
                await heard.tell_when_heard(Printed(1, 1, "again\n"))

        task = asyncio.create_task(work())
        events = heard.follow(task)
        await anext(events)
        await events.aclose()
        return task.cancelled()

    assert asyncio.run(main())
