"""Who follows a log sees every line once and in order, whatever becomes of its files meanwhile."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.support.frames import frames
from tests.unit.runtime.logging.test_files import DRIVERS
from wherry.runtime.logging import files as rotation
from wherry.runtime.logging.reader import Reader
from wherry.runtime.logging.sink import open_writer
from wherry.runtime.logging.writer import Writer
from wherry.runtime.spec import Log

LINES = 300


def begin(log: Log) -> Writer:
    writer = open_writer(log)
    assert writer is not None
    return writer


def write(writer: Writer, number: int) -> None:
    writer.write(1, memoryview(b"line %04d\n" % number))
    while writer.delay == 0:
        writer.work()


def numbers(output: bytes) -> list[int]:
    return [int(line.split()[1]) for _, text in frames(output) for line in text.splitlines()]


@pytest.mark.parametrize("driver", DRIVERS)
class TestRotation:
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("files", [1, 2, 5])
    @pytest.mark.parametrize("pause", [1, 17, 100, LINES])  # lines between two looks of the follower
    def test_nothing_is_missed(self, tmp_path: Path, driver: str, compress: bool, files: int, pause: int) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=700, max_files=files, compress=compress)
        writer, reader = begin(log), Reader(log)
        seen = b"".join(reader.read())
        for number in range(LINES):
            write(writer, number)
            if number % pause == 0:
                seen += b"".join(reader.read())
        writer.close()
        seen += b"".join(reader.read())
        reader.close()
        assert numbers(seen) == list(range(LINES))
        assert len(os.listdir(tmp_path)) <= files  # what was kept for the reader goes with it

    @pytest.mark.parametrize("files", [1, 3])
    def test_at_full_speed(self, tmp_path: Path, driver: str, files: int) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=2000, max_files=files)
        writer, reader = begin(log), Reader(log)
        seen = b"".join(reader.read())

        def write_all() -> None:
            for number in range(LINES):
                write(writer, number)
            writer.close()

        thread = threading.Thread(target=write_all)
        thread.start()
        while thread.is_alive():
            seen += b"".join(reader.read())
        thread.join()
        seen += b"".join(reader.read())
        reader.close()
        assert numbers(seen) == list(range(LINES))
        assert len(os.listdir(tmp_path)) <= files

    def test_two_followers_at_different_places(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=700, max_files=2)
        writer, quick, slow = begin(log), Reader(log), Reader(log)
        seen_quickly, seen_slowly = b"", b"".join(slow.read())
        for number in range(500):
            write(writer, number)
            seen_quickly += b"".join(quick.read())
        quick.close()
        seen_slowly += b"".join(slow.read())
        slow.close()
        assert numbers(seen_quickly) == numbers(seen_slowly) == list(range(500))
        write(writer, 500)
        writer.close()
        assert len(os.listdir(tmp_path)) <= 2

    def test_what_is_kept_for_a_reader_that_sleeps_has_a_limit(
        self, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rotation, "_KEPT_AT_MOST", 5000)
        log = Log(driver, f"{tmp_path}/log", max_size=700, max_files=2)
        writer, reader = begin(log), Reader(log)
        seen = b"".join(reader.read())
        for number in range(1000):
            write(writer, number)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8000
        writer.close()
        seen += b"".join(reader.read())
        reader.close()
        found = numbers(seen)
        assert found == sorted(set(found))
        assert found[-1] == 999

    def test_a_reader_that_was_killed_keeps_nothing(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=700, max_files=2)
        writer = begin(log)
        write(writer, 0)
        child = os.fork()
        if child == 0:
            list(Reader(log).read())
            os._exit(0)
        os.waitpid(child, 0)
        for number in range(500):
            write(writer, number)
        writer.close()
        assert len(os.listdir(tmp_path)) == 2

    def test_a_writer_that_comes_back_removes_what_nobody_reads(self, tmp_path: Path, driver: str) -> None:
        log = Log(driver, f"{tmp_path}/log", max_size=700, max_files=2)
        writer, reader = begin(log), Reader(log)
        list(reader.read())
        for number in range(500):
            write(writer, number)
        writer.close()
        kept = len(os.listdir(tmp_path))
        assert kept > 2
        writer = begin(log)
        for number in range(500, 700):
            write(writer, number)
        assert len(os.listdir(tmp_path)) > kept
        reader.close()
        for number in range(700, 900):
            write(writer, number)
        writer.close()
        assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("driver", DRIVERS)
class TestFromOutside:
    """The log's file in the hands of an administrator, or of logrotate."""

    @pytest.mark.parametrize("way", ["truncate", "truncate to a line", "copytruncate", "rename", "remove"])
    @pytest.mark.parametrize("looks", [True, False])
    def test_what_is_written_after_is_there(self, tmp_path: Path, driver: str, way: str, looks: bool) -> None:
        """``looks``: the follower looks between the cut and the next line. What it saw before stays seen."""
        log = Log(driver, f"{tmp_path}/log")
        writer, follower = begin(log), Reader(log)
        for number in range(100):
            write(writer, number)
        seen = b"".join(follower.read())
        match way:
            case "truncate":
                os.truncate(log.path, 0)
            case "truncate to a line":  # echo > log
                Path(log.path).write_bytes(b"\n")
            case "copytruncate":
                shutil.copy(log.path, f"{tmp_path}/copy")
                os.truncate(log.path, 0)
            case "rename":
                os.rename(log.path, f"{tmp_path}/moved")
            case "remove":
                os.unlink(log.path)
        if looks:
            seen += b"".join(follower.read())
        for number in range(100, 300):  # more than before, so that the size does not tell
            write(writer, number)
        seen += b"".join(follower.read())
        assert numbers(seen) == list(range(300))
        follower.close()
        reader = Reader(log)
        assert numbers(b"".join(reader.read())) == list(range(100, 300))
        reader.close()
        writer.close()

    def test_a_line_that_was_written_while_the_file_was_renamed(self, tmp_path: Path, driver: str) -> None:
        """The writer has looked, and writes to what has another name by now; the follower has read it to its end."""
        log = Log(driver, f"{tmp_path}/log")
        writer, follower = begin(log), Reader(log)
        write(writer, 0)
        seen = b"".join(follower.read())
        os.rename(log.path, f"{tmp_path}/moved")
        seen += b"".join(follower.read())
        writer._look = lambda: None
        write(writer, 1)
        del writer._look
        write(writer, 2)
        seen += b"".join(follower.read())
        follower.close()
        writer.close()
        assert numbers(seen) == [0, 1, 2]
