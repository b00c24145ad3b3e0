"""kill -9 of the daemon, a monitor, the launcher: what runs goes on, and what is told of it afterwards is right."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.support.engine import WHERRY, Engine, docker_cli
from tests.support.terminal import Terminal

COUNT = 'i=0; while true; do echo "line $i"; i=$((i+1)); sleep 0.02; done'


def _state(engine: Engine, name: str) -> dict[str, object]:
    state = engine.request("GET", f"/containers/{name}/json").body["State"]
    assert isinstance(state, dict)
    return state


def _wait_for(engine: Engine, name: str, status: str, seconds: float = 10) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while (state := _state(engine, name))["Status"] != status:
        assert time.monotonic() < deadline, f"{name} did not become {status}: {state}"
        time.sleep(0.02)
    return state


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(status.parent.name)


def _runs(pid: int) -> bool:
    """Whether the process is there, and no zombie that the machine's first process has yet to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_containers_outlive_the_daemon_and_their_logs_have_no_gap(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNT, check=True)
    pid = _state(own_engine, "counter")["Pid"]
    time.sleep(0.3)
    own_engine.kill()
    time.sleep(0.5)  # it must go on writing with nobody there
    own_engine.start()
    assert _state(own_engine, "counter")["Pid"] == pid
    time.sleep(0.3)
    assert own_engine.docker("exec", "counter", "echo", "here", check=True).stdout == "here\n"
    own_engine.docker("stop", "-t", "0", "counter", check=True)
    lines = own_engine.docker("logs", "counter", check=True).stdout.splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert len(lines) > 20
    assert _state(own_engine, "counter")["ExitCode"] == 137


def test_the_exit_code_of_one_that_ended_meanwhile(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "brief", "busybox", "sh", "-c", "sleep 0.5; exit 42", check=True)
    own_engine.docker("run", "-d", "--name", "longer", "busybox", "sh", "-c", "sleep 2; exit 43", check=True)
    own_engine.kill()
    time.sleep(1)
    own_engine.start()
    state = _state(own_engine, "brief")
    assert (state["Status"], state["ExitCode"]) == ("exited", 42)
    assert own_engine.docker("wait", "longer", check=True).stdout == "43\n"


