"""``run`` in the foreground: its output, its input, and its exit code."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Cli


def test_a_command_prints_what_the_image_holds(cli: Cli, debian: str) -> None:
    finished = cli("run", "--rm", debian, "cat", "/etc/issue")
    assert finished.stdout.startswith("Debian GNU/Linux")
    assert (finished.returncode, finished.stderr) == (0, "")


def test_output_and_errors_stay_apart(cli: Cli, busybox: str) -> None:
    finished = cli("run", "--rm", busybox, "sh", "-c", "echo out; echo err >&2; printf x")
    assert (finished.stdout, finished.stderr) == ("out\nx", "err\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -TERM $$; exit 5"], 5),  # PID 1 is spared signals that it has no handler for
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
    ],
)
def test_the_exit_code_is_the_containers_own(cli: Cli, busybox: str, command: list[str], code: int) -> None:
    assert cli("run", "--rm", busybox, *command).returncode == code


def test_exit_code_of_a_container_ended_by_a_signal(cli: Cli, busybox: str) -> None:
    process = cli.begin("run", "--rm", "--name", "victim", busybox, "sh", "-c", "echo up; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    cli.ok("kill", "victim")
    assert process.wait(20) == 128 + signal.SIGKILL
    process.communicate()


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuchprogram", 127, 'exec: "nosuchprogram": executable file not found in $PATH'),
        ("/nosuchfile", 127, 'exec: "/nosuchfile": stat /nosuchfile: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": '),
    ],
)
def test_a_command_that_cannot_be_run(cli: Cli, busybox: str, command: str, code: int, text: str) -> None:
    said = cli.fails("run", "--rm", busybox, command, code=code)
    assert said.startswith("PROGRAM: Error response from daemon: ")
    assert text in said
    assert said.splitlines()[1:] == ["", "Run 'PROGRAM run --help' for more information"]
    assert cli.ok("ps", "-aq") == ""


def test_a_command_that_cannot_be_run_leaves_a_container_without_rm(cli: Cli, busybox: str) -> None:
    cli.fails("run", "--name", "failed", busybox, "nosuchprogram", code=127)
    assert cli.inspect("failed", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}") == "created 127 false"
    assert "executable file not found" in cli.inspect("failed", "{{.State.Error}}")


def test_input_reaches_the_container_and_its_end_too(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "-i", busybox, "wc", "-c", input="x" * 100_000) == "100000"
    assert cli.ok("run", "--rm", "-i", busybox, "cat", input="") == ""


def test_without_interactive_there_is_no_input(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", busybox, "cat", input="not heard") == ""


def test_output_that_is_large_arrives_whole(cli: Cli, busybox: str) -> None:
    text = cli.ok("run", "--rm", busybox, "seq", "300000")
    assert text.split("\n") == [str(number) for number in range(1, 300001)]


def test_large_input_comes_back(cli: Cli, busybox: str) -> None:
    text = "".join(f"{number}\n" for number in range(400_000))
    assert cli("run", "--rm", "-i", busybox, "cat", input=text).stdout == text


def test_a_container_that_does_not_read_its_input(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "-i", busybox, "echo", "done", input="x" * 1_000_000) == "done"


def test_only_the_attached_streams_are_shown(cli: Cli, busybox: str) -> None:
    line = ("sh", "-c", "echo out; echo err >&2")
    finished = cli("run", "--rm", "-a", "stdout", busybox, *line)
    assert (finished.stdout, finished.stderr) == ("out\n", "")
    finished = cli("run", "--rm", "-a", "stderr", busybox, *line)
    assert (finished.stdout, finished.stderr) == ("", "err\n")


def test_signals_are_passed_on(cli: Cli, busybox: str) -> None:
    line = "trap 'echo got it; exit 7' USR1; echo up; while :; do sleep 0.1; done"
    process = cli.begin("run", "--rm", busybox, "sh", "-c", line)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("got it\n", 7)


def test_detached_it_prints_the_id(cli: Cli, busybox: str) -> None:
    container = cli.ok("run", "-d", "--name", "detached", busybox, "sh", "-c", "echo hello")
    assert len(container) == 64
    assert cli.ok("wait", container[:12]) == "0"
    assert cli.ok("logs", "detached") == "hello"


def test_detached_with_rm_nothing_stays(cli: Cli, busybox: str) -> None:
    container = cli.ok("run", "-d", "--rm", "--name", "passing", busybox, "true")
    while not cli.past_events(f"container={container}", "event=destroy"):
        pass
    assert cli.ok("ps", "-aq") == ""


def test_the_id_is_written_to_the_cidfile(cli: Cli, busybox: str, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    container = cli.ok("run", "-d", "--cidfile", str(file), busybox, "true")
    assert file.read_text() == container
    assert "container ID file found" in cli.fails("run", "--cidfile", str(file), busybox, "true", code=125)


def test_create_then_start_attached(cli: Cli, busybox: str) -> None:
    container = cli.ok("create", "-i", "--name", "later", busybox, "sh", "-c", "read line; echo got $line; exit 3")
    assert cli.inspect("later", "{{.State.Status}}") == "created"
    finished = cli("start", "-ai", container, input="a line\n")
    assert (finished.stdout, finished.returncode) == ("got a line\n", 3)
    finished = cli("start", "-ai", "later", input="another\n")
    assert (finished.stdout, finished.returncode) == ("got another\n", 3)


def test_a_quiet_run_of_an_image_by_its_id(cli: Cli, busybox: str) -> None:
    image = cli.ok("images", "-q", "--no-trunc", busybox).split("\n")[0]
    assert cli.ok("run", "--rm", "-q", image, "echo", "hi") == "hi"
    assert cli.ok("run", "--rm", image.removeprefix("sha256:")[:12], "echo", "hi") == "hi"


def test_pull_policies(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "--pull", "never", busybox, "echo", "hi") == "hi"
    assert "No such image: absent:latest" in cli.fails("run", "--rm", "--pull", "never", "absent", code=125)


def test_a_closed_standard_input_is_an_empty_one(cli: Cli, busybox: str) -> None:
    line = shlex.join([*cli.command, "run", "--rm", "-i", busybox, "cat"]) + " <&-"
    finished = subprocess.run(["sh", "-c", line], env={**os.environ, **cli.host}, timeout=30)
    assert finished.returncode == 0
