"""``-it``: a container behind a real terminal, from raw mode to the terminal's own settings again."""

import contextlib

import pytest

from tests.clients.conftest import Cli


def test_a_shell_on_a_terminal(cli: Cli, busybox: str) -> None:
    terminal = cli.terminal("run", "--rm", "-it", busybox, "sh")
    terminal.expect("/ # ")
    assert terminal.is_raw
    terminal.send("echo $((6 * 7)); test -t 0 && test -t 1 && test -t 2 && tty\r")
    terminal.expect("42\r\n/dev/")
    terminal.send("exit 3\r")
    assert terminal.wait() == 3
    assert terminal.settings() == terminal.initial_settings


def test_the_size_is_the_terminals_and_follows_it(cli: Cli, busybox: str) -> None:
    line = "trap 'echo now $(stty size)' WINCH; stty size; while :; do sleep 0.05; done"
    terminal = cli.terminal("run", "--rm", "-it", busybox, "sh", "-c", line, rows=33, columns=99)
    terminal.expect("33 99")
    for rows in range(40, 60):  # the container may be up before the docker CLI listens to its terminal
        terminal.resize(rows, 120)
        with contextlib.suppress(AssertionError):
            terminal.expect(f"now {rows} 120", timeout=1)
            break
    else:
        raise AssertionError("the size is not followed")
    terminal.send("\x03")
    assert terminal.wait() == 130


def test_control_c_is_the_containers(cli: Cli, busybox: str) -> None:
    terminal = cli.terminal(
        "run", "--rm", "-it", busybox, "sh", "-c", "trap 'echo interrupted; exit 9' INT; echo up; sleep 1000 & wait"
    )
    terminal.expect("up\r\n")
    terminal.send("\x03")
    terminal.expect("interrupted")
    assert terminal.wait() == 9
    assert terminal.settings() == terminal.initial_settings


@pytest.mark.parametrize(("options", "keys"), [([], "\x10\x11"), (["--detach-keys", "ctrl-a,x"], "\x01x")])
def test_the_detach_keys_leave_it_running(cli: Cli, busybox: str, options: list[str], keys: str) -> None:
    terminal = cli.terminal("run", "-it", "--name", "left", *options, busybox, "sh")
    terminal.expect("/ # ")
    terminal.send("sleep 0 & echo $HOSTNAME >/here\r")
    terminal.expect("/ # ")
    terminal.send(keys)
    assert terminal.wait() == 0
    assert terminal.settings() == terminal.initial_settings
    assert cli.inspect("left", "{{.State.Running}}") == "true"


def test_other_keys_are_the_containers_when_the_detach_keys_are_others(cli: Cli, busybox: str) -> None:
    terminal = cli.terminal(
        "run", "--rm", "-it", "--detach-keys", "ctrl-a", busybox, "sh", "-c", "stty raw; echo up; head -c 2 | od -c"
    )
    terminal.expect("up")
    terminal.send("\x10\x11")
    terminal.expect("020 021")
    assert terminal.wait() == 0


def test_attach_to_a_shell_and_detach_again(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-dit", "--name", "shell", busybox, "sh")
    terminal = cli.terminal("attach", "shell")
    terminal.send("\r")
    terminal.expect("/ # ")
    terminal.send("stty size; echo $((7 * 6))\r")
    terminal.expect(r"24 80\r\n42")
    terminal.send("\x10\x11")
    terminal.expect("read escape sequence")
    assert terminal.wait() == 1
    assert terminal.settings() == terminal.initial_settings
    terminal = cli.terminal("attach", "shell")
    terminal.send("exit 5\r")
    assert terminal.wait() == 5


def test_start_attached_to_a_terminal(cli: Cli, busybox: str) -> None:
    cli.ok("create", "-it", "--name", "shell", busybox, "sh")
    terminal = cli.terminal("start", "-ai", "shell", rows=20, columns=70)
    terminal.expect("/ # ")
    terminal.send("stty size; exit 4\r")
    terminal.expect("20 70")
    assert terminal.wait() == 4


def test_exec_on_a_terminal(cli: Cli, sleeper: str) -> None:
    terminal = cli.terminal("exec", "-it", sleeper, "sh", rows=30, columns=90)
    terminal.expect("/ # ")
    terminal.send("stty size; tty; echo $TERM\r")
    terminal.expect(r"30 90\r\n/dev/pts/\d+\r\nxterm")
    terminal.resize(31, 91)
    terminal.send("sleep 0.1; stty size\r")
    terminal.expect("31 91")
    terminal.send("exit 6\r")
    assert terminal.wait() == 6
    assert terminal.settings() == terminal.initial_settings


def test_exec_and_the_detach_keys(cli: Cli, sleeper: str) -> None:
    terminal = cli.terminal("exec", "-it", sleeper, "sh")
    terminal.expect("/ # ")
    terminal.send("\x10\x11")
    terminal.wait()
    assert terminal.settings() == terminal.initial_settings
    assert cli.inspect(sleeper, "{{.State.Running}}") == "true"


def test_a_terminal_is_needed_for_one(cli: Cli, busybox: str, sleeper: str) -> None:
    assert "the input device is not a TTY" in cli.fails("run", "-it", busybox, "sh")
    assert "the input device is not a TTY" in cli.fails("exec", "-it", sleeper, "sh")


def test_the_terminal_is_restored_when_the_container_is_killed(cli: Cli, busybox: str) -> None:
    terminal = cli.terminal("run", "--rm", "-it", "--name", "victim", busybox, "sh")
    terminal.expect("/ # ")
    cli.ok("kill", "victim")
    assert terminal.wait() == 137
    assert terminal.settings() == terminal.initial_settings


def test_output_of_a_terminal_is_whole(cli: Cli, busybox: str) -> None:
    terminal = cli.terminal("run", "--rm", "-it", busybox, "seq", "20000")
    assert terminal.wait() == 0
    assert terminal.output.split() == [str(number) for number in range(1, 20001)]


@pytest.mark.parametrize(
    ("keys", "typed"), [("ctrl-p,ctrl-q", "\x10\x10\x11"), ("ctrl-p,ctrl-q", "\x10\x10\x10\x11"), ("a,a,b", "aaab")]
)
@pytest.mark.parametrize("way", ["run", "attach", "exec"])
def test_a_first_key_that_is_typed_twice(cli: Cli, busybox: str, way: str, keys: str, typed: str) -> None:
    """Docker 26 loses the sequence, and so does its CLI, which the engine has to let go."""
    if way != "run":
        cli.ok("run", "-dit", "--name", "left", busybox, "sh")
    command = {
        "run": ["run", "-it", "--name", "left", "--detach-keys", keys, busybox, "sh"],
        "attach": ["attach", "--detach-keys", keys, "left"],
        "exec": ["exec", "-it", "--detach-keys", keys, "left", "sh"],
    }[way]
    terminal = cli.terminal(*command)
    if way == "attach":
        terminal.send("\r")
    terminal.expect("/ # ")
    terminal.send(typed)
    terminal.wait()
    assert terminal.settings() == terminal.initial_settings
    assert cli.inspect("left", "{{.State.Running}}") == "true"
