"""``python -m bench.network``: how fast packets, published ports, names and starts are, with wherry and with Docker.

Each engine has a host's network of its own, a network namespace with an outside on a cable to it. Servers and clients
are this Python's, inside the namespaces of containers, hosts and outsides, so both engines' packets are made by the
same code; the engines take turns. Of many packets the first decile counts, and of several rounds the best, since what
else a machine does only adds to a time; of starts, the median.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.engines import BUSYBOX_ARCHIVE

_SERVER = """
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
_CLIENT = """
import socket, statistics, sys, time
kind, address = sys.argv[1], (sys.argv[2], int(sys.argv[3]))
now, times = time.perf_counter, []
def decile(values): return statistics.quantiles(values, n=10)[0]
if kind == "throughput, GB/s":
    data, count = bytes(1 << 20), 1 << 10
    with socket.create_connection(address) as client:
        client.sendall(b"t")
        for _ in range(count // 64):
            begun = now()
            for _ in range(64): client.sendall(data)
            times.append(now() - begun)
        print(64 * len(data) / decile(times) / 1e9)
elif kind == "round trip, µs":
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"l")
        for _ in range(5000):
            begun = now()
            client.sendall(b"x")
            client.recv(64)
            times.append(now() - begun)
        print(decile(times) * 1e6)
else:  # new connections, which are what looks rules up; until the server's word, since a proxy accepts before it asks
    for _ in range(500):
        begun = now()
        with socket.create_connection(address) as client:
            client.sendall(b"lx")
            client.recv(64)
            times.append(now() - begun)
    print(decile(times) * 1e6)
"""
_KINDS = ("throughput, GB/s", "round trip, µs", "connection, µs")
# From just before a question is sent to when the kernel has its answer: how long the client takes to ask all and to
# read is not the server's time.
_ASK = """
import socket, statistics, struct, time
_SO_TIMESTAMPNS = 35
packet = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\\x06server\\0" + struct.pack(">HH", 1, 1)
asking, medians, slowest = [], [], []
for _ in range(200):
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    each.connect(("127.0.0.11", 53))
    asking.append(each)
for _ in range(50):
    begun, times = [], []
    for each in asking:
        begun.append(time.time_ns())
        each.send(packet)
    for each, start in zip(asking, begun):
        _, extra, _, _ = each.recvmsg(512, 64)
        seconds, nanoseconds = struct.unpack("qq", extra[0][2])
        times.append(seconds * 1_000_000_000 + nanoseconds - start)
    medians.append(statistics.median(times) / 1e6)
    slowest.append(max(times) / 1e6)
print(statistics.median(medians), statistics.median(slowest))
"""
_HOST, _OUTSIDE = "198.18.0.1", "198.18.0.2"
_STARTS = {
    "none": ["--network", "none"],
    "bridge": [],
    "bridge, a port": ["-p", "127.0.0.1::80"],
    "net": ["--network", "net"],
}


