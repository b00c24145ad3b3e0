"""json-file's file, which is written behind the local log: whole whenever somebody opens it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.frames import frames
from wherry.runtime.ipc import Loop
from wherry.runtime.logging.json_file import LINE_AT_MOST
from wherry.runtime.logging.reader import LogQuery, Reader
from wherry.runtime.logging.write_behind import WriteBehind, catch_up
from wherry.runtime.spec import Log

PATIENCE = 10  # seconds


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log("local", f"{tmp_path}/container.log", json_path=f"{tmp_path}/json.log", attrs={"tag": "x"})


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def begin(log: Log, warnings: list[str]) -> Iterator[Callable[[], "Monitor"]]:
    begun: list[Monitor] = []

    def begin() -> Monitor:
        begun.append(Monitor(log, warnings))
        return begun[-1]

    yield begin
    for monitor in begun:
        monitor.end()


class Monitor:
    """A writer and the loop that it lives in."""

    def __init__(self, log: Log, warnings: list[str]) -> None:
        self.loop = Loop()
        self.writer = WriteBehind(log, warnings.append, self.loop)
        self._ended = False

    def print(self, *lines: object, stream: int = 1) -> None:
        self.writer.write(stream, memoryview(b"".join(f"{line}\n".encode() for line in lines)))

    def burst(self, count: int, start: int = 0) -> None:
        """So much at once that the file stays behind."""
        lines = [f"{number:60}\n".encode() for number in range(start, start + count)]  # long, for few to be many bytes
        chunks = [b"".join(lines[at : at + 10_000]) for at in range(1, count, 10_000)]
        for chunk in (lines[0], *chunks):
            self.writer.write(1, memoryview(chunk))
        assert self.writer.is_behind

    def run(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline
            self.loop.turn(min(0.02, self.writer.delay if self.writer.delay is not None else 1))
            if self.writer.delay == 0:
                self.writer.work()

    def catch_up(self) -> None:
        self.run(lambda: not self.writer.is_behind)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.writer.close()


def parse(content: bytes) -> list[dict[str, str]]:
    assert content.endswith(b"\n") or not content
    return [json.loads(line) for line in content.splitlines()]


def shown(log: Log, **options: object) -> bytes:
    reader = Reader(log, LogQuery(**options))
    try:
        return b"".join(text for _, text in frames(b"".join(reader.read())))
    finally:
        reader.close()


def numbers(lines: list[str] | bytes) -> list[int]:
    return [int(line) for line in (lines.splitlines() if isinstance(lines, bytes) else lines)]


def open_beside(monitor: Monitor, log: Log) -> list[int]:
    """The numbers that somebody finds who opens the file."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(Path(log.json_path).read_bytes()))
    thread.start()
    monitor.run(lambda: not thread.is_alive())
    return numbers([line["log"] for line in parse(found[0])])


