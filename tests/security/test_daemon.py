"""Who can reach the API is root: the ways in are as narrow as they can be, and nothing widens them by accident."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import WHERRY, Engine


def _daemon(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Starts a daemon that is expected not to come up."""
    return subprocess.run(
        [sys.executable, "-m", "wherry.daemon", "--data-root", str(tmp_path / "data"), "--exec-root",
         str(tmp_path / "exec"), *arguments],
        capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert isinstance(port, int)
        return port


def test_the_socket_is_for_its_owner_and_group(engine: Engine) -> None:
    """A hole: any user of the machine may open the socket, and so is root."""
    status = os.stat(engine.socket)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_uid == 0


def test_no_socket_of_the_engine_is_abstract(engine: Engine, busybox: str) -> None:
    """CVE-2020-15257: an abstract socket has no permissions, and a container with the host's network reaches it.

    A hole: such a container sees one that a process of the engine's holds, while it runs others and enters one.
    """
    with contextlib.ExitStack() as stack:
        for network in ("host", "bridge"):
            started = engine.wherry("run", "--detach", "--rm", "--init", "--network", network, busybox, "sleep", "600")
            stack.callback(engine.wherry, "rm", "--force", started.stdout.strip())
        entered = subprocess.Popen(
            [WHERRY, "exec", started.stdout.strip(), "cat"], stdin=subprocess.PIPE,
            env={**os.environ, "WHERRY_HOST": engine.host},
        )  # fmt: skip
        stack.callback(entered.wait)
        assert entered.stdin is not None
        stack.callback(entered.stdin.close)
        listed = engine.wherry("run", "--rm", "--network", "host", busybox, "cat", "/proc/net/unix").stdout
        held = _sockets(engine.processes())
    sockets = [line.split() for line in listed.splitlines()[1:]]
    ours = [entry for entry in sockets if int(entry[6]) in held]
    assert ours, "the container sees none of the engine's, and the test proves nothing"
    assert [entry[7] for entry in ours if entry[7:] and entry[7].startswith("@")] == []


def _sockets(pids: list[int]) -> set[int]:
    """The inodes of those that these processes have open."""
    found = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):  # closed since
                if (target := os.readlink(fd)).startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def test_the_state_is_for_root_alone(engine: Engine) -> None:
    """A hole: others read the environment variables, and so the passwords, of all containers."""
    for path in engine.data_root.glob("state.db*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert not stat.S_IMODE((engine.data_root / "layers").stat().st_mode) & 0o077
    assert not stat.S_IMODE((engine.data_root / "blobs" / "sha256").stat().st_mode) & 0o077


@pytest.mark.skipif(os.geteuid() != 0, reason="the daemon needs root before anything else")
def test_tcp_without_tls_is_refused(tmp_path: Path) -> None:
    """A hole: the engine listens on TCP, and whoever reaches the port is root."""
    finished = _daemon(tmp_path, "-H", f"tcp://127.0.0.1:{_free_port()}")
    assert finished.returncode != 0
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "--tls" in finished.stderr


def test_tls_without_its_files_is_refused(tmp_path: Path) -> None:
    """A hole: the engine listens nevertheless, without asking for certificates."""
    arguments = ["--tlsverify", "--tlscacert", str(tmp_path / "ca.pem"), "--tlscert", str(tmp_path / "cert.pem"),
                 "--tlskey", str(tmp_path / "key.pem")]  # fmt: skip
    finished = _daemon(tmp_path, "-H", f"tcp://127.0.0.1:{_free_port()}", *arguments)
    assert finished.returncode != 0
    assert len(finished.stderr.strip().splitlines()) == 1


def test_two_engines_cannot_share_a_data_root(engine: Engine, tmp_path: Path) -> None:
    """A hole: two engines change the same state, and containers lose what they rest on."""
    finished = _daemon(tmp_path, "-H", f"unix://{tmp_path}/w.sock", "--data-root", str(engine.data_root))
    assert finished.returncode == 1
    assert f"another engine (pid {engine.pid})" in finished.stderr


@pytest.mark.parametrize(
    "arguments", [["--no-such-flag"], ["-H", "ftp://x"], ["--log-opt", "nothing"], ["--label", "=x"]]
)
def test_a_mistyped_flag_gets_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """A hole: a flag that was to close something is taken for something else, and the engine starts."""
    finished = _daemon(tmp_path, *arguments)
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    assert 1 <= len(finished.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("host_config", [{"Sysctls": {"vm.swappiness": "99"}},
                                         {"Sysctls": {"net.core.somaxconn": "99"}, "NetworkMode": "host"}])  # fmt: skip
def test_no_container_sets_a_sysctl_of_the_host(engine: Engine, busybox: str, host_config: dict[str, Any]) -> None:
    """A hole: the setting is written, for the whole machine."""
    body = {"Image": busybox, "Cmd": ["true"], "HostConfig": host_config}
    response = engine.request("POST", "/v1.51/containers/create", body)
    assert (response.status, "sysctl" in response.body["message"]) == (400, True)


@pytest.fixture(scope="module")
def open_port() -> Iterator[int]:
    """Of an engine that listens on TCP without TLS."""
    port = _free_port()
    engine = Engine(["-H", f"tcp://127.0.0.1:{port}", "--tls=false"])
    try:
        engine.start()
        yield port
        engine.stop()
    finally:
        engine.discard()


def _ask(port: int, host: str, *headers: str, path: str = "/_ping") -> int:
    """The status of a GET with this Host header."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
        client.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return int(client.makefile().readline().split()[1])


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:{port}", "127.0.0.1.attacker.example", "1.2.3.4.5"]
)
def test_a_web_page_cannot_point_its_name_at_the_engine(open_port: int, host: str) -> None:
    """A hole (DNS rebinding): a page's own name leads to 127.0.0.1, and the browser lets it read the answers."""
    assert _ask(open_port, host.format(port=open_port)) == 403


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{port}", "127.0.0.1", "[::1]:{port}", "[::1]", "localhost:{port}", "docker:{port}", "docker", "",
     "api.moby.localhost", "LOCALHOST."],
)  # fmt: skip
def test_clients_are_served_by_the_names_that_they_use(open_port: int, host: str) -> None:
    """A wall that refuses these would be taken down by everybody."""
    assert _ask(open_port, host.format(port=open_port)) == 200
    assert _ask(open_port, socket.gethostname()) == 200


WEBSOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip


def test_a_web_page_cannot_open_a_websocket(open_port: int) -> None:
    """A hole: browsers let every page open a websocket to every address, and a container's streams are behind one."""
    host, path = f"127.0.0.1:{open_port}", "/containers/nosuch/attach/ws?stream=1&stdin=1"
    for page in ("https://attacker.example", "null", "http://127.0.0.1", "file://"):
        assert _ask(open_port, host, f"Origin: {page}", *WEBSOCKET, path=path) == 403, page
    assert _ask(open_port, host, f"Origin: http://{host}", *WEBSOCKET, path=path) == 404  # docker-py says so
