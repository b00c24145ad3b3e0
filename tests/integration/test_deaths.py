"""What a client is told whose request meets the end of a process that it needs: a worker's, a monitor's."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tars
from tests.support.engine import Engine, Response
from wherry.linux.cgroups import Hierarchies, Resources

SLEEPER = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}


def _run(engine: Engine, name: str, **config: Any) -> int:
    """The process id of its monitor."""
    assert engine.request("POST", f"/containers/create?name={name}", SLEEPER | config).status == 201
    assert engine.request("POST", f"/containers/{name}/start").status == 204
    first = engine.request("GET", f"/containers/{name}/json").body["State"]["Pid"]
    return int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])


def _workers(engine: Engine) -> list[int]:
    """The processes that were forked for a job, once there are some."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in engine.processes():
            with contextlib.suppress(OSError):
                if b"worker.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                    if found:
                        return [int(each) for each in found]
    raise AssertionError("there is no worker")


class Upload:
    """A copy into a container whose client takes its time."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.data = tars.make(tars.member("file", data=b"x" * size))
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(60)
        self._connection.sock.connect(str(engine.socket))
        self._connection.putrequest("PUT", "/containers/web/archive?path=/tmp")
        self._connection.putheader("Content-Length", str(len(self.data)))
        self._connection.endheaders()

    def send(self, start: int, end: int | None = None) -> None:
        self._connection.send(self.data[start:end])

    def answer(self) -> tuple[int, bytes]:
        with contextlib.closing(self._connection), contextlib.closing(self._connection.getresponse()) as response:
            return response.status, response.read()


@pytest.mark.parametrize("runs", [True, False])
def test_a_copy_goes_on_with_another_worker(engine: Engine, busybox: str, runs: bool) -> None:
    assert engine.request("POST", "/containers/create?name=web", SLEEPER).status == 201
    if runs:
        assert engine.request("POST", "/containers/web/start").status == 204
    upload = Upload(engine, 100_000)
    upload.send(0, 50_000)
    for pid in _workers(engine):
        os.kill(pid, signal.SIGKILL)
    upload.send(50_000)
    assert upload.answer() == (200, b"")
    found = engine.request("GET", "/containers/web/archive?path=/tmp/file").body
    assert [content for _, content in tars.read(found)] == [b"x" * 100_000]


def test_one_that_is_too_long_to_be_begun_anew_is_told_so(engine: Engine, busybox: str) -> None:
    _run(engine, "web")
    upload = Upload(engine, 8 << 20)
    upload.send(0, 6 << 20)
    for pid in _workers(engine):
        os.kill(pid, signal.SIGKILL)
    status, message = upload.answer()
    assert status == 500 and b"was killed before it was done: try again" in message


def test_one_into_a_container_that_is_started_again_is_told_so(engine: Engine, busybox: str) -> None:
    """Its worker is in the mounts of the last run: those of the next one have the same directory to write to."""
    _run(engine, "web")
    upload = Upload(engine, 8 << 20)
    upload.send(0, 2 << 20)
    _workers(engine)
    assert engine.request("POST", "/containers/web/restart?t=0").status == 204
    status, message = upload.answer()
    assert status == 409 and b"has ended meanwhile: try again" in message
    assert engine.request("PUT", "/containers/web/archive?path=/tmp", upload.data).status == 200


def test_a_pause_that_its_engine_did_not_live_to_write_down(own_engine: Engine) -> None:
    _run(own_engine, "web")
    assert own_engine.request("POST", "/containers/web/pause").status == 204
    own_engine.kill()
    with contextlib.closing(sqlite3.connect(own_engine.data_root / "state.db")) as state, state:
        ((row,),) = state.execute("SELECT body FROM containers").fetchall()
        body = json.loads(row)
        assert body["state"]["status"] == "paused", body
        body["state"]["status"] = "running"
        state.execute("UPDATE containers SET body = ?", (json.dumps(body).encode(),))
    own_engine.start()
    assert own_engine.request("GET", "/containers/web/json").body["State"]["Paused"]
    assert own_engine.request("POST", "/containers/web/stop?t=0").status == 204


@pytest.mark.parametrize("restarts", [False, True], ids=["at its start", "when an engine comes up"])
def test_what_stands_still_in_the_cgroup_of_one_that_ended_is_ended(own_engine: Engine, restarts: bool) -> None:
    """An exec that was under way when its monitor was killed, and the container paused."""
    container = own_engine.request("POST", "/containers/create?name=web", SLEEPER).body["Id"]
    hierarchies = Hierarchies.detect()
    parent = f"/{own_engine.cgroup_parent or 'wherry'}"
    hierarchies.prepare(parent)
    cgroup = hierarchies.create(f"{parent}/{container}", Resources())
    left = subprocess.Popen(["sleep", "1000"])
    for directory in cgroup.all_directories():
        (Path(directory) / "cgroup.procs").write_text(str(left.pid))
    cgroup.freeze()
    try:
        if restarts:
            own_engine.kill()
            (own_engine.exec_root / container).mkdir()
            own_engine.start()
            assert own_engine.request("GET", "/containers/web/json").body["State"]["Status"] == "created"
            assert not cgroup.exists()
        else:
            assert own_engine.request("POST", "/containers/web/start").status == 204
        assert left.poll() == -signal.SIGKILL
    finally:
        left.kill()
        left.wait()


def test_a_stop_whose_monitor_is_killed(engine: Engine, busybox: str) -> None:
    monitor = _run(engine, "web")  # whose first process does not hear SIGTERM
    answers: list[Response] = []
    stopping = threading.Thread(target=lambda: answers.append(engine.request("POST", "/containers/web/stop?t=100")))
    stopping.start()
    os.kill(monitor, signal.SIGKILL)
    stopping.join(60)
    assert [answer.status for answer in answers] in ([204], [304])
    state = engine.request("GET", "/containers/web/json").body["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/containers/web/attach?stream=1&stdout=1"),
        ("GET", "/containers/web/logs?follow=1&stdout=1"),
        ("POST", "/containers/web/wait"),
        ("POST", "/exec/{exec}/start"),
    ],
)
def test_who_listens_hears_the_end(engine: Engine, busybox: str, method: str, path: str) -> None:
    monitor = _run(engine, "web")
    body = {"Cmd": ["sleep", "1000"], "AttachStdout": True}
    exec_id = engine.request("POST", "/containers/web/exec", body).body["Id"]
    answers: list[Response] = []
    asked = {"Detach": False} if "exec" in path else None
    asking = threading.Thread(target=lambda: answers.append(engine.request(method, path.format(exec=exec_id), asked)))
    asking.start()
    while "exec" in path and not engine.request("GET", f"/exec/{exec_id}/json").body["Running"]:
        time.sleep(0.01)
    os.kill(monitor, signal.SIGKILL)
    asking.join(60)
    (answer,) = answers
    if path.endswith("/wait"):
        assert answer.status == 200 and answer.body["StatusCode"] == 137
    else:
        assert answer.status in (200, 409), answer  # 409: it had ended before
    if "exec" in path:
        assert engine.request("GET", f"/exec/{exec_id}/json").body["ExitCode"] == 137


QUESTIONS = {
    "resize": ("POST", "/containers/web/resize?h=40&w=80", None),
    "attach": ("POST", "/containers/web/attach?stream=1&stdout=1", None),
    "exec": ("POST", "/containers/web/exec", {"Cmd": ["true"]}),
    "top": ("GET", "/containers/web/top", None),
    "stats": ("GET", "/containers/web/stats?stream=0&one-shot=1", None),
    "pause": ("POST", "/containers/web/pause", None),
    "update": ("POST", "/containers/web/update", {"CpuShares": 512}),
    "kill": ("POST", "/containers/web/kill", None),
    "stop": ("POST", "/containers/web/stop?t=1", None),
    "restart": ("POST", "/containers/web/restart?t=0", None),
    "rename": ("POST", "/containers/web/rename?name=new", None),
    "stat": ("HEAD", "/containers/web/archive?path=/etc", None),
    "copy out": ("GET", "/containers/web/archive?path=/etc", None),
    "connect": ("POST", "/networks/shop/connect", {"Container": "web"}),
    "disconnect": ("POST", "/networks/bridge/disconnect", {"Container": "web"}),
    "commit": ("POST", "/commit?container=web&repo=committed", {}),
}


@pytest.fixture
def shop(engine: Engine) -> Iterator[None]:
    assert engine.request("POST", "/networks/create", {"Name": "shop"}).status == 201
    yield
    engine.remove_containers()
    assert engine.request("DELETE", "/networks/shop").status == 204
    engine.request("DELETE", "/images/committed")
    engine.request("POST", "/images/prune")  # the one that had the name before


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_to_one_that_ends_at_that_moment(engine: Engine, busybox: str, shop: None, question: str) -> None:
    """Whichever comes first, nothing is a mistake of the engine's, and what is true afterwards is what it says."""
    method, path, body = QUESTIONS[question]
    for ends in (_monitor, _first):
        monitor = _run(engine, "web", HostConfig={"NetworkMode": "bridge"})
        first = engine.request("GET", "/containers/web/json").body["State"]["Pid"]
        ending = threading.Thread(target=ends, args=(monitor, first))
        ending.start()
        answer = engine.request(method, path, body)
        ending.join()
        assert answer.status < 500, answer
        container = engine.request("GET", "/containers/json?all=1").body[0]
        if question == "exec" and answer.status == 201:
            answer = engine.request("POST", f"/exec/{answer.body['Id']}/start", {"Detach": True})
            assert answer.status < 500, answer
        if question == "pause":
            engine.request("POST", "/containers/web/unpause")  # what stands still does not die
        if question != "restart":
            assert engine.request("POST", f"/containers/{container['Id']}/wait").body["StatusCode"] == 137
        assert engine.request("POST", f"/containers/{container['Id']}/restart?t=0").status == 204
        assert engine.request("DELETE", f"/containers/{container['Id']}?force=1").status == 204


def _monitor(monitor: int, first: int) -> None:
    os.kill(monitor, signal.SIGKILL)


def _first(monitor: int, first: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGKILL)
