"""Waiting without an event loop, and with one: the same coroutines end the same way."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from wherry.client.asyncio_loop import Asyncio
from wherry.client.blocking import plain
from wherry.client.loops import Blocking, run
from wherry.client.transport import receive_into, send_all

Test = Callable[[Any], Awaitable[Any]]


def in_both(test: Test) -> list[Any]:
    """What a coroutine gives without an event loop, and with asyncio's."""

    async def main() -> Any:
        return await test(Asyncio())

    return [run(test(Blocking())), asyncio.run(main())]  # type: ignore[arg-type]


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def test_two_that_wait_for_each_other_both_go_on() -> None:
    """More than any buffer holds goes out while it comes back."""
    data = bytes(1 << 22)

    async def test(loop: Any) -> int:
        ours, theirs = pair()
        buffer, count = bytearray(1 << 16), 0

        async def echo() -> None:
            await send_all(loop, ours, data)
            ours.shutdown(socket.SHUT_WR)

        async def read() -> int:
            nonlocal count
            while got := await receive_into(loop, theirs, buffer):
                count += got
            return count

        with ours, theirs:
            total: int = await loop.beside(echo(), read())
            return total

    assert in_both(test) == [len(data), len(data)]


def test_a_time_limit() -> None:
    async def test(loop: Any) -> str:
        ours, theirs = pair()
        with ours, theirs:
            try:
                async with loop.timeout(30), loop.timeout(0.01):
                    await receive_into(loop, ours, bytearray(1))
            except TimeoutError:
                theirs.send(b"x")
                async with loop.timeout(30):
                    return str(await receive_into(loop, ours, bytearray(1)))
        return ""

    assert in_both(test) == ["1", "1"]


def test_the_outer_limit_is_the_outer_ones() -> None:
    async def test(loop: Any) -> str:
        ours, theirs = pair()
        with ours, theirs:
            try:
                async with loop.timeout(0.01):
                    try:
                        async with loop.timeout(30):
                            await receive_into(loop, ours, bytearray(1))
                    except TimeoutError:
                        return "inner"
            except TimeoutError:
                return "outer"
        return ""

    assert in_both(test) == ["outer", "outer"]


def test_what_one_of_two_raises_ends_both() -> None:
    ended = []

    async def test(loop: Any) -> str:
        ours, theirs = pair()

        async def fail() -> None:
            await loop.writable(ours.fileno())
            raise ValueError("no input")

        async def wait() -> None:
            try:
                await receive_into(loop, ours, bytearray(1))
            finally:
                ended.append(1)

        with ours, theirs:
            try:
                await loop.beside(fail(), wait())
            except ValueError as error:
                return str(error)
        return ""

    assert in_both(test) == ["no input", "no input"]
    assert ended == [1, 1]


async def test_what_is_made_while_nobody_waits_any_more_is_undone() -> None:
    loop, made, undone = Asyncio(), asyncio.Event(), []

    async def make() -> str:
        await made.wait()
        return "thing"

    async def undo(thing: str) -> None:
        undone.append(thing)

    task = asyncio.create_task(loop.acquire(make(), undo))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    made.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["thing"]


def test_what_goes_on_to_its_end_does_so() -> None:
    done = []

    async def test(loop: Any) -> int:
        async def work() -> int:
            done.append(1)
            return 7

        return int(await loop.finish(work()))

    assert in_both(test) == [7, 7]
    assert done == [1, 1]


def test_iterating_over_what_blocks() -> None:
    async def test(loop: Any) -> list[int]:
        return [number async for number in loop.iterate(range(3))]

    assert in_both(test) == [[0, 1, 2], [0, 1, 2]]


def test_a_plain_iterator_ends_what_it_iterates_over() -> None:
    ended = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            ended.append(1)

    iterator = plain(numbers())
    assert next(iterator) == 1
    iterator.close()
    assert ended == [1]
