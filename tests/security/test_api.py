"""What a client that may use the API can do to those who use it with it: nothing that lasts."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Iterator

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
