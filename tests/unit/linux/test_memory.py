"""What a forked process writes to, and what it has copied beforehand."""

import array
import ctypes
import mmap
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wherry.linux.process import WrittenPages, write_ahead

PAGE = mmap.PAGESIZE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel tells root alone which pages are whose")


@pytest.fixture
def area() -> Iterator[mmap.mmap]:
    """Ten pages that are there, and are shared with every child until somebody writes to them."""
    with mmap.mmap(-1, 10 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[:] = bytes(len(area))
        yield area


def start_of(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def in_child(work: Callable[[], Any]) -> Any:
    """What it answers in a process that is forked for it."""
    heard, tell = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(tell, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(tell)
    with open(heard, "rb") as answer:
        content = answer.read()
    os.waitpid(pid, 0)
    return pickle.loads(content)


def pages(*runs: tuple[int, int]) -> bytes:
    return array.array("Q", [number for run in runs for number in run]).tobytes()


def within(area: mmap.mmap, pages: bytes) -> list[tuple[int, int]]:
    """The runs in the area, in pages from its start."""
    numbers = array.array("Q", pages).tolist()
    runs = zip(numbers[::2], numbers[1::2], strict=True)
    return [((at - start_of(area)) // PAGE, size // PAGE) for at, size in runs if 0 <= at - start_of(area) < len(area)]


def write(area: mmap.mmap, *pages: int) -> None:
    for page in pages:
        area[page * PAGE] = 1


def test_the_pages_that_a_child_writes_to(area: mmap.mmap) -> None:
    def work() -> bytes:
        write(area, 1)
        written = WrittenPages()
        write(area, 1, 3, 4, 7)
        return written.end()

    assert within(area, in_child(work)) == [(3, 2), (7, 1)]


def test_pages_that_were_copied_ahead_are_not_copied_again(area: mmap.mmap) -> None:
    start = start_of(area)

    def work() -> bytes:
        write_ahead(pages((start + 3 * PAGE, 2 * PAGE)))
        written = WrittenPages()
        write(area, 3, 4, 5)
        return written.end()

    assert within(area, in_child(work)) == [(5, 1)]


def test_what_is_no_memory_is_left_alone(area: mmap.mmap) -> None:
    write_ahead(pages((0, PAGE), (1, 1), (start_of(area), PAGE)))
    assert area[0] == 0
