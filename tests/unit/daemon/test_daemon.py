"""The program: what it answers at once, its locks, and its log."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.common import flags
from wherry.common.settings import daemon_flags
from wherry.daemon import locks, log_format
from wherry.daemon.__main__ import main
from wherry.daemon.configuration import Configuration


def test_an_unknown_flag_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sparkles=1"]) == 125
    assert capsys.readouterr().err == "wherry daemon: unknown flag: --sparkles (see 'wherry daemon --help')\n"
    assert main(["--data", "/x"]) == 125  # flags are not guessed from their beginning
    assert main(["x"]) == 1
    assert "no arguments are taken: x" in capsys.readouterr().err


def test_help_and_version_need_neither_root_nor_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{flag.name}" in shown for flag in daemon_flags() if not flag.hidden)
    assert "--containerd" not in shown
    assert main(["-v"]) == 0
    assert capsys.readouterr().out.startswith("wherry daemon version ")


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"mtu": 1400}')
    assert main(["--validate", "--config-file", str(path)]) == 0
    assert capsys.readouterr().err == "configuration OK\n"
    path.write_text('{"foo": 1}')
    assert main(["--validate", "--config-file", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"wherry daemon: unable to configure the wherry daemon with file {path}: "
        "the following directives don't match any configuration option: foo\n"
    )


def test_a_root_belongs_to_one_engine(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with locks.locked(root, 0o710):
        held = subprocess.run(
            [sys.executable, "-c", f"from wherry.daemon import locks\nwith locks.locked({root!r}, 0o710): pass"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"another engine (pid {os.getpid()}) already uses {root}" in held.stderr
    with locks.locked(root, 0o710):
        pass


def test_a_pid_file_of_a_process_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "engine.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(locks.Taken, match=f"process {os.getppid()} runs"), locks.pidfile(str(path)):
        pass
    path.write_text("999999999\n")
    with locks.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def _line(*words: str, is_terminal: bool = False) -> str:
    configuration = Configuration(flags.parse(daemon_flags(), ["--config-file=/dev/null", *words]))
    record = logging.LogRecord("x", logging.WARNING, "", 0, 'a "%s"', ("b",), None)
    record.created, record.msecs = 1_700_000_000.25, 250
    return log_format.formatter(configuration, is_terminal=is_terminal).format(record)


def test_the_log_is_text_or_json() -> None:
    assert _line() == '2023-11-14T22:13:20Z WARNING a "b"'
    line = _line("--log-format=json", is_terminal=True)
    assert json.loads(line) == {"level": "warn", "msg": 'a "b"', "time": "2023-11-14T22:13:20.250Z"}


def test_a_terminal_has_colors_unless_the_log_is_to_be_raw() -> None:
    assert "\x1b[33mWARNING\x1b[0m a" in _line(is_terminal=True)
    assert _line("--raw-logs", is_terminal=True) == _line()