def test_one_that_was_to_be_removed_is_removed(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.3", check=True)
    own_engine.kill()
    time.sleep(0.8)
    own_engine.start()
    deadline = time.monotonic() + 5
    while own_engine.request("GET", "/containers/brief/json").status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_paused_container_stays_paused_across_a_restart(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "still", "busybox", "sleep", "100", check=True)
    own_engine.docker("pause", "still", check=True)
    own_engine.kill()
    own_engine.start()
    assert _state(own_engine, "still")["Status"] == "paused"
    own_engine.docker("unpause", "still", check=True)
    own_engine.docker("rm", "-f", "still", check=True)


def test_a_ping_is_answered_while_containers_are_taken_up(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "slow", "busybox", "sleep", "1000", check=True)
    monitor = _parent(int(str(_state(own_engine, "slow")["Pid"])))
    own_engine.kill()
    os.kill(monitor, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2) as pool:
            starting = pool.submit(own_engine.start)
            deadline = time.monotonic() + 30
            while not _is_answering(own_engine):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            asked = pool.submit(_state, own_engine, "slow")
            assert _is_answering(own_engine) and not asked.done() and not starting.done()
            os.kill(monitor, signal.SIGCONT)
            assert asked.result()["Running"]
            starting.result()
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert own_engine.docker("exec", "slow", "echo", "fine", check=True).stdout == "fine\n"


def _is_answering(engine: Engine) -> bool:
    with contextlib.suppress(OSError):
        return engine.request("GET", "/_ping").body == b"OK"
    return False


@pytest.mark.parametrize("options", [(), ("--init",), ("--pid", "container:two")], ids=["plain", "init", "joined"])
def test_a_killed_monitor_ends_its_container_and_no_other(own_engine: Engine, options: tuple[str, ...]) -> None:
    for name, its in (("two", ()), ("one", options)):
        command = ("busybox", "sh", "-c", "sleep 1000 & sleep 1000")
        own_engine.docker("run", "-d", "--name", name, *its, *command, check=True)
    first = int(str(_state(own_engine, "one")["Pid"]))
    members = [first, *_children(first)]
    os.kill(_parent(first), signal.SIGKILL)
    state = _wait_for(own_engine, "one", "exited")
    assert state["ExitCode"] == 137
    assert "monitor" in str(state["Error"])
    assert not [pid for pid in members if _runs(pid)]
    assert _state(own_engine, "two")["Running"]
    assert own_engine.docker("exec", "two", "echo", "fine", check=True).stdout == "fine\n"


def test_a_monitor_and_the_daemon_killed_together(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000", check=True)
    first = int(str(_state(own_engine, "one")["Pid"]))
    monitor = _parent(first)
    own_engine.kill()
    os.kill(monitor, signal.SIGKILL)
    own_engine.start()
    state = _wait_for(own_engine, "one", "exited")
    assert state["ExitCode"] != 0 and state["Error"]
    assert not _runs(first)
    own_engine.docker("start", "one", check=True)
    assert _state(own_engine, "one")["Running"]


def test_after_a_killed_launcher_the_next_run_works(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "before", "busybox", "sleep", "1000", check=True)
    launchers = [
        pid
        for pid in _children(own_engine.pid)
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"wherry-launcher")
    ]
    assert len(launchers) == 1
    os.kill(launchers[0], signal.SIGKILL)
    assert own_engine.docker("run", "--rm", "busybox", "echo", "again", check=True).stdout == "again\n"
    assert _state(own_engine, "before")["Running"]


@pytest.mark.parametrize("client", ["docker", "wherry"])
def test_who_is_at_a_terminal_of_an_engine_that_is_killed_has_it_back(own_engine: Engine, client: str) -> None:
    program = docker_cli() if client == "docker" else str(WHERRY)
    hosts = {"DOCKER_HOST": own_engine.host, "WHERRY_HOST": own_engine.host}
    for words, code in (
        (["run", "--name", "shell", "-it", "busybox", "sh"], 125),
        (["exec", "-it", "shell", "sh"], 255),
    ):
        with Terminal([program, *words], env={**os.environ, **hosts}) as terminal:
            terminal.expect("/ # ")
            own_engine.kill()
            assert terminal.wait() == code, terminal.output
            assert terminal.settings() == terminal.initial_settings
        own_engine.start()
    with Terminal([program, "attach", "shell"], env={**os.environ, **hosts}) as terminal:
        terminal.send("echo $((6 * 7))\r")
        terminal.expect("42")
        terminal.send("exit 5\r")
        assert terminal.wait() == 5


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_the_daemon_killed_while_containers_are_made(own_engine: Engine, moment: float) -> None:
    clients = [
        subprocess.Popen(
            [docker_cli(), "run", "-d", "--name", f"made{number}", "busybox", "sleep", "1000"],
            env={**os.environ, "DOCKER_HOST": own_engine.host},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    time.sleep(moment)
    own_engine.kill()
    for client in clients:
        client.wait(30)
    own_engine.start()
    for container in own_engine.request("GET", "/containers/json?all=1").body:
        assert container["State"] in ("created", "running", "exited"), container
    known = {container["Id"] for container in own_engine.request("GET", "/containers/json?all=1").body}
    assert set(os.listdir(own_engine.data_root / "containers")) == known
    assert own_engine.docker("run", "--rm", "busybox", "echo", "works", check=True).stdout == "works\n"


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_events_health_checks_and_restart_policies_go_on(own_engine: Engine, end: str) -> None:
    checked = ["--health-cmd", "test -e /fine", "--health-interval", "100ms", "--health-retries", "1"]
    own_engine.docker("run", "-d", "--name", "checked", *checked, "busybox", "sleep", "1000", check=True)
    for name in ("kept", "fallen"):
        own_engine.docker("run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "1000", check=True)
    fallen = int(str(_state(own_engine, "fallen")["Pid"]))
    _wait_for_health(own_engine, "checked", "unhealthy")
    told = _events(own_engine)
    getattr(own_engine, end)()
    os.kill(fallen, signal.SIGKILL)
    own_engine.start()

    assert _events(own_engine)[: len(told)] == told
    assert _wait_for(own_engine, "fallen", "running")["Pid"] != fallen
    own_engine.docker("exec", "checked", "touch", "/fine", check=True)
    _wait_for_health(own_engine, "checked", "healthy")
    own_engine.docker("exec", "checked", "rm", "/fine", check=True)
    _wait_for_health(own_engine, "checked", "unhealthy")
    before = int(str(_state(own_engine, "kept")["Pid"]))
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (state := _state(own_engine, "kept"))["Pid"] in (0, before):
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
    actions = _events(own_engine)[len(told) :]
    assert [action for action in actions if action.startswith("health")] == [
        "health_status: healthy",
        "health_status: unhealthy",
    ]
    assert (actions.count("die"), actions.count("start")) == (2, 2)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_one_that_waits_for_its_restart_is_not_forgotten(own_engine: Engine, end: str) -> None:
    own_engine.docker("run", "-d", "--name", "again", "--restart", "always", "busybox", "false", check=True)
    own_engine.docker("run", "-d", "--name", "enough", "--restart", "on-failure:9", "busybox", "false", check=True)
    deadline = time.monotonic() + 30
    for name in ("again", "enough"):
        while (count := _restarts(own_engine, name)) < 5 or not _state(own_engine, name)["Restarting"]:
            assert time.monotonic() < deadline, count
            time.sleep(0.02)
    own_engine.docker("update", "--restart", "no", "enough", check=True)
    getattr(own_engine, end)()
    own_engine.start()
    while _restarts(own_engine, "again") < 7:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert _state(own_engine, "enough")["Status"] == "exited"


def _restarts(engine: Engine, name: str) -> int:
    return int(engine.request("GET", f"/containers/{name}/json").body["RestartCount"])


def _events(engine: Engine) -> list[str]:
    """What has happened to containers, but for the health checks, of which there are as many as there is time."""
    template = ["--format", "{{.Action}}", "--filter", "type=container"]
    listed = engine.docker("events", "--since", "1", "--until", f"{time.time():.6f}", *template, check=True)
    return [action for action in listed.stdout.splitlines() if not action.startswith("exec_")]


def _wait_for_health(engine: Engine, name: str, status: str) -> None:
    deadline = time.monotonic() + 10
    while (health := _state(engine, name)["Health"])["Status"] != status:
        assert time.monotonic() < deadline, health
        time.sleep(0.02)


def test_two_hundred_started_twenty_at_a_time_and_the_daemon_killed_in_the_middle(own_engine: Engine) -> None:
    """Each is as it was told to be; of those that nobody was told of, some came into being and some did not."""
    told: dict[str, str] = {}

    def start(name: str) -> None:
        with contextlib.suppress(OSError, HTTPException):
            made = own_engine.request(
                "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "1000"]}
            )
            assert made.status == 201, made
            told[name] = "created"
            started = own_engine.request("POST", f"/containers/{name}/start")
            assert started.status == 204, started
            told[name] = "running"
        if len(told) >= 100:
            half.set()

    half = threading.Event()
    names = [f"many{number}" for number in range(200)]
    with ThreadPoolExecutor(20) as pool:
        started = [pool.submit(start, name) for name in names[:180]]
        assert half.wait(60)
        own_engine.kill()
        for each in started:
            each.result()
        own_engine.start()
        for each in [pool.submit(start, name) for name in names if told.get(name) is None]:
            with contextlib.suppress(AssertionError):  # the name is taken: it had come into being
                each.result()

    found = {each["Names"][0][1:]: each for each in own_engine.request("GET", "/containers/json?all=1").body}
    assert set(found) == set(names)
    assert len([name for name in names if told.get(name) == "running"]) > 100
    for name, state in told.items():
        assert state == "created" or found[name]["State"] == "running", (name, state, found[name])
    pids = {int(str(_state(own_engine, name)["Pid"])) for name in names if found[name]["State"] == "running"}
    assert all(_runs(pid) for pid in pids)
    sleeping = {pid for pid in own_engine.processes() if _command(pid) == b"sleep\0001000\0"}
    assert sleeping == pids  # and no container runs that the engine does not know


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_container_that_is_killed_while_it_is_unpaused_has_ended(own_engine: Engine) -> None:
    def ask(path: str) -> int:
        return own_engine.request("POST", f"/containers/{path}").status

    own_engine.docker("create", "--name", "torn", "busybox", "sleep", "1000", check=True)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            assert ask("torn/start") == 204
            assert ask("torn/pause") == 204
            paths = ("torn/unpause", "torn/kill", "torn/unpause", "torn/pause")
            assert set(pool.map(ask, paths)) <= {204, 409, 500}  # 500 is Docker's for one that is not paused
            assert own_engine.request("POST", "/containers/torn/wait").body["StatusCode"] == 137
            assert _state(own_engine, "torn")["Status"] == "exited"
    own_engine.docker("rm", "-f", "torn", check=True, timeout=20)
