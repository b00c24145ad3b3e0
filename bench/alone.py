"""Containers by the API, over one connection that is kept: what the engine itself takes, without a command line."""

import http.client
import json
import socket
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter

from bench.engines import BUSYBOX, Client

_AT_ONCE = 20
_EACH = 5  # containers of each of them
_FOR_A_PERCENTILE = 40


class _Connection(http.client.HTTPConnection):
    def __init__(self, client: Client) -> None:
        super().__init__("localhost")
        self._path = client.engine.socket.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        content = None if body is None else json.dumps(body)
        self.request(method, f"/v1.45{path}", content, {"Content-Type": "application/json"})
        answer = self.getresponse()
        said = answer.read()
        if answer.status >= 400:
            raise RuntimeError(said.decode())
        return said


def _run(connection: _Connection, network: str) -> None:
    wanted = {"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
    made = json.loads(connection.ask("POST", "/containers/create", wanted))["Id"]
    connection.ask("POST", f"/containers/{made}/start")
    connection.ask("POST", f"/containers/{made}/wait")
    connection.ask("DELETE", f"/containers/{made}")


def one_by_one(network: str) -> Callable[[Client], float]:
    """The median of a container's creation, start, wait and removal."""
    return lambda client: statistics.median(_times(client, network))


def slowest_tenth(network: str) -> Callable[[Client], float]:
    """What nine of ten stay below."""
    return lambda client: sorted(_times(client, network))[_FOR_A_PERCENTILE * 9 // 10]


def _times(client: Client, network: str) -> list[float]:
    connection = _Connection(client)
    times = []
    for _ in range(_FOR_A_PERCENTILE):
        begun = perf_counter()
        _run(connection, network)
        times.append(perf_counter() - begun)
    connection.close()
    return times


def twenty_at_a_time(network: str) -> Callable[[Client], float]:
    """The time of each: that of all, by their number."""

    def run_some(client: Client) -> None:
        connection = _Connection(client)
        for _ in range(_EACH):
            _run(connection, network)
        connection.close()

    def measure(client: Client) -> float:
        begun = perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(run_some, [client] * _AT_ONCE))
        return (perf_counter() - begun) / _AT_ONCE / _EACH

    return measure


@contextmanager
def running(client: Client) -> Iterator[None]:
    client.run("run", "--detach", "--name", "bench-alone", BUSYBOX, "sleep", "1000000")
    yield
    client.run("rm", "--force", "bench-alone")


def execute(client: Client) -> float:
    """The time of an exec, up to its start."""
    connection = _Connection(client)
    begun = perf_counter()
    made = json.loads(connection.ask("POST", "/containers/bench-alone/exec", {"Cmd": ["true"]}))["Id"]
    connection.ask("POST", f"/exec/{made}/start", {"Detach": True})
    took = perf_counter() - begun
    connection.close()
    return took
