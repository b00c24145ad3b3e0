"""The outside world: a network namespace of the test's own, on a cable to this host."""

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

from wherry.linux import rtnetlink
from wherry.linux.rtnetlink import Route

# Says where it listens, then for each connection who came, and answers with that.
_SERVER = """
import socket
address = (%r, %d)
server = socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
print(server.getsockname()[1], flush=True)
while True:
    client, peer = server.accept()
    with client:
        client.sendall(peer[0].encode())
"""

_CONNECT = """
import socket
try:
    with socket.create_connection((%r, %d), %r) as client:
        client.shutdown(socket.SHUT_WR)
        print(client.makefile().read(), end="")
except OSError as error:
    raise SystemExit(type(error).__name__)
"""

_ASK = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(%r)
    client.connect((%r, %d))
    client.send(b"hello")
    print(client.recv(100).decode(), end="")
"""


_NAME_SERVER = """
import socket, struct, threading
ADDRESS, NAME, ANSWER = %r, %r, %r
WANTED = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\\0"
def answer(packet):
    end = packet.index(0, 12) + 5
    is_it = packet[12:end - 4].lower() == WANTED
    known = is_it and packet[end - 4:end - 2] == b"\\0\\1"
    head = packet[:2] + struct.pack(">HHHHH", 0x8180 if is_it else 0x8183, 1, known, 0, 0)
    record = b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(ANSWER)
    return head + packet[12:end] + (record if known else b"")
def by_tcp(server):
    while True:
        client, _ = server.accept()
        with client:
            packet = client.recv(2000)
            found = answer(packet[2:])
            client.sendall(struct.pack(">H", len(found)) + found)
threading.Thread(target=by_tcp, args=(socket.create_server((ADDRESS, 53)),), daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((ADDRESS, 53))
print("ready", flush=True)
while True:
    packet, sender = udp.recvfrom(2000)
    udp.sendto(answer(packet), sender)
"""


class Outside:
    """``address`` is its own, ``host`` this host's on the cable, which is plugged into the bridge ``port`` here; those
    of IPv6 are ``address6`` and ``host6``.

    It knows no route to containers: what it answers has to have come from this host's address.
    """

    def __init__(self, number: int) -> None:
        # Of this process alone, from the block for measurements (RFC 2544): others may be testing, too.
        self.port = f"whout{number}{os.getpid() % 1_000_000}"
        self.host = f"198.{18 + number}.{os.getpid() % 256}.1"
        self.address = f"198.{18 + number}.{os.getpid() % 256}.2"
        self.host6, self.address6 = (f"2001:db8:{number:x}:{os.getpid() % 65536:x}::{end}" for end in (1, 2))
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._started: list[subprocess.Popen[str]] = []
        while os.readlink(f"/proc/{self._holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            os.sched_yield()
        namespace = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)
        try:
            with Route() as route:
                self._remove(route)
                # On a bridge of its own, since that is how the engine makes pairs.
                route.execute(rtnetlink.bridge(self.port, mac="02:00:00:51:00:01", mtu=1500))
                master = route.index(self.port)
                route.execute(
                    rtnetlink.veth(f"{self.port}x", peer="eth0", namespace=namespace, mtu=1500, peer_mac=""),
                    rtnetlink.bring_up_port(f"{self.port}x", master),
                    rtnetlink.add_address(master, f"{self.host}/24"),
                    rtnetlink.add_address(master, f"{self.host6}/64"),
                    rtnetlink.bring_up(master),
                )
        finally:
            os.close(namespace)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")
        self.run("ip", "link", "set", "eth0", "up")

    def be_the_default_route(self) -> None:
        """This host sends here whatever it knows no other way for."""
        with Route() as route:
            index = route.index(self.port)
            for everything, gateway in (("0.0.0.0/0", self.address), ("::/0", self.address6)):
                route.execute(rtnetlink.replace_route(everything, interface=index, gateway=gateway))

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "--net", "--target", str(self._holder.pid), *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=30, check=check)

    def python(self, program: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", textwrap.dedent(program), check=check)

    def connect(self, address: str, port: int, seconds: float = 3) -> str:
        """What a server says; "" and the kind of error when there is none."""
        done = self.python(_CONNECT % (address, port, seconds), check=False)
        return done.stdout if done.returncode == 0 else f"!{done.stderr.strip().splitlines()[-1]}"

    def ask(self, address: str, port: int, seconds: float = 3) -> str:
        """The same by UDP."""
        return self.python(_ASK % (seconds, address, port)).stdout

    def serve(self, address: str = "") -> int:
        """A server that answers with the address that it was reached from; its port."""
        inside = ["nsenter", "--net", "--target", str(self._holder.pid)]
        command = [*inside, sys.executable, "-c", _SERVER % (address or self.address, 0)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._started.append(server)
        assert server.stdout is not None
        return int(server.stdout.readline())

    @contextlib.contextmanager
    def name_server(self, name: str, address: str) -> Iterator[None]:
        """A name server, by UDP and TCP, that knows this one name."""
        inside = ["nsenter", "--net", "--target", str(self._holder.pid)]
        command = [*inside, sys.executable, "-c", _NAME_SERVER % (self.address, name, address)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield
            finally:
                server.kill()

    def close(self) -> None:
        for server in self._started:
            server.kill()
            server.communicate()
        self._holder.kill()
        self._holder.wait()
        with Route() as route:
            self._remove(route)

    def _remove(self, route: Route) -> None:
        for name in (f"{self.port}x", self.port):
            found = route.link(name)
            if found is not None:
                route.execute(rtnetlink.delete_link(found.index))


@contextlib.contextmanager
def outside(number: int = 0) -> Iterator[Outside]:
    """``number`` is 1 for a second one at the same time."""
    world = Outside(number)
    try:
        yield world
    finally:
        world.close()
