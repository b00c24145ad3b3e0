"""``logs`` and ``attach``: what a container prints, now and later."""

import re
import signal
from datetime import datetime

from tests.clients.conftest import Cli

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def test_logs_keep_the_streams_apart(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "talker", busybox, "sh", "-c", "echo one; echo two >&2; printf three")
    finished = cli("logs", "talker")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("one\nthree", "two\n", 0)


def test_the_last_lines(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "counter", busybox, "seq", "1000")
    assert cli.ok("logs", "--tail", "3", "counter") == "998\n999\n1000"
    assert cli.ok("logs", "-n", "0", "counter") == ""
    assert len(cli.ok("logs", "--tail", "all", "counter").split("\n")) == 1000
    assert len(cli.ok("logs", "-n", "5000", "counter").split("\n")) == 1000


def test_times_before_each_line(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "talker", busybox, "sh", "-c", "echo one; sleep 0.05; echo two")
    lines = cli.ok("logs", "-t", "talker").split("\n")
    times = [line.split(" ")[0] for line in lines]
    assert all(_TIME.fullmatch(time) for time in times)
    assert times == sorted(times)
    assert [line.split(" ")[1] for line in lines] == ["one", "two"]


def test_since_and_until(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "talker", busybox, "sh", "-c", "echo one; sleep 0.2; echo two; sleep 0.2; echo three")
    first, second, third = (line.split(" ")[0] for line in cli.ok("logs", "-t", "talker").split("\n"))
    assert first < second < third
    assert cli.ok("logs", "--since", second, "talker") == "two\nthree"
    assert cli.ok("logs", "--until", second, "talker") == "one\ntwo"
    assert cli.ok("logs", "--since", second, "--until", second, "talker") == "two"
    assert cli.ok("logs", "--since", "1h", "talker") == "one\ntwo\nthree"
    assert cli.ok("logs", "--until", "1h", "talker") == ""
    seconds = datetime.fromisoformat(f"{second[:-4]}+00:00").timestamp()
    assert cli.ok("logs", "--since", f"{seconds:.6f}", "talker") == "two\nthree"


def test_following_to_the_end(cli: Cli, busybox: str) -> None:
    cli.ok(
        "run",
        "-d",
        "--name",
        "talker",
        busybox,
        "sh",
        "-c",
        "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two",
    )
    process = cli.begin("logs", "-f", "talker")
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    cli("exec", "talker", "touch", "/go")  # which may itself be ended, with the container
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("two\n", 0)


def test_following_from_the_last_line_on(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "talker", busybox, "sh", "-c",
           "seq 100; while [ ! -e /go ]; do sleep 0.05; done; echo end")  # fmt: skip
    process = cli.begin("logs", "-f", "--tail", "1", "talker")
    assert process.stdout is not None
    assert process.stdout.readline() == "100\n"
    cli("exec", "talker", "touch", "/go")  # which may itself be ended, with the container
    assert process.communicate(timeout=20)[0] == "end\n"


def test_following_what_has_ended_ends_at_once(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "talker", busybox, "echo", "hello")
    assert cli.ok("logs", "-f", "talker") == "hello"


def test_logs_span_restarts(cli: Cli, busybox: str) -> None:
    cli("run", "--name", "talker", busybox, "echo", "hello")
    cli.ok("start", "talker")
    cli.ok("wait", "talker")
    assert cli.ok("logs", "talker") == "hello\nhello"


def test_logs_of_a_terminal(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-dt", "--name", "talker", busybox, "sh", "-c", "echo one; echo two >&2")
    cli.ok("wait", "talker")
    assert cli.ok("logs", "talker") == "one\ntwo"  # read as text, where \r\n ends a line


def test_a_json_file_log(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "talker", "--log-driver", "json-file", "--log-opt", "max-size=1m",
           "--log-opt", "labels=who", "-l", "who=me", busybox, "echo", "hello")  # fmt: skip
    cli.ok("wait", "talker")
    assert cli.ok("logs", "talker") == "hello"
    assert cli.ok("logs", "--details", "talker") == "who=me hello"
    assert cli.inspect("talker", "{{.LogPath}}").endswith("-json.log")
    assert cli.inspect("talker", "{{.HostConfig.LogConfig.Type}}") == "json-file"


def test_without_a_log(cli: Cli, busybox: str) -> None:
    assert (
        cli.ok("run", "--name", "silent", "--log-driver", "none", busybox, "echo", "shown all the same")
        == "shown all the same"
    )
    assert "configured logging driver does not support reading" in cli.fails("logs", "silent")


def test_attach_shows_what_comes_from_now_on(cli: Cli, busybox: str) -> None:
    line = "echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 3"
    cli.ok("run", "-d", "--name", "talker", busybox, "sh", "-c", line)
    process = cli.begin("attach", "talker")
    while "attach" not in cli.past_events("type=container"):
        pass
    cli("exec", "talker", "touch", "/go")  # which may itself be ended, with the container
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("after\n", 3)


def test_attach_gives_input(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-di", "--name", "reader", busybox, "sh", "-c", "read line; echo got $line")
    process = cli.begin("attach", "reader")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("something\n")
    process.stdin.flush()  # and not closed: where the container keeps its input open, that ends the attachment
    assert process.stdout.readline() == "got something\n"
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_attach_passes_signals_on(cli: Cli, busybox: str) -> None:
    trap = "trap 'echo got it; exit 7' USR1"
    line = f"{trap}; while [ ! -e /go ]; do sleep 0.05; done; echo up; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "trapper", busybox, "sh", "-c", line)
    process = cli.begin("attach", "trapper")
    while "attach" not in cli.past_events("type=container"):
        pass
    cli.ok("exec", "trapper", "touch", "/go")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("got it\n", 7)


def test_attach_to_what_does_not_run(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "made", busybox, "true")
    assert cli.fails("attach", "made") == "You cannot attach to a stopped container, start it first\n"
