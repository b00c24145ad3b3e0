"""Where the API listens, and what it refuses to."""

import os
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from wherry.api.listen import ListenError, Tls, listen

PLAIN = Tls(enabled=False)


def test_a_unix_socket_is_for_its_owner_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "run" / "engine.sock"
    listener = listen(f"unix://{path}", Tls(), str(os.getgid()))
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
    listen(f"unix://{path}", Tls()).close()


def test_a_living_engine_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    listener = listen(f"unix://{path}", Tls())
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
    listen("tcp://127.0.0.1:0", PLAIN).close()


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
    listener = listen("tcp://127.0.0.1:0", Tls(None, True, str(certificate), str(certificate), str(key)))
    try:
        assert listener.context is not None
        assert listener.context.verify_mode == ssl.CERT_REQUIRED
        assert listener.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    finally:
        listener.close()