def test_a_line_now_and_then_is_written_at_once(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    for number in range(3):
        monitor.print(number)
        assert not monitor.writer.is_behind
        assert numbers([line["log"] for line in parse(Path(log.json_path).read_bytes())]) == list(range(number + 1))
        time.sleep(0.02)


def test_both_files_say_the_same(log: Log, begin: Callable[[], Monitor]) -> None:
    long = b"x" * (2 * LINE_AT_MOST + 5)
    chunks = [
        (1, b"on"),
        (2, b"er"),
        (1, b"e\n<a>\xff\n"),
        (2, b"r\n"),
        (1, long[:20_000]),
        (1, long[20_000:] + b"\nend"),
    ]
    monitor = begin()
    for stream, data in chunks:
        monitor.writer.write(stream, memoryview(data))
    monitor.end()
    lines = parse(Path(log.json_path).read_bytes())
    assert [(line["stream"], line["log"]) for line in lines] == [
        ("stdout", "one\n"),
        ("stdout", "<a>\N{REPLACEMENT CHARACTER}\n"),
        ("stderr", "err\n"),
        ("stdout", "x" * LINE_AT_MOST),
        ("stdout", "x" * LINE_AT_MOST),
        ("stdout", "x" * 5 + "\n"),
        ("stdout", "end"),
    ]
    assert all(line["attrs"] == {"tag": "x"} for line in lines)
    assert shown(log) == b"one\n<a>\xff\nerr\n" + long + b"\nend"  # and here every byte is what it was
    assert shown(log, tail=3) == b"err\n" + long + b"\nend"
    times = [line.split(b" ")[0].decode() for line in shown(log, timestamps=True).splitlines()]
    assert times[0] == pad(lines[0]["time"])
    assert times[-1] == pad(lines[-1]["time"])


def pad(time: str) -> str:
    """With nine digits of a fraction."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(9, '0')}Z"


def test_who_opens_the_file_waits_until_it_is_whole(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    monitor.burst(60_000)
    assert monitor.writer.delay
    assert open_beside(monitor, log) == list(range(60_000))
    monitor.burst(1000, start=60_000)
    assert open_beside(monitor, log) == list(range(61_000))


def test_who_has_it_open_sees_it_grow(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    with open(log.json_path, "rb") as shipper:
        monitor.burst(1000)
        monitor.run(lambda: not monitor.writer.is_behind)
        assert numbers([line["log"] for line in parse(shipper.read())]) == list(range(1000))


def test_it_is_written_when_nothing_is_printed(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    monitor.burst(60_000)
    monitor.catch_up()
    assert monitor.writer.delay is None
    assert len(parse(Path(log.json_path).read_bytes())) == 60_000


def test_its_size_grows_in_a_long_burst(
    log: Log, begin: Callable[[], Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.runtime.logging.write_behind._AT_LEAST", 0.1)
    monitor = begin()
    monitor.burst(2)
    size = os.stat(log.json_path).st_size

    def print_more() -> bool:
        monitor.print(*range(1000))
        return os.stat(log.json_path).st_size > size

    monitor.run(print_more)


def test_it_is_whole_at_the_end(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    monitor.burst(60_000)
    monitor.end()
    assert len(parse(Path(log.json_path).read_bytes())) == 60_000


def test_it_goes_on_in_the_next_run(log: Log, begin: Callable[[], Monitor]) -> None:
    for run in range(3):
        monitor = begin()
        monitor.print(run)
        monitor.end()
    assert numbers([line["log"] for line in parse(Path(log.json_path).read_bytes())]) == [0, 1, 2]
    assert numbers(shown(log)) == [0, 1, 2]


def test_the_next_run_need_not_wait_for_the_one_before(log: Log, begin: Callable[[], Monitor]) -> None:
    """The container has ended, its file is behind, and it is started again while a client still reads from it."""
    first = begin()
    first.burst(60_000)
    first.writer.settle()
    second: list[Monitor] = []
    starting = threading.Thread(target=lambda: second.append(begin()))
    starting.start()
    first.run(lambda: not starting.is_alive())
    second[0].print(60_000)
    first.end()
    second[0].end()
    assert numbers([line["log"] for line in parse(Path(log.json_path).read_bytes())]) == list(range(60_001))
    assert numbers(shown(log)) == list(range(60_001))


def test_nothing_is_written_for_a_container_that_is_gone(
    log: Log, begin: Callable[[], Monitor], tmp_path: Path
) -> None:
    monitor = begin()
    monitor.burst(60_000)
    shutil.rmtree(tmp_path)
    monitor.end()
    assert monitor.writer.is_behind


@pytest.mark.parametrize("way", ["truncate", "truncate to a line", "copytruncate", "rename", "remove"])
@pytest.mark.parametrize("runs", [True, False])
class TestFromOutside:
    """What others do to the file that they know of holds for the other one, too."""

    def cut(self, path: str, way: str) -> None:
        match way:
            case "truncate":
                os.truncate(path, 0)
            case "truncate to a line":
                Path(path).write_bytes(b"\n")
            case "copytruncate":
                shutil.copy(path, f"{path}.copy")
                os.truncate(path, 0)
            case "rename":
                os.rename(path, f"{path}.moved")
            case "remove":
                os.unlink(path)

    def test_what_was_cut_is_not_shown(self, log: Log, begin: Callable[[], Monitor], way: str, runs: bool) -> None:
        monitor = begin()
        monitor.print(*range(100))
        monitor.catch_up()
        if not runs:
            monitor.end()
        self.cut(log.json_path, way)
        assert shown(log) == b""
        assert shown(log, tail=10) == b""

    def test_what_comes_after_is(self, log: Log, begin: Callable[[], Monitor], way: str, runs: bool) -> None:
        monitor, follower = begin(), Reader(log)
        monitor.print(*range(100))
        monitor.catch_up()
        seen = b"".join(follower.read())
        if not runs:
            monitor.end()
        self.cut(log.json_path, way)
        if not runs:
            monitor = begin()
        for number in range(100, 300):
            monitor.print(number)
        seen += b"".join(follower.read())
        monitor.catch_up()
        seen += b"".join(follower.read())
        assert numbers(b"".join(text for _, text in frames(seen))) == list(range(300))
        follower.close()
        assert numbers(shown(log)) == list(range(100, 300))
        assert numbers(shown(log, tail=150)) == list(range(150, 300))
        lines = Path(log.json_path).read_bytes().lstrip(b"\n")
        assert numbers([line["log"] for line in parse(lines)]) == list(range(100, 300))
        assert os.stat(log.path).st_size < 10_000


def test_what_was_not_written_yet_survives_a_rename(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    monitor.burst(1000)
    os.rename(log.json_path, f"{log.json_path}.1")
    monitor.print(1000)
    monitor.catch_up()
    moved = numbers([line["log"] for line in parse(Path(f"{log.json_path}.1").read_bytes())])
    found = numbers([line["log"] for line in parse(Path(log.json_path).read_bytes())])
    assert moved + found == list(range(1001))
    assert numbers(shown(log)) == found


def test_a_full_disk_is_told_once(tmp_path: Path, warnings: list[str]) -> None:
    log = Log("local", f"{tmp_path}/container.log", json_path="/dev/full")
    monitor = Monitor(log, warnings)
    for number in range(3):
        monitor.print(number)
    monitor.end()
    assert warnings == ["output is not logged to /dev/full: No space left on device"]
    assert numbers(shown(log)) == [0, 1, 2]


WRITE_ON = """
import sys
from wherry.runtime.ipc import Loop
from wherry.runtime.logging.write_behind import WriteBehind
from wherry.runtime.spec import Log
loop = Loop()
writer = WriteBehind(Log("local", sys.argv[1], json_path=sys.argv[2]), loop=loop)
number = 0
print("ready", flush=True)
while True:
    writer.write(1, memoryview(b"".join(b"%d\\n" % each for each in range(number, number + 50))))
    number += 50
    loop.turn(0)
    if writer.delay is not None:
        writer.work()
"""


@pytest.mark.parametrize("moment", range(5))
def test_a_writer_that_is_killed(log: Log, moment: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE_ON, log.path, log.json_path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
    catch_up(log)
    found = numbers(shown(log))
    assert found == list(range(len(found)))
    assert numbers([line["log"] for line in parse(Path(log.json_path).read_bytes())]) == found
    catch_up(log)
    assert len(parse(Path(log.json_path).read_bytes())) == len(found)


def test_what_another_writes_is_left_to_it(log: Log, begin: Callable[[], Monitor]) -> None:
    monitor = begin()
    monitor.burst(1000)
    catch_up(log)
    assert monitor.writer.is_behind
    monitor.catch_up()
    assert len(parse(Path(log.json_path).read_bytes())) == 1000
