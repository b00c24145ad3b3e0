"""Nothing is left: after hundreds of containers there are no more processes, mounts, cgroups, files or descriptors."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.support.engine import Engine
from tests.support.footprint import Footprint, footprint


def _settled(engine: Engine, before: Footprint) -> Footprint:
    """What is there once the kernel and the engine's background have let go of what they release late."""
    deadline = time.monotonic() + 10
    while (now := footprint(engine)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def _run(engine: Engine, *arguments: str) -> None:
    finished = engine.docker("run", "--rm", *arguments)
    assert finished.returncode == 0, finished.stderr


def _warm(engine: Engine) -> Footprint:
    for _ in range(5):
        _run(engine, "busybox", "true")
    time.sleep(0.5)
    return footprint(engine)


def test_three_hundred_runs_leave_nothing(own_engine: Engine) -> None:
    before = _warm(own_engine)
    for _ in range(300):
        _run(own_engine, "busybox", "true")
    assert _settled(own_engine, before) == before


def test_twenty_at_a_time_leave_nothing(own_engine: Engine) -> None:
    before = _warm(own_engine)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: _run(own_engine, "busybox", "echo", str(number)), range(100)))
    assert _settled(own_engine, before) == before


def test_failed_starts_execs_and_attaches_leave_nothing(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "host", "busybox", "sleep", "1000", check=True)
    before = _warm(own_engine)
    for _ in range(20):
        assert own_engine.docker("run", "--rm", "busybox", "no-such-program").returncode == 127
        assert own_engine.docker("run", "--rm", "-w", "/etc/passwd", "busybox", "true").returncode != 0
        assert own_engine.docker("exec", "host", "true").returncode == 0
        assert own_engine.docker("exec", "host", "no-such-program").returncode == 126
        assert own_engine.docker("run", "--rm", "-i", "busybox", "cat", input="x").stdout == "x"
    assert _settled(own_engine, before) == before


def test_who_attaches_before_the_start_and_goes_leaves_nothing(own_engine: Engine) -> None:
    own_engine.docker("create", "--name", "never", "-i", "busybox", "cat", check=True)
    before = _warm(own_engine)
    for _ in range(20):
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(own_engine.socket))
            client.sendall(b"POST /containers/never/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
    # The last ones may be kept until another comes.
    assert _settled(own_engine, before).descriptors < before.descriptors + 10


def test_two_hundred_containers_twenty_at_a_time_are_all_accounted_for(own_engine: Engine) -> None:
    def start(number: int) -> str:
        command = f"echo {number}; exit {number % 7}"
        return own_engine.docker("run", "-d", "--name", f"many{number}", "busybox", "sh", "-c", command).stdout.strip()

    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(start, range(200)))
    assert len(set(ids)) == 200 and all(len(container_id) == 64 for container_id in ids)
    for number in range(200):
        response = own_engine.request("POST", f"/containers/many{number}/wait")
        assert response.body["StatusCode"] == number % 7
    listed = own_engine.request("GET", "/containers/json?all=1").body
    assert {container["Id"] for container in listed} == set(ids)
    assert own_engine.docker("logs", "many123", check=True).stdout == "123\n"
