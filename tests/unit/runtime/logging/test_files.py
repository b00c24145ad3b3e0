"""Logs, written and read back: formats, times, tails, rotation, compression, followers."""

import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from tests.support.frames import frames
from wherry.runtime.logging import writer as writing
from wherry.runtime.logging.json_file import LINE_AT_MOST, format_time, parse_time
from wherry.runtime.logging.reader import LogQuery, Reader
from wherry.runtime.logging.sink import open_writer
from wherry.runtime.spec import Log

DRIVERS = ("local", "json-file")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterable[list[int]]:
    """Time stands still unless a test sets it."""
    now = [1_700_000_000_000_000_000]
    monkeypatch.setattr(writing.time, "time_ns", lambda: now[0])
    return now


def write(log: Log, *chunks: tuple[int, bytes]) -> None:
    writer = open_writer(log)
    assert writer is not None
    for stream, data in chunks:
        writer.write(stream, memoryview(data))
        while writer.delay == 0:
            writer.work()
    writer.close()


def read(log: Log, **options: object) -> list[tuple[int, bytes]]:
    reader = Reader(log, LogQuery(**options))
    try:
        return frames(b"".join(reader.read()))
    finally:
        reader.close()


@pytest.mark.parametrize("driver", DRIVERS)
class TestBoth:
    def test_what_goes_in_comes_out(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"one\n"), (2, b"error\n"), (1, b"two\nthree"))
        assert read(log) == [(1, b"one\n"), (2, b"error\n"), (1, b"two\nthree")]
        assert read(log, stderr=False) == [(1, b"one\ntwo\nthree")]
        assert read(log, stdout=False) == [(2, b"error\n")]

    def test_a_terminal_has_no_frames(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"one\r\ntwo\r\n"))
        assert b"".join(Reader(log, framed=False).read()) == b"one\r\ntwo\r\n"

    def test_the_first_of_it_comes_soon_and_the_rest_in_large_pieces(self, tmp_path: Path, driver: str) -> None:
        """Half a million short lines are half a second's work, which nobody waits for who reads the first of them."""
        log = Log(driver, f"{tmp_path}/log")
        text = b"x\n" * (1 << 20)
        write(log, *((1, text[at : at + 4096]) for at in range(0, len(text), 4096)))
        reader = Reader(log, LogQuery(by_line=True))
        lines = [len(chunk) // 10 for chunk in reader.read()]  # each a frame of ten bytes
        reader.close()
        assert lines[0] < 1 << 14
        assert max(lines) >= 1 << 18
        assert sum(lines) == 1 << 20

    def test_a_log_that_is_not_there_is_empty(self, tmp_path: Path, driver: str) -> None:
        assert read(Log(driver, f"{tmp_path}/none/log")) == []

    @pytest.mark.parametrize(
        ("tail", "expected"),
        [
            (0, b""),
            (1, b"line 99\n"),
            (3, b"line 97\nline 98\nline 99\n"),
            (100, b"".join(b"line %d\n" % n for n in range(100))),
            (1000, b"".join(b"line %d\n" % n for n in range(100))),
        ],
    )
    def test_tail(self, tmp_path: Path, driver: str, tail: int, expected: bytes) -> None:
        log = Log(driver, f"{tmp_path}/log")
        lines = b"".join(b"line %d\n" % n for n in range(100))
        write(log, (1, lines[:333]), (1, lines[333:600]), (1, lines[600:]))
        assert b"".join(data for _, data in read(log, tail=tail)) == expected

    def test_tail_of_an_unfinished_line(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"one\ntwo\nthr"), (1, b"ee"))
        assert read(log, tail=2) == [(1, b"two\nthree")]

    def test_tail_of_two_streams(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"one\n"), (1, b"two\n"), (2, b"three\n"))
        assert read(log, tail=1) == [(2, b"three\n")]
        assert read(log, tail=2) == [(1, b"two\n"), (2, b"three\n")]
        assert read(log, tail=3) == [(1, b"one\ntwo\n"), (2, b"three\n")]

    def test_tail_counts_lines_and_not_their_pieces(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        long = b"x" * (5 * LINE_AT_MOST) + b"\n"
        write(log, (1, b"one\n"), (1, long[:20_000]), (1, long[20_000:]), (1, b"two\n"), (1, b"y" * 20_000))
        assert read(log, tail=1) == [(1, b"y" * 20_000)]
        assert read(log, tail=3) == [(1, long + b"two\n" + b"y" * 20_000)]

    def test_tail_counts_the_wanted_stream_only(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"a\nb\n"), (2, b"x\ny\nz\n"))
        assert read(log, tail=1, stderr=False) == [(1, b"b\n")]

    def test_times(self, tmp_path: Path, driver: str, clock: list[int]) -> None:
        log = Log(driver, f"{tmp_path}/log")
        writer = open_writer(log)
        assert writer is not None
        start = clock[0]
        for second in range(3):
            clock[0] = start + second * 1_000_000_000
            writer.write(1, memoryview(b"line %d\n" % second))
        writer.close()
        one = start + 1_000_000_000
        assert read(log, since=one) == [(1, b"line 1\nline 2\n")]
        assert read(log, until=one) == [(1, b"line 0\nline 1\n")]
        assert read(log, since=one, until=one) == [(1, b"line 1\n")]
        [(_, stamped)] = read(log, timestamps=True)
        assert stamped.splitlines() == [
            b"2023-11-14T22:13:20.000000000Z line 0",
            b"2023-11-14T22:13:21.000000000Z line 1",
            b"2023-11-14T22:13:22.000000000Z line 2",
        ]

    def test_a_time_before_each_line_and_within_none(self, tmp_path: Path, driver: str, clock: list[int]) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"par"), (1, b"tial\n\nlast"), (1, b"!\n"))
        stamped = b"".join(data for _, data in read(log, timestamps=True))
        assert [line.partition(b" ")[2] for line in stamped.splitlines()] == [b"partial", b"", b"last!"]

    def test_details(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", attrs={"tag": "a b", "env": "x=y"})
        write(log, (1, b"one\ntwo\n"))
        assert read(log, details=True) == [(1, b"env=x%3Dy,tag=a+b one\nenv=x%3Dy,tag=a+b two\n")]

    @pytest.mark.parametrize("compress", [False, True])
    def test_rotation(self, tmp_path: Path, driver: str, compress: bool) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=1000, max_files=3, compress=compress)
        write(log, *((1, b"line %04d\n" % n) for n in range(500)))
        names = sorted(os.listdir(tmp_path))
        assert names == (["log", "log.1.gz", "log.2.gz"] if compress else ["log", "log.1", "log.2"])
        assert (tmp_path / "log").stat().st_size <= 1000
        [(_, data)] = read(log)
        lines = data.splitlines()
        assert lines[-1] == b"line 0499"
        assert lines == [b"line %04d" % n for n in range(500 - len(lines), 500)]
        [(_, tail)] = read(log, tail=len(lines) - 1)
        assert tail.splitlines() == lines[1:]

    def test_one_file_starts_over(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=1000, max_files=1)
        write(log, *((1, b"line %04d\n" % n) for n in range(500)))
        assert os.listdir(tmp_path) == ["log"]
        assert (tmp_path / "log").stat().st_size <= 1000

    def test_a_follower_from_the_end_sees_what_is_new(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=500, max_files=3)
        writer = open_writer(log)
        assert writer is not None
        writer.write(1, memoryview(b"old\n"))
        reader = Reader(log, LogQuery(tail=0))
        assert b"".join(reader.read()) == b""
        for n in range(10):
            writer.write(1, memoryview(b"new %d\n" % n))
        writer.close()
        assert frames(b"".join(reader.read())) == [(1, b"".join(b"new %d\n" % n for n in range(10)))]

    def test_until_ends_a_follower(self, tmp_path: Path, driver: str, clock: list[int]) -> None:
        log = Log(driver, f"{tmp_path}/log")
        reader = Reader(log, LogQuery(until=clock[0]))
        write(log, (1, b"now\n"))
        assert frames(b"".join(reader.read())) == [(1, b"now\n")]
        assert not reader.done
        clock[0] += 1000
        write(log, (1, b"later\n"))
        assert b"".join(reader.read()) == b""
        assert reader.done

    def test_a_log_goes_on_after_a_restart(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"first run\n"))
        write(log, (1, b"second run\n"))
        assert read(log) == [(1, b"first run\nsecond run\n")]

    def test_what_was_cut_off_by_a_crash(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log")
        write(log, (1, b"whole\n"), (1, b"torn apart\n"))
        os.truncate(log.path, os.stat(log.path).st_size - 7)
        assert read(log) == [(1, b"whole\n")]
        write(log, (1, b"after\n"))
        assert read(log)[0][1].endswith(b"after\n")
        assert read(log)[0][1].startswith(b"whole\n")

    def test_a_full_disk_costs_lines_not_the_container(self, driver: str) -> None:
        warnings: list[str] = []
        writer = open_writer(Log(driver, "/dev/full"), warnings.append)
        assert writer is not None
        writer.write(1, memoryview(b"lost\n"))
        writer.write(1, memoryview(b"lost, too\n"))
        assert warnings == ["output is not logged to /dev/full: No space left on device"]
        writer.close()


def test_a_frame_for_each_line_however_it_was_written(tmp_path: Path) -> None:
    log = Log(driver="local", path=str(tmp_path / "log"))
    reader = Reader(log, LogQuery(by_line=True))
    write(log, (1, b"one\ntw"), (2, b"err\n"), (1, b"o\n\nthr"))
    assert b"".join(reader.read()) == b"".join(
        struct.pack(">B3xI", stream, len(line)) + line
        for stream, line in ((1, b"one\n"), (2, b"err\n"), (1, b"two\n"), (1, b"\n"), (1, b"thr"))
    )
    write(log, (1, b"x" * 40_000))  # nobody waits for the end of such a line
    assert [len(frame) for _, frame in frames(b"".join(reader.read()))] == [40_000]
    reader.close()


def test_local_times_never_repeat(tmp_path: Path, clock: list[int]) -> None:
    log = Log("local", f"{tmp_path}/log")
    write(log, (1, b"a"), (1, b"b"))
    clock[0] -= 5_000_000_000  # somebody sets the clock back
    write(log, (1, b"c"))
    content = (tmp_path / "log").read_bytes()
    times = [struct.unpack_from(">Q", content, at + 8)[0] for at in (0, 21, 42)]
    assert times == sorted(set(times))


def test_local_records_can_be_walked_backwards(tmp_path: Path) -> None:
    log = Log("local", f"{tmp_path}/log")
    write(log, (1, b"first"), (2, b"second!"))
    content = (tmp_path / "log").read_bytes()
    (length,) = struct.unpack(">I", content[-4:])
    assert content[-length:][:1] == b"\x02"
    assert content[-length:][16:-4] == b"second!"
    (length,) = struct.unpack(">I", content[-length - 4 : -length])
    assert content[:1] == b"\x01"
    assert content[16 : length - 4] == b"first"


class TestJsonFile:
    def records(self, path: Path) -> list[dict[str, object]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_the_bytes_are_dockers(self, tmp_path: Path, clock: list[int]) -> None:
        clock[0] += 120_000_000
        write(Log("json-file", f"{tmp_path}/log"), (1, b'a "b" <c> & \\ \t\x1b\xff\xe2\x80\xa8\n'))
        assert (tmp_path / "log").read_text() == (
            '{"log":"a \\"b\\" \\u003cc\\u003e \\u0026 \\\\ \\u0009\\u001b\\ufffd\\u2028\\n",'
            '"stream":"stdout","time":"2023-11-14T22:13:20.12Z"}\n'
        )

    def test_attributes(self, tmp_path: Path) -> None:
        write(Log("json-file", f"{tmp_path}/log", attrs={"b": "2", "a": "1"}), (2, b"x\n"))
        assert list(self.records(tmp_path / "log")[0]) == ["log", "stream", "attrs", "time"]
        assert self.records(tmp_path / "log")[0]["attrs"] == {"a": "1", "b": "2"}

    def test_a_line_in_pieces_is_one_object(self, tmp_path: Path) -> None:
        write(Log("json-file", f"{tmp_path}/log"), (1, b"on"), (2, b"er"), (1, b"e\ntw"), (2, b"r\n"), (1, b"o"))
        records = [(record["stream"], record["log"]) for record in self.records(tmp_path / "log")]
        assert records == [("stdout", "one\n"), ("stderr", "err\n"), ("stdout", "two")]

    def test_a_long_line_is_several(self, tmp_path: Path) -> None:
        line = b"x" * (2 * LINE_AT_MOST + 5)
        write(Log("json-file", f"{tmp_path}/log"), (1, line[:20000]), (1, line[20000:] + b"\nnext\n"))
        lengths = [len(str(record["log"])) for record in self.records(tmp_path / "log")]
        assert lengths == [LINE_AT_MOST, LINE_AT_MOST, 6, 5]
        assert read(Log("json-file", f"{tmp_path}/log")) == [(1, line + b"\nnext\n")]

    def test_a_line_of_exactly_one_piece(self, tmp_path: Path) -> None:
        write(Log("json-file", f"{tmp_path}/log"), (1, b"x" * LINE_AT_MOST + b"\n"))
        assert "".join(str(record["log"]) for record in self.records(tmp_path / "log")) == ("x" * LINE_AT_MOST + "\n")


def test_no_driver_no_writer() -> None:
    assert open_writer(Log("none")) is None


@pytest.mark.parametrize(
    ("ns", "fixed", "short"),
    [
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20.000000000Z", "2023-11-14T22:13:20Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z", "2023-11-14T22:13:20.000000001Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.120000000Z", "2023-11-14T22:13:20.12Z"),
    ],
)
def test_time_formats(ns: int, fixed: str, short: str) -> None:
    assert format_time(ns) == fixed
    assert format_time(ns, fixed=False) == short
    assert parse_time(fixed) == parse_time(short) == ns


def test_the_spec_survives_its_journey() -> None:
    log = Log("json-file", "/x", 5, 6, True, {"a": "b"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(log), type=Log) == log