class Namespace:
    """A network namespace with nothing in it but a loopback, for as long as it is held."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.pid = self._holder.pid

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


def inside(pid: int, *command: str) -> list[str]:
    return ["nsenter", "--net", "--target", str(pid), *command]


def run(pid: int, *command: str) -> str:
    return subprocess.run(inside(pid, *command), capture_output=True, text=True, check=True).stdout


class Engine:
    """An engine on a host of its own. ``port`` of the host leads to the server in the container "server"."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self._root = name, root
        self.port = 0
        root.mkdir()

    def docker(self, *arguments: str) -> str:
        command = ["docker", "-H", f"unix://{self._root}/socket", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        root = self._root
        place = ["-H", f"unix://{root}/socket", "--data-root", f"{root}/data", "--exec-root", f"{root}/exec"]
        command = [sys.executable, "-m", "wherry.daemon"] if self.name == "wherry" else ["dockerd", "-p", f"{root}/pid"]
        with contextlib.ExitStack() as stack:
            self._host, self._outside = Namespace(), Namespace()
            stack.callback(self._host.close)
            stack.callback(self._outside.close)
            cable = ["ip", "link", "add", "cable0", "type", "veth", "peer", "name", "eth0", "netns"]
            run(self._host.pid, *cable, str(self._outside.pid))
            for pid, device, address in (
                (self._host.pid, "cable0", _HOST),
                (self._outside.pid, "eth0", _OUTSIDE),
            ):
                run(pid, "ip", "address", "add", f"{address}/24", "dev", device)
                run(pid, "ip", "link", "set", device, "up")
            log = stack.enter_context((root / "log").open("wb"))
            daemon = subprocess.Popen(inside(self._host.pid, *command, *place), stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(RuntimeError):
                    self.docker("version")
                    break
                if time.monotonic() > deadline or daemon.poll() is not None:
                    raise RuntimeError((root / "log").read_text()[-2000:])
                time.sleep(0.1)
            self.docker("load", "-i", str(BUSYBOX_ARCHIVE))
            stack.callback(lambda: self.docker("rm", "-f", *self.docker("ps", "-aq").split()))
            self.docker("network", "create", "net")
            self.docker("run", "-d", "--name", "server", "-p", "80", "busybox", "sleep", "100000")
            self.docker("network", "connect", "net", "server")
            self.docker("run", "-d", "--name", "asker", "--network", "net", "busybox", "sleep", "100000")
            self.port = int(self.docker("port", "server").splitlines()[0].rpartition(":")[2])
            for pid in (self._pid("server"), self._host.pid):
                server = subprocess.Popen(inside(pid, sys.executable, "-c", _SERVER), stdout=subprocess.PIPE)
                stack.callback(server.wait)
                stack.callback(server.kill)
                assert server.stdout is not None
                server.stdout.readline()
            yield

    def ways(self) -> dict[str, tuple[int, str, int]]:
        """By what is measured: where the client is, and where it connects to."""
        address = self.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server")
        gateway = self.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "server")
        return {
            "container to host": (self._pid("asker"), gateway, 80),
            "host to container": (self._host.pid, address, 80),
            "outside to port": (self._outside.pid, _HOST, self.port),
            "localhost to port": (self._host.pid, "127.0.0.1", self.port),
        }

    def look_ups(self) -> tuple[float, float]:
        """Milliseconds: the median, and the slowest."""
        median, slowest = run(self._pid("asker"), sys.executable, "-c", _ASK).split()
        return float(median), float(slowest)

    def start(self, *arguments: str) -> float:
        """Milliseconds of a run."""
        begun = time.perf_counter()
        self.docker("run", "--rm", *arguments, "busybox", "true")
        return (time.perf_counter() - begun) * 1e3

    def _pid(self, name: str) -> int:
        return int(self.docker("inspect", "-f", "{{.State.Pid}}", name))


def connect(kind: str, pid: int, address: str, port: int) -> float:
    return float(run(pid, sys.executable, "-c", _CLIENT, kind, address, str(port)))


def measure(engines: list[Engine], many: int, starts: int, rounds: int) -> dict[str, dict[str, float]]:
    """By what was measured, then by engine."""
    found: dict[str, dict[str, float]] = {}
    ways = {engine.name: engine.ways() for engine in engines}
    for kind in _KINDS:
        best = max if kind.startswith("throughput") else min
        for way in ways[engines[0].name]:
            values: dict[str, list[float]] = {engine.name: [] for engine in engines}
            for number in range(rounds):
                for engine in engines if number % 2 else reversed(engines):
                    values[engine.name].append(connect(kind, *ways[engine.name][way]))
            found[f"{kind}: {way}"] = {name: best(each) for name, each in values.items()}
    asked = {engine.name: [engine.look_ups() for _ in range(rounds)] for engine in engines}
    found["200 look-ups in flight, ms: median"] = {name: min(each)[0] for name, each in asked.items()}
    found["200 look-ups in flight, ms: slowest"] = {name: min(each)[1] for name, each in asked.items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(starts):
        for engine in engines:
            for kind, arguments in _STARTS.items():
                times.setdefault((kind, engine.name), []).append(engine.start(*arguments))
    for kind in _STARTS:
        found[f"run --rm, ms: {kind}"] = {each.name: statistics.median(times[kind, each.name]) for each in engines}
    for kind in list(_STARTS)[1:]:  # run by run, since what else a machine does is the same for both
        found[f"run --rm, ms: {kind} adds to none"] = {
            each.name: statistics.median(
                with_it - without
                for with_it, without in zip(times[kind, each.name], times["none", each.name], strict=True)
            )
            for each in engines
        }
    if many:
        ports = ["-p", f"20000-{19999 + many}:1000-{999 + many}"]
        engines[0].docker("run", "-d", *ports, "busybox", "sleep", "100000")
        for kind in _KINDS[1:]:
            place = ways[engines[0].name]["outside to port"]
            value = min(connect(kind, *place) for _ in range(rounds))
            found[f"{kind}: beside {many} ports more"] = {engines[0].name: value}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    parser.add_argument("--ports", type=int, default=1000, help="ports that wherry publishes beside the measured one")
    parser.add_argument("--starts", type=int, default=20, help="starts of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="how often the rest is measured")
    parser.add_argument("--without-docker", action="store_true", help="measure wherry alone")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: the engines need root")
    with tempfile.TemporaryDirectory(prefix="wb-", dir="/var/tmp") as directory, contextlib.ExitStack() as stack:
        engines = []
        for name in ("wherry",) if options.without_docker else ("wherry", "docker"):
            engine = Engine(name, Path(directory) / name)
            try:
                stack.enter_context(engine.running())
                engines.append(engine)
            except (RuntimeError, OSError) as error:
                print(f"without {name}: {error}", file=sys.stderr)
        if engines:
            for title, values in measure(engines, options.ports, options.starts, options.rounds).items():
                print(f"{title:45}", *(f"{name} {value:9.2f}" for name, value in values.items()), flush=True)


if __name__ == "__main__":
    main()
