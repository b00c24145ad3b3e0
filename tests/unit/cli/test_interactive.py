"""run, exec, attach and start with streams: on pipes and on a terminal, against an engine that does as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_engine import ScriptedContainer, ScriptedEngine, error, frame, json_answer
from tests.support.terminal import Terminal

WHERRY = [sys.executable, "-m", "wherry.cli.main"]
Open = Callable[..., Terminal]


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with ScriptedEngine() as engine:
        yield engine


@pytest.fixture
def environment(engine: ScriptedEngine, tmp_path: Path) -> dict[str, str]:
    """Without what the developer's own configuration says."""
    return {**os.environ, "WHERRY_HOST": engine.host, "DOCKER_CONFIG": str(tmp_path), "TERM": "xterm"}


@pytest.fixture
def wherry(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def call(*words: str, input: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*WHERRY, *words], input=input, capture_output=True, env=environment, timeout=60, **more)

    return call


@pytest.fixture
def on_terminal(environment: dict[str, str], terminal: Open) -> Open:
    return lambda *words, **more: terminal([*WHERRY, *words], env=environment, **more)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_run_shows_both_streams_and_ends_with_the_containers_code(engine: ScriptedEngine, wherry: Any) -> None:
    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"more\n"))
        return 7

    ScriptedContainer(engine, program)
    done = wherry("run", "busybox")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\nmore\n", b"err\n")


def test_run_asks_for_no_more_than_it_needs(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: 0)
    wherry("run", "--rm", "busybox", "true")
    assert sorted(engine.sent()) == [
        "POST /containers/c0ffee/attach",
        "POST /containers/c0ffee/start",
        "POST /containers/c0ffee/wait",
        "POST /containers/create",
    ]
    assert not any(request.endpoint == "/_ping" for request in engine.requests)
    assert engine.connections == 3
    assert engine.wait_for("POST", ".*/wait").query["condition"] == ["removed"]


def test_frames_cut_anywhere_are_put_together(engine: ScriptedEngine, wherry: Any) -> None:
    parts = frame(1, b"one ") + frame(2, b"two ") + frame(1, b"") + frame(1, b"three")

    def program(connection: socket.socket) -> int:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for number in range(len(parts)):
            connection.sendall(parts[number : number + 1])
        return 0

    ScriptedContainer(engine, program)
    done = wherry("run", "busybox")
    assert (done.stdout, done.stderr) == (b"one three", b"two ")


def test_input_goes_in_and_its_end_is_told(engine: ScriptedEngine, wherry: Any) -> None:
    data = os.urandom(3_000_000)

    def program(connection: socket.socket) -> int:
        got = read_all(connection)
        connection.sendall(frame(1, got))
        return 0 if got == data else 1

    ScriptedContainer(engine, program)
    done = wherry("run", "-i", "busybox", "cat", input=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_input_and_output_at_once_do_not_wait_for_each_other(engine: ScriptedEngine, wherry: Any) -> None:
    data = os.urandom(5_000_000)

    def program(connection: socket.socket) -> int:
        while piece := connection.recv(65536):
            connection.sendall(frame(1, piece))
        return 0

    ScriptedContainer(engine, program)
    assert wherry("run", "-i", "busybox", "cat", input=data).stdout == data


def test_a_container_that_does_not_read_can_end(engine: ScriptedEngine, environment: dict[str, str]) -> None:
    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"bye\n"))
        return 4

    ScriptedContainer(engine, program)
    with subprocess.Popen(
        [*WHERRY, "run", "-i", "busybox"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"bye\n"
        assert process.wait(60) == 4  # with standard input still open


def test_an_error_of_the_engine_in_the_stream_is_told(engine: ScriptedEngine, wherry: Any) -> None:
    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"begin\n") + frame(3, b"the log is broken"))
        return 0

    ScriptedContainer(engine, program)
    done = wherry("run", "busybox")
    assert done.stdout == b"begin\n"
    assert b"the log is broken" in done.stderr
    assert done.returncode == 1


def test_only_what_is_attached_is_shown(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: connection.sendall(frame(1, b"out") + frame(2, b"err")) or 3)
    done = wherry("run", "-a", "stderr", "busybox")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"err", 3)
    query = engine.wait_for("POST", ".*/attach").query
    assert "stdout" not in query and query["stderr"] == ["1"]


def test_input_alone_waits_for_the_end_not_for_output(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: len(read_all(connection)))
    assert wherry("run", "-i", "-a", "stdin", "busybox", input=b"12345").returncode == 5


