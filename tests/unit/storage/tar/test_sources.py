import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.storage.tar.sources import Feed, Feeder, FileSource, ReadAhead, StreamSource, Truncated


def test_a_growing_file_is_read_as_far_as_it_is_told(tmp_path: Path) -> None:
    contents = os.urandom(300_000)
    path = tmp_path / "blob"
    writer = os.open(path, os.O_RDWR | os.O_CREAT)
    news, told = os.pipe()
    feeder = Feeder(told)

    def grow() -> None:
        for at in range(0, len(contents), 7000):
            os.write(writer, contents[at : at + 7000])
            feeder.tell(min(at + 7000, len(contents)))
        feeder.tell(len(contents), whole=True)
        feeder.close()

    thread = threading.Thread(target=grow)
    thread.start()
    source = FileSource(writer, Feed(news))
    found = source.take(10) + source.take(100_000)
    source.skip(50_000)
    found += bytes(50_000)
    while data := source.read(64_000):
        found += data
    thread.join()
    assert found[:100_010] == contents[:100_010]
    assert found[150_010:] == contents[150_010:]
    assert not source.more()
    os.close(news)
    os.close(writer)


def test_a_writer_that_died_has_cut_the_file_off(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"half")
    news, told = os.pipe()
    feeder = Feeder(told)
    feeder.tell(4)
    feeder.close()
    source = FileSource(fd, Feed(news))
    assert source.take(4) == b"half"
    with pytest.raises(Truncated):
        source.more()
    os.close(news)
    os.close(fd)


def test_a_writer_does_not_mind_that_nobody_listens() -> None:
    news, told = os.pipe()
    os.close(news)
    feeder = Feeder(told)
    feeder.tell(1)
    feeder.tell(2)
    feeder.close()


def test_taking_more_than_there_is() -> None:
    source = StreamSource(_reads(b"abc", b"de"))
    assert source.take(4) == b"abcd"
    with pytest.raises(Truncated):
        source.take(2)


def test_read_ahead_hashes_what_it_reads_and_hands_errors_on() -> None:
    digest = hashlib.sha256()
    ahead = ReadAhead(_reads(b"abc", b"de"), digest)
    assert [ahead.read(), ahead.read(), ahead.read(), ahead.read()] == [b"abc", b"de", b"", b""]
    assert digest.hexdigest() == hashlib.sha256(b"abcde").hexdigest()

    def broken(size: int) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ReadAhead(broken, hashlib.sha256()).read()


def _reads(*chunks: bytes) -> Callable[[int], bytes]:
    rest = list(chunks)
    return lambda size: rest.pop(0) if rest else b""
