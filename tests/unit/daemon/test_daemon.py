"""The daemon's flags and locks: what it takes, and in which one line it refuses the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry import daemon


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        daemon.main(arguments)
    assert ended.value.code == 125
    return capsys.readouterr().err.splitlines()[0]


def test_an_unknown_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--sparkles=1") == "wherry daemon: unknown flag or argument: --sparkles=1"


def test_flags_are_not_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown flag" in refused(capsys, "--data", "/x")


def test_a_log_level_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "loud" in refused(capsys, "--log-level", "loud")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_tls_says_yes_or_no(text: str, value: bool) -> None:
    assert daemon._parser().parse_args([f"--tls={text}"]).tls is value


def test_tls_alone_means_yes_and_its_absence_says_nothing() -> None:
    assert daemon._parser().parse_args(["--tls"]).tls is True
    assert daemon._parser().parse_args([]).tls is None


def test_the_default_socket_is_in_the_exec_root() -> None:
    options = daemon._parser().parse_args(["--exec-root", "/run/other"])
    assert daemon._config(options).hosts == ("unix:///run/other/wherry.sock",)


def test_labels_and_log_options_are_pairs() -> None:
    options = daemon._parser().parse_args(["--label", "a=b=c", "--log-opt", "max-size=1m"])
    config = daemon._config(options)
    assert (config.labels, config.log_options) == (("a=b=c",), {"max-size": "1m"})
    with pytest.raises(daemon.StartupError, match="--label takes KEY=VALUE, not 'a'"):
        daemon._config(daemon._parser().parse_args(["--label", "a"]))


def test_a_root_belongs_to_one_engine(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with daemon._locked(root, 0o710):
        held = subprocess.run(
            [sys.executable, "-c", f"from wherry import daemon\nwith daemon._locked({root!r}, 0o710): pass"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"another engine (pid {os.getpid()}) already uses {root}" in held.stderr
    with daemon._locked(root, 0o710):
        pass


def test_a_pid_file_of_a_process_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "engine.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(daemon.StartupError, match=f"process {os.getppid()} runs"), daemon._pidfile(str(path)):
        pass
    path.write_text("999999999\n")
    with daemon._pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()
