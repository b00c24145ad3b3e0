import os
import pty
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import terminal
from wherry.cli.terminal import DetachKeys, RawTerminal, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,b,c", b"abc"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-A", "ctrl-ab", "abc", "é", "a,"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="Unknown character"):
        parse_detach_keys(text)


def feed(keys: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
    watch, passed = DetachKeys(keys), b""
    for piece in pieces:
        data, detached = watch.feed(piece)
        passed += data
        if detached:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_watching_for_them(typed: list[bytes], passed: bytes, detached: bool) -> None:
    assert feed(b"\x10\x11", typed) == (passed, detached)


@given(
    st.lists(st.binary(max_size=5).map(lambda data: bytes(code % 3 for code in data))),
    st.sampled_from([b"\x00", b"\x00\x01", b"\x00\x01\x02"]),
)
def test_nothing_that_is_typed_is_lost(pieces: list[bytes], keys: bytes) -> None:
    whole = b"".join(pieces)
    passed, detached = feed(keys, pieces)
    if detached:
        assert whole.startswith(passed + keys)
    else:
        assert whole.startswith(passed)
        assert keys.startswith(whole[len(passed) :])


def test_raw_and_back() -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(RuntimeError), RawTerminal(slave):
        assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        raise RuntimeError
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_terminal_that_goes_away_meanwhile() -> None:
    master, slave = pty.openpty()
    with RawTerminal(slave):
        os.close(slave)
    os.close(master)


def test_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert not terminal.is_terminal(file.fileno())
        assert terminal.size(file.fileno()) == (0, 0)
    assert not terminal.is_terminal(10**6)
