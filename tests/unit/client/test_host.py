import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.scripted_engine import ScriptedEngine, json_answer, upgraded
from wherry.client.blocking import Client
from wherry.client.endpoint import TLS, Host
from wherry.client.ssh import arguments
from wherry.client.transport import ConnectionFailed, ConnectionLost, HostError
from wherry.common.tls import server_context


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("unix:///run/x.sock", ("unix", "/run/x.sock", "", "", 0)),
        ("tcp://engine:1234", ("tcp", "", "", "engine", 1234)),
        ("tcp://engine", ("tcp", "", "", "engine", 2375)),
        ("engine:1234", ("tcp", "", "", "engine", 1234)),
        ("tcp://:1234", ("tcp", "", "", "127.0.0.1", 1234)),
        ("tcp://[::1]:1234", ("tcp", "", "", "::1", 1234)),
        ("ssh://me@host:22", ("ssh", "", "me", "host", 22)),
        ("ssh://host/run/x.sock", ("ssh", "/run/x.sock", "", "host", 0)),
    ],
)
def test_addresses(address: str, parts: tuple[object, ...]) -> None:
    host = Host(address)
    assert (host.scheme, host.path, host.user, host.name, host.port) == parts


@pytest.mark.parametrize(
    "address", ["npipe:////./pipe/x", "tcp://engine:http", "tcp://engine:99999", "ssh://", "ftp://x"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(HostError, match="unable to parse docker host"):
        Host(address)


def test_tls_has_a_port_of_its_own() -> None:
    assert Host("tcp://engine", TLS()).port == 2376


def test_nothing_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"Cannot connect to the wherry daemon at {address}"):
        Host(address).connect()


def test_tcp() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with ScriptedEngine(listener) as engine:
        engine.on("GET", "/x", json_answer(1))
        with Client(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as client:
            assert client.get("/x") == 1


# ssh.


def test_the_ssh_command() -> None:
    assert arguments(Host("ssh://me@box:2222/run/my engine.sock")) == [
        "ssh", "-o", "ConnectTimeout=30", "-T", "-l", "me", "-p", "2222", "--", "box",
        "wherry", "--host", "'unix:///run/my engine.sock'", "system", "dial-stdio",
    ]  # fmt: skip


def test_an_address_cannot_be_an_option_of_ssh() -> None:
    words = arguments(Host("ssh://-oProxyCommand=x@-oProxyCommand=y"))
    assert words[words.index("-l") + 1] == "-oProxyCommand=x"
    assert words.index("-oProxyCommand=y") > words.index("--")


def test_an_engine_through_ssh(engine: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh here is a script that connects its standard input and output to the engine's socket."""
    engine.on("GET", "/x", json_answer({"a": 1}))
    script = tmp_path / "ssh"
    script.write_text(
        f"#!/usr/bin/env python3\n"
        f"import os, socket, sys, threading\n"
        f"open({str(tmp_path / 'words')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({engine.path!r})\n"
        f"def up():\n"
        f"    while data := os.read(0, 65536): s.sendall(data)\n"
        f"    s.shutdown(1)\n"
        f"threading.Thread(target=up, daemon=True).start()\n"
        f"while data := s.recv(65536): os.write(1, data)\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Client("ssh://me@box") as client:
        assert client.get("/x") == {"a": 1}
    assert (tmp_path / "words").read_text().endswith("-l me -- box wherry system dial-stdio")


def test_ssh_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConnectionFailed, match="ssh: No such file or directory"):
        Host("ssh://box").connect()


# TLS.


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority (ca.pem), and keys by it for a server at 127.0.0.1 and for a client."""
    directory = tmp_path_factory.mktemp("keys")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
    openssl(*new, "/CN=test authority", "-x509", "-days", "2", "-keyout", "ca-key.pem", "-out", "ca.pem")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        openssl(*new, f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}.csr")
        (directory / "extension").write_text(extension)
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-days", "2", "-extfile", "extension", "-out", f"{name}.pem",
        )  # fmt: skip
    return directory


@pytest.fixture
def tls_engine(keys: Path) -> ScriptedEngine:
    settings = server_context(str(keys / "server.pem"), str(keys / "server-key.pem"), clients=str(keys / "ca.pem"))
    listener = settings.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
    return ScriptedEngine(listener)


def port(engine: ScriptedEngine) -> int:
    number: int = engine._listener.getsockname()[1]
    return number


def test_tls(tls_engine: ScriptedEngine, keys: Path) -> None:
    tls = TLS(str(keys / "ca.pem"), str(keys / "client.pem"), str(keys / "client-key.pem"))
    with tls_engine as engine:
        engine.on("GET", "/x", json_answer(["x" * 1_000_000]))
        with Client(f"tcp://127.0.0.1:{port(engine)}", tls=tls) as client:
            assert client.get("/x") == ["x" * 1_000_000]
            assert client.get("/x") == ["x" * 1_000_000]


def test_an_engine_that_is_not_the_one(tls_engine: ScriptedEngine, keys: Path) -> None:
    with tls_engine as engine:
        address = f"tcp://127.0.0.1:{port(engine)}"
        with pytest.raises(ConnectionLost, match="failed to verify certificate"):
            Host(address, TLS("", str(keys / "client.pem"), str(keys / "client-key.pem"))).connect()
        Host(address, TLS("", str(keys / "client.pem"), str(keys / "client-key.pem"), verify=False)).connect().close()


def test_the_end_of_input_is_told_over_tls_and_output_goes_on(tls_engine: ScriptedEngine, keys: Path) -> None:
    data = os.urandom(300_000)
    got = bytearray()
    over = threading.Event()

    def cat(request: object, connection: socket.socket) -> bool:
        upgraded(connection)
        while piece := connection.recv(65536):
            got.extend(piece)
        connection.sendall(bytes(got))
        over.set()
        return False

    tls = TLS(str(keys / "ca.pem"), str(keys / "client.pem"), str(keys / "client-key.pem"))
    with tls_engine as engine:
        engine.on("POST", "/containers/x/attach", cat)
        with Client(f"tcp://127.0.0.1:{port(engine)}", tls=tls) as client:
            stream, back = client.hijack("POST", "/containers/x/attach")
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            buffer = bytearray(65536)
            while count := stream.recv_into(buffer):
                back += buffer[:count]
            stream.close()
    assert over.wait(20)
    assert back == data
