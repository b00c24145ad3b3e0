"""What a client that may use the API can do to those who use it with it: nothing that lasts."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

CLIENTS = 1500  # more than a listen backlog of 1,024 holds


@contextlib.contextmanager
def _descriptors(soft: int) -> Iterator[None]:
    """This process, and those that it starts, may open so many."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_an_engine_that_stands_still_is_waited_for(own_engine: Engine) -> None:
    """A hole: clients are refused (EAGAIN) while the engine is busy, as with a backlog of 100, which a hundred
    connections of one client fill."""
    own_engine.stop()
    with _descriptors(1024):  # what most machines give a service: the engine raises it for itself
        own_engine.start()
    with _descriptors(CLIENTS + 200), contextlib.ExitStack() as stack:
        os.kill(own_engine.pid, signal.SIGSTOP)
        try:
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(CLIENTS)]
            for client in clients:
                client.setblocking(False)
            refused = sum(client.connect_ex(str(own_engine.socket)) != 0 for client in clients)
        finally:
            os.kill(own_engine.pid, signal.SIGCONT)
        assert refused == 0, f"{refused} of {CLIENTS} clients were turned away"
        for client in clients:
            client.settimeout(30)
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: keep-alive\r\n\r\n")
        answers = [client.recv(4096) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def test_containers_get_the_descriptors_that_the_engine_was_given(own_engine: Engine) -> None:
    """What the engine raised for itself is not handed on."""
    own_engine.stop()
    with _descriptors(1024):
        own_engine.start()
    assert own_engine.wherry("run", "--rm", "busybox", "sh", "-c", "ulimit -n", check=True).stdout == "1024\n"


BODY = 14 << 20  # bytes
EXPENSIVE = {  # what becomes many times as large when it is decoded, and then is refused
    "lists": b'{"Cmd": [' + b"[]," * (BODY // 3) + b"0]}",
    "objects": b'{"Labels": [' + b"{}," * (BODY // 3) + b"0]}",
    "members": b'{"Labels": {' + b",".join(b'"%x":{}' % number for number in range(BODY // 11)) + b"}}",
    "words": b'{"Env": [' + b'"a",' * (BODY // 4) + b"0]}",
    "one word": b'{"Hostname": "' + b"x" * BODY + b'", "Cmd": 0}',
    "other fields": b'{"Cmd": 0, "Nothing": [' + b"[]," * (BODY // 3) + b"0]}",
}


@pytest.mark.parametrize("body", EXPENSIVE.values(), ids=EXPENSIVE)
def test_refused_json_leaves_the_engine_small(own_engine: Engine, body: bytes) -> None:
    """A hole: a body of JSON costs 20 times its size, and that until the next full garbage collection."""
    own_engine.request("GET", "/containers/json")
    before = _memory(own_engine, "VmRSS")
    for _ in range(7):
        answer = own_engine.request("POST", "/containers/create", body, {"Content-Type": "application/json"})
        assert answer.status == 400, answer
    after, most = _memory(own_engine, "VmRSS"), _memory(own_engine, "VmHWM")
    print(f"{before >> 20} MB before, {after >> 20} MB after, {most >> 20} MB at most")
    assert most - before < 120 << 20
    assert after - before < 16 << 20


def _memory(engine: Engine, field: str) -> int:
    """Of the daemon, in bytes."""
    for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no {field}")
