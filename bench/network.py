"""``python -m bench.network``: how fast packets, published ports, names and starts are, with wherry and with Docker.

Servers and clients are this Python's, inside the containers' network namespaces, so both engines' packets are made by
the same code.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.workloads import BUSYBOX_ARCHIVE

_SINK = """
import socket
server = socket.create_server(("", 80), backlog=64)
print("ready", flush=True)
while True:
    client, _ = server.accept()
    kind = client.recv(1)
    if kind == b"t":
        while client.recv(1 << 20): pass
    elif kind == b"l":
        while data := client.recv(64): client.sendall(data)
    client.close()
"""
_ASK = """
import select, socket, statistics, struct, time
socks = []
packet = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\\x06server\\0" + struct.pack(">HH", 1, 1)
for _ in range(200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("127.0.0.11", 53)); socks.append(s)
    s.send(packet); s.recv(512)
rounds = []
for _ in range(20):
    begun, times = {}, []
    poll = select.epoll()
    for s in socks: poll.register(s, select.EPOLLIN)
    by = {s.fileno(): s for s in socks}
    for s in socks:
        begun[s.fileno()] = time.perf_counter(); s.send(packet)
    while len(times) < 200:
        for fd, _ in poll.poll():
            by[fd].recv(512); times.append(time.perf_counter() - begun[fd])
    rounds.append((statistics.median(times), time.perf_counter() - min(begun.values())))
print(statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds) / 200)
"""
_BYTES = 2 << 30
_ROUND_TRIPS = 5000


class Engine:
    def __init__(self, name: str, command: list[str], root: Path) -> None:
        self.name, self._command, self.socket, self._log = name, command, root / "socket", root / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def docker(self, *arguments: str) -> str:
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(RuntimeError):
                    self.docker("version")
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text())
                time.sleep(0.1)
            self.docker("load", "-i", str(BUSYBOX_ARCHIVE))
            yield
            self.docker("rm", "-f", *self.docker("ps", "-aq").split())
            self.docker("network", "prune", "-f")
        finally:
            self._process.terminate()
            self._process.wait()


def inside(engine: Engine, name: str, program: str) -> list[str]:
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name)
    return ["nsenter", "--net", "--target", pid, sys.executable, "-c", program]


def throughput(address: tuple[str, int]) -> float:
    """GB/s from this host into the container."""
    data = bytes(1 << 20)
    with socket.create_connection(address) as client:
        client.sendall(b"t")
        begun = time.perf_counter()
        for _ in range(_BYTES >> 20):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
        return _BYTES / (time.perf_counter() - begun) / 1e9


def latency(address: tuple[str, int]) -> float:
    """Microseconds of a round trip."""
    times = []
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"l")
        for _ in range(_ROUND_TRIPS):
            begun = time.perf_counter()
            client.sendall(b"x")
            client.recv(64)
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def connecting(address: tuple[str, int]) -> float:
    """Microseconds of a new connection, which is what looks up rules."""
    times = []
    for _ in range(500):
        begun = time.perf_counter()
        with socket.create_connection(address) as client:
            times.append(time.perf_counter() - begun)
            client.sendall(b"x")
    return statistics.median(times) * 1e6


def starting(engine: Engine, *arguments: str) -> Callable[[], float]:
    def run() -> float:
        begun = time.perf_counter()
        engine.docker("run", "--rm", *arguments, "busybox", "true")
        return (time.perf_counter() - begun) * 1e3

    return run


def measure(engine: Engine, many: int, starts: int) -> dict[str, float]:
    found: dict[str, float] = {}
    engine.docker("network", "create", "net")
    engine.docker("run", "-d", "--name", "server", "-p", "127.0.0.1::80", "busybox", "sleep", "100000")
    engine.docker("run", "-d", "--name", "asker", "--network", "net", "busybox", "sleep", "100000")
    engine.docker("network", "connect", "net", "server")
    server = subprocess.Popen(inside(engine, "server", _SINK), stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        port = int(engine.docker("port", "server").split(":")[-1])
        address = engine.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server")
        for name, place in (("direct", (address, 80)), ("published", ("127.0.0.1", port))):
            found[f"throughput {name}, GB/s"] = max(throughput(place) for _ in range(3))
            found[f"round trip {name}, µs"] = min(latency(place) for _ in range(3))
            found[f"connection {name}, µs"] = min(connecting(place) for _ in range(3))
        asked = subprocess.run(inside(engine, "asker", _ASK), capture_output=True, text=True, check=True).stdout.split()
        found["200 look-ups in flight, median of each, ms"] = float(asked[0]) * 1e3
        found["200 look-ups in flight, time per look-up, ms"] = float(asked[1]) * 1e3
        kinds = {
            "none": ["--network", "none"],
            "bridge": [],
            "a port": ["-p", "127.0.0.1::80"],
            "net": ["--network", "net"],
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(starts):
            for name, arguments in kinds.items():
                times[name].append(starting(engine, *arguments)())
        for name, values in times.items():
            found[f"run --rm, {name}, ms"] = statistics.median(values)
        if many:
            engine.docker(
                "run", "-d", "-p", f"127.0.0.1:20000-{19999 + many}:1000-{999 + many}", "busybox", "sleep", "100000"
            )
            found[f"connection published, {many} ports more, µs"] = min(
                connecting(("127.0.0.1", port)) for _ in range(3)
            )
    finally:
        server.kill()
        server.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    parser.add_argument("--ports", type=int, default=1000, help="published ports beside the one that is measured")
    parser.add_argument("--starts", type=int, default=20, help="starts of each kind")
    parser.add_argument("--bip", default="10.245.0.1/16", help="Docker's own bridge")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: the engines need root")
    with tempfile.TemporaryDirectory(prefix="wherry-bench-", dir="/var/tmp") as directory:
        results = {}
        names = ["wherry"] if os.path.exists("/sys/class/net/docker0") else ["wherry", "docker"]
        if len(names) == 1:
            print("without Docker: its bridge docker0 is there, and may be another Docker's", file=sys.stderr)
        for name in names:
            root = Path(directory) / name
            root.mkdir()
            place = ["-H", f"unix://{root}/socket", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec"]
            command = [sys.executable, "-m", "wherry.daemon", *place]
            if name == "docker":
                command = ["dockerd", *place, "-p", f"{root}/pid", "--bip", options.bip]
            engine = Engine(name, command, root)
            try:
                with engine.running():
                    results[name] = measure(engine, options.ports, options.starts)
            except RuntimeError as error:
                print(f"without {name}: {error}", file=sys.stderr)
            if name == "docker":
                subprocess.run(["ip", "link", "delete", "docker0"], check=False)  # it leaves it behind
    for title in next(iter(results.values())):
        print(f"{title:50}", *(f"{name} {values[title]:10.2f}" for name, values in results.items()))


if __name__ == "__main__":
    main()
