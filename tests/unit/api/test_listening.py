"""Where the API listens, and what it refuses to."""

import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.api.listen import ListenError, Tls, listen
from wherry.linux.sockets import Notifier

PLAIN = Tls(enabled=False)


def test_a_unix_socket_is_for_its_owner_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "run" / "engine.sock"
    [listener] = listen(f"unix://{path}", Tls(), str(os.getgid()))
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert path.stat().st_gid == os.getgid()
    finally:
        listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listen(f"unix://{path}", Tls())[0].close()


def test_a_living_engine_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    [listener] = listen(f"unix://{path}", Tls())
    try:
        with pytest.raises(ListenError, match="another engine is listening there"):
            listen(f"unix://{path}", Tls())
        assert path.exists()
    finally:
        listener.close()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        listen(f"unix://{path}", Tls())
    assert path.read_text() == "precious"


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="no group 'no-such-group'"):
        listen(f"unix://{tmp_path}/engine.sock", Tls(), "no-such-group")
    assert not (tmp_path / "engine.sock").exists()


@pytest.mark.parametrize("address", ["", "unix://", "http://x", "/run/x.sock", "fd://", "tcp://127.0.0.1:x"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ListenError, match=r"cannot listen on"):
        listen(address, PLAIN)


def test_tcp_without_tls_is_refused_unless_asked_for_by_name() -> None:
    with pytest.raises(ListenError, match="--tls=false"):
        listen("tcp://127.0.0.1:0", Tls())
    listen("tcp://127.0.0.1:0", PLAIN)[0].close()


def test_tls_needs_its_files(tmp_path: Path) -> None:
    tls = Tls(True, True, f"{tmp_path}/ca", f"{tmp_path}/cert", f"{tmp_path}/key")
    with pytest.raises(ListenError, match=r"cannot open the TLS file .*/cert: No such file or directory"):
        listen("tcp://127.0.0.1:0", tls)
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("no PEM")
    with pytest.raises(ListenError, match=r"cannot use the TLS files .*/cert, .*/key, .*/ca: "):
        listen("tcp://127.0.0.1:0", tls)


def test_with_verification_a_client_must_show_a_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=engine", "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    [listener] = listen("tcp://127.0.0.1:0", Tls(None, True, str(certificate), str(certificate), str(key)))
    try:
        assert listener.context is not None
        assert listener.context.verify_mode == ssl.CERT_REQUIRED
        assert listener.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    finally:
        listener.close()


def _started_by_systemd(path: Path, *, unix: bool, tls: str = "Tls()") -> str:
    """What a process says that is given a listening socket as systemd does, and asks for fd://."""
    program = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from wherry.api.listen import ListenError, Tls, listen\n"
        f"try: found = listen('fd://', {tls})\n"
        "except ListenError as error: sys.exit(str(error))\n"
        "print([(each.is_local, each.path, each.sock.get_inheritable()) for each in found])\n"
        "print(sorted(name for name in os.environ if name.startswith('LISTEN')))\n"
        "[each.close() for each in found]"
    )
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as sock:
        sock.bind(str(path) if unix else ("127.0.0.1", 0))
        sock.listen()
        environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({sock.fileno()}, 3)\n{program}"],
            pass_fds=[sock.fileno()], env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.stdout + done.stderr


def test_sockets_from_systemd_are_taken_and_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    assert _started_by_systemd(path, unix=True) == "[(True, '', False)]\n[]\n"
    assert path.exists()


def test_tcp_from_systemd_is_no_way_around_tls(tmp_path: Path) -> None:
    assert "fd:// (TCP) without TLS would give root" in _started_by_systemd(tmp_path, unix=False)
    assert _started_by_systemd(tmp_path, unix=False, tls="Tls(enabled=False)") == "[(False, '', False)]\n[]\n"


def test_who_was_not_started_by_systemd_has_no_sockets_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(ListenError, match="no sockets were passed"):
        listen("fd://", Tls())


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        notifier.ready()
        notifier.reloading()
        notifier.stopping()
        assert sock.recv(100) == b"READY=1"
        assert sock.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert sock.recv(100) == b"STOPPING=1"
