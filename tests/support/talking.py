"""Containers that talk: servers and clients made of busybox, and how the host reaches them."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.support.engine import Engine

PATIENCE = 5.0


def listen(engine: Engine, name: str, *arguments: str, port: int = 80, says: str = "") -> str:
    """Starts a container that says its name to everybody who connects; its id."""
    command = ["nc", "-ll", "-p", str(port), "-e", "/bin/echo", "-n", says or name]
    started = engine.docker("run", "-d", "--name", name, *arguments, "busybox", *command, check=True).stdout.strip()
    wait_for_listener(engine, name, port)
    return started


def wait_for_listener(engine: Engine, name: str, port: int) -> None:
    needle = f":{port:04X}"
    deadline = time.monotonic() + PATIENCE
    while True:
        tables = execute(engine, name, "cat", "/proc/net/tcp", "/proc/net/tcp6")
        if any(len(line.split()) > 3 and needle in line.split()[1] and line.split()[3] == "0A"
               for line in tables.splitlines()):  # fmt: skip
            return
        assert time.monotonic() < deadline, f"{name} does not listen on {port}"
        time.sleep(0.02)


def execute(engine: Engine, name: str, *command: str) -> str:
    """What a command in a container prints, whatever its exit code."""
    return engine.docker("exec", name, *command).stdout


def reach(engine: Engine, name: str, address: str, port: int = 80) -> str:
    """What a server says to a container; "" when it is not reached."""
    return execute(engine, name, "sh", "-c", f"nc -w 2 {address} {port} </dev/null")


def connect(address: str, port: int) -> str:
    """What a server says to this host; "" when nobody listens."""
    try:
        with socket.create_connection((address, port), 3) as client:
            client.shutdown(socket.SHUT_WR)
            return client.makefile().read()
    except OSError:
        return ""


def address_of(engine: Engine, name: str, network: str = "bridge", field: str = "IPAddress") -> str:
    found: str = inspect(engine, name)["NetworkSettings"]["Networks"][network][field]
    return found


def inspect(engine: Engine, name: str) -> Any:
    response = engine.request("GET", f"/containers/{name}/json")
    assert response.status == 200, response
    return response.body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        number: int = probe.getsockname()[1]
        return number


@contextlib.contextmanager
def echoing(engine: Engine, name: str, port: int, says: str = "") -> Iterator[None]:
    """A UDP server in a container's network, which says what it hears, or what it is to say."""
    program = f"""
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", {port}))
print("ready", flush=True)
while True:
    data, sender = server.recvfrom(2048)
    server.sendto({says.encode()!r} or data, sender)
"""
    pid = str(inspect(engine, name)["State"]["Pid"])
    command = ["nsenter", "--net", "--target", pid, sys.executable, "-c", program]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.communicate()