def test_detached_prints_the_id(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: 0)
    done = wherry("run", "-d", "busybox")
    assert (done.returncode, done.stdout) == (0, b"c0ffee\n")
    assert engine.sent() == ["POST /containers/create", "POST /containers/c0ffee/start"]
    assert engine.requests[0].json["AttachStdout"] is False


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "foo": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ('exec: "/etc": is a directory', 126),
        ("something else", 125),
    ],
)
def test_a_container_that_does_not_start(engine: ScriptedEngine, wherry: Any, message: str, code: int) -> None:
    ScriptedContainer(engine, lambda connection: 0)
    engine.on("POST", ".*/start", error(400, message))
    done = wherry("run", "busybox", "foo")
    assert done.returncode == code
    assert done.stderr.decode() == (
        f"wherry: Error response from daemon: {message}\n\nRun 'wherry run --help' for more information\n"
    )


def test_warnings_are_shown(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: 0)
    engine.on("POST", "/containers/create", json_answer({"Id": "c0ffee", "Warnings": ["no swap"]}))
    done = wherry("run", "--dns", "127.0.0.1", "busybox")
    assert done.stderr == b"WARNING: no swap\nWARNING: Localhost DNS (127.0.0.1) may fail in containers.\n"


def test_a_missing_image_is_pulled(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: 0)
    missing = [True]

    def create(request: Any, connection: socket.socket) -> bool:
        if missing.pop() if missing else False:
            return error(404, "No such image: debian:latest")(request, connection)
        return json_answer({"Id": "c0ffee", "Warnings": None}, status=201)(request, connection)

    def pull(request: Any, connection: socket.socket) -> bool:
        lines = [
            {"status": "Pulling from library/debian", "id": "latest"},
            {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
            {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
        ]
        body = "".join(json.dumps(line) + "\r\n" for line in lines).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return True

    engine.on("POST", "/containers/create", create)
    engine.on("POST", "/images/create", pull)
    done = wherry("run", "debian")
    assert done.returncode == 0
    assert done.stderr.decode() == (
        "Unable to find image 'debian:latest' locally\nlatest: Pulling from library/debian\nabc: Pull complete\n"
    )
    query = engine.wait_for("POST", "/images/create").query
    assert query == {"fromImage": ["docker.io/library/debian"], "tag": ["latest"]}


def test_pull_never_does_not(engine: ScriptedEngine, wherry: Any) -> None:
    engine.on("POST", "/containers/create", error(404, "No such image: debian:latest"))
    done = wherry("run", "--pull", "never", "debian")
    assert done.returncode == 125
    assert engine.sent() == ["POST /containers/create"]


def test_the_id_file(engine: ScriptedEngine, wherry: Any, tmp_path: Path) -> None:
    path = tmp_path / "id"
    ScriptedContainer(engine, lambda connection: 0)
    assert wherry("run", "--cidfile", str(path), "busybox").returncode == 0
    assert path.read_text() == "c0ffee"
    done = wherry("run", "--cidfile", str(path), "busybox")
    assert done.returncode == 125
    assert b"container ID file found" in done.stderr
    engine.on("POST", "/containers/create", error(409, "in use"))
    path.unlink()
    assert wherry("run", "--cidfile", str(path), "busybox").returncode == 125
    assert not path.exists()


# Signals.


def test_signals_go_to_the_container(engine: ScriptedEngine, environment: dict[str, str]) -> None:
    killed = threading.Event()

    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"ready\n"))
        killed.wait(20)
        return 143

    ScriptedContainer(engine, program)

    def kill(request: Any, connection: socket.socket) -> bool:
        if request.query["signal"] == ["TERM"]:
            killed.set()
        return json_answer(None)(request, connection)

    engine.on("POST", ".*/kill", kill)
    with subprocess.Popen([*WHERRY, "run", "busybox"], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        engine.wait_for("POST", ".*/kill")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert [r.query["signal"] for r in engine.requests if r.endpoint.endswith("/kill")] == [["USR1"], ["TERM"]]


def test_without_sig_proxy_a_signal_ends_the_client_alone(engine: ScriptedEngine, environment: dict[str, str]) -> None:
    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"ready\n"))
        read_all(connection)
        return 0

    ScriptedContainer(engine, program)
    with subprocess.Popen(
        [*WHERRY, "run", "--sig-proxy=false", "-i", "busybox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not any(request.endpoint.endswith("/kill") for request in engine.requests)


def test_the_third_interrupt_ends_it_in_any_case(engine: ScriptedEngine, environment: dict[str, str]) -> None:
    hung = threading.Event()

    def program(connection: socket.socket) -> int:
        connection.sendall(frame(1, b"ready\n"))
        hung.wait(20)
        return 0

    ScriptedContainer(engine, program)
    engine.on("POST", ".*/kill", lambda request, connection: hung.wait(20))
    with subprocess.Popen(
        [*WHERRY, "run", "busybox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        engine.wait_for("POST", ".*/kill")
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            os.sched_yield()
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.returncode == 1
        assert b"got 3 SIGTERM/SIGINTs, forcefully exiting" in process.stderr.read()
    hung.set()


def test_a_reader_that_leaves_ends_it_silently(engine: ScriptedEngine, environment: dict[str, str]) -> None:
    def program(connection: socket.socket) -> int:
        with pytest.raises(OSError):
            while True:
                connection.sendall(frame(1, b"y\n" * 1000))
        return 0

    ScriptedContainer(engine, program)
    with subprocess.Popen(
        [*WHERRY, "run", "busybox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(2)
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
        assert process.stderr.read() == b""


# Terminals.


def echoing(connection: socket.socket) -> int:
    """A shell of sorts: prints what is typed; q ends it."""
    connection.sendall(b"$ ")
    while data := connection.recv(100):
        if data == b"q":
            connection.sendall(b"bye\r\n")
            return 3
        connection.sendall(b"<" + data.hex().encode() + b">")
    return 0


def test_a_terminal_is_raw_and_then_as_before(engine: ScriptedEngine, on_terminal: Open) -> None:
    ScriptedContainer(engine, echoing, tty=True)
    terminal = on_terminal("run", "-it", "busybox", rows=30, columns=100)
    terminal.expect(r"\$ ")
    assert terminal.is_raw
    terminal.send("\x03")
    terminal.expect("<03>")
    terminal.send("\x1a")
    terminal.expect("<1a>")
    terminal.send("q")
    assert terminal.wait() == 3
    assert terminal.settings() == terminal.initial_settings
    assert engine.requests[0].json["HostConfig"]["ConsoleSize"] == [30, 100]
    assert engine.wait_for("POST", ".*/resize").query == {"h": ["30"], "w": ["100"]}


def test_the_size_follows(engine: ScriptedEngine, on_terminal: Open) -> None:
    resized = threading.Event()
    ScriptedContainer(engine, echoing, tty=True)

    def resize(request: Any, connection: socket.socket) -> bool:
        if request.query == {"h": ["41"], "w": ["132"]}:
            resized.set()
        return json_answer(None)(request, connection)

    engine.on("POST", ".*/resize", resize)
    terminal = on_terminal("run", "-it", "busybox")
    terminal.expect(r"\$ ")
    terminal.resize(41, 132)
    assert resized.wait(20)
    terminal.send("q")
    assert terminal.wait() == 3


@pytest.mark.parametrize(
    ("words", "keys"),
    [([], ["\x10\x11"]), ([], ["\x10", "\x11"]), (["--detach-keys", "ctrl-a,d"], ["\x01d"])],
)
def test_the_detach_keys(engine: ScriptedEngine, on_terminal: Open, words: Sequence[str], keys: Sequence[str]) -> None:
    ScriptedContainer(engine, echoing, tty=True)
    terminal = on_terminal("run", "-it", *words, "busybox")
    terminal.expect(r"\$ ")
    terminal.send("a")
    terminal.expect("<61>")
    for key in keys:
        terminal.send(key)
    assert terminal.wait() == 0
    assert terminal.settings() == terminal.initial_settings


def test_half_of_the_detach_keys_is_only_typing(engine: ScriptedEngine, on_terminal: Open) -> None:
    ScriptedContainer(engine, echoing, tty=True)
    terminal = on_terminal("run", "-it", "busybox")
    terminal.expect(r"\$ ")
    terminal.send("\x10")
    terminal.send("x")
    terminal.expect("<1078>")
    terminal.send("q")
    assert terminal.wait() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_exec_leaves_the_terminal_as_before(
    engine: ScriptedEngine, on_terminal: Open, number: signal.Signals
) -> None:
    ScriptedContainer(engine, echoing, tty=True)
    terminal = on_terminal("exec", "-it", "box", "sh")
    terminal.expect(r"\$ ")
    assert terminal.is_raw
    os.kill(terminal.pid, number)
    assert terminal.wait() == 128 + number
    assert terminal.settings() == terminal.initial_settings


def test_an_engine_that_dies_leaves_the_terminal_as_before(engine: ScriptedEngine, on_terminal: Open) -> None:
    def program(connection: socket.socket) -> int:
        connection.sendall(b"$ ")
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raise OSError

    container = ScriptedContainer(engine, program, tty=True)
    terminal = on_terminal("run", "-it", "busybox")
    terminal.expect(r"\$ ")
    terminal.send("x")
    container.end()
    terminal.wait()
    assert terminal.settings() == terminal.initial_settings


def test_a_terminal_is_needed_for_one(engine: ScriptedEngine, wherry: Any) -> None:
    done = wherry("run", "-it", "busybox")
    assert (done.returncode, done.stderr) == (1, b"the input device is not a TTY\n")
    assert engine.requests == []


def test_exec_says_that_there_is_no_container_first(engine: ScriptedEngine, wherry: Any) -> None:
    engine.on("GET", "/containers/box/json", error(404, "No such container: box"))
    done = wherry("exec", "-it", "box", "sh")
    assert (done.returncode, done.stderr) == (1, b"Error response from daemon: No such container: box\n")


# exec, attach, start.


def test_exec(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: connection.sendall(frame(1, read_all(connection))) or 9)
    done = wherry("exec", "-i", "-e", "A=1", "-w", "/tmp", "-u", "me", "box", "cat", input=b"hello")
    assert (done.returncode, done.stdout) == (9, b"hello")
    assert engine.sent() == [
        "POST /containers/box/exec",
        "POST /exec/e0/start",
        "GET /exec/e0/json",
    ]
    assert engine.requests[0].json == {
        "User": "me",
        "Privileged": False,
        "Tty": False,
        "AttachStdin": True,
        "AttachStderr": True,
        "AttachStdout": True,
        "Detach": False,
        "DetachKeys": "",
        "Env": ["A=1"],
        "WorkingDir": "/tmp",
        "Cmd": ["cat"],
    }


def test_attach(engine: ScriptedEngine, wherry: Any) -> None:
    container = ScriptedContainer(engine, lambda connection: connection.sendall(frame(1, read_all(connection))) or 5)
    container.start()
    done = wherry("attach", "box", input=b"hello")
    assert (done.returncode, done.stdout) == (5, b"hello")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"Running": False}, "You cannot attach to a stopped container, start it first"),
        ({"Paused": True}, "You cannot attach to a paused container, unpause it first"),
        ({"Restarting": True}, "You cannot attach to a restarting container, wait until it is running"),
    ],
)
def test_attach_to_one_at_rest(engine: ScriptedEngine, wherry: Any, state: dict[str, bool], text: str) -> None:
    container = ScriptedContainer(engine, lambda connection: 0)
    container.state["State"] = {"Running": True, "Paused": False, "Restarting": False, **state}
    engine.on("GET", ".*/json", json_answer(container.state))
    done = wherry("attach", "box")
    assert (done.returncode, done.stderr.decode()) == (1, text + "\n")


def test_attach_nudges_the_screen_to_be_drawn(engine: ScriptedEngine, on_terminal: Open) -> None:
    ScriptedContainer(engine, echoing, tty=True).start()
    terminal = on_terminal("attach", "box", rows=30, columns=100)
    terminal.expect(r"\$ ")
    terminal.send("q")
    assert terminal.wait() == 3
    sizes = [r.query for r in engine.requests if r.endpoint.endswith("/resize")]
    assert sizes == [{"h": ["31"], "w": ["101"]}, {"h": ["30"], "w": ["100"]}]


def test_start_attached(engine: ScriptedEngine, wherry: Any) -> None:
    ScriptedContainer(engine, lambda connection: connection.sendall(frame(2, read_all(connection))) or 6)
    done = wherry("start", "-a", "-i", "box", input=b"hello")
    assert (done.returncode, done.stderr) == (6, b"hello")


def test_start_several(engine: ScriptedEngine, wherry: Any) -> None:
    engine.on("POST", "/containers/(a|c)/start", json_answer(None))
    engine.on("POST", "/containers/b/start", error(404, "No such container: b"))
    done = wherry("start", "a", "b", "c")
    assert (done.returncode, done.stdout) == (1, b"a\nc\n")
    assert done.stderr.decode() == (
        "Error response from daemon: No such container: b\nError: failed to start containers: b\n"
    )


def test_detaching_from_attach_is_told(engine: ScriptedEngine, on_terminal: Open) -> None:
    ScriptedContainer(engine, echoing, tty=True).start()
    terminal = on_terminal("attach", "box")
    terminal.expect(r"\$ ")
    terminal.send("\x10\x11")
    assert terminal.wait() == 1
    assert "read escape sequence" in terminal.output
    assert terminal.settings() == terminal.initial_settings
