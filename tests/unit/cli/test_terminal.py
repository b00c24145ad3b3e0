import os
import pty
import termios
from pathlib import Path

import pytest

from wherry.cli import terminal
from wherry.cli.terminal import RawTerminal


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
