import grp
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.cli.main import global_flags
from wherry.cli.session import CommandError, Endpoint, Session, find
from wherry.client import local
from wherry.client.blocking import Client
from wherry.client.endpoint import Host
from wherry.client.local import StartFailed, start_engine
from wherry.client.transport import ClientError
from wherry.common import flags, places


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHERRY_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def endpoint(*words: str) -> Endpoint:
    return find(Session(flags.parse(global_flags(), words)))


def context(directory: Path, name: str, host: str, **more: object) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = directory / "contexts" / "meta" / digest / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host, **more}}}))
    return digest


def test_who_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("current", "named", "by-variable"):
        context(tmp_path, name, f"tcp://{name}:1")
    assert endpoint().own
    (tmp_path / "config.json").write_text('{"currentContext": "current"}')
    assert endpoint().address == "tcp://current:1"
    monkeypatch.setenv("DOCKER_CONTEXT", "by-variable")
    assert endpoint().address == "tcp://by-variable:1"
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    assert endpoint().address == "unix:///docker"
    monkeypatch.setenv("WHERRY_HOST", "unix:///wherry")
    assert endpoint().address == "unix:///wherry"
    assert endpoint("-H", "unix:///flag").address == "unix:///flag"
    assert endpoint("-c", "named").address == "tcp://named:1"
    assert endpoint("-c", "default").own
    assert not endpoint("-H", "unix:///flag").own
    monkeypatch.setenv("WHERRY_HOST", local.default_socket())  # the same engine, whoever names it
    assert endpoint().own


def test_contradictions() -> None:
    with pytest.raises(CommandError, match="cannot specify both --host and --context"):
        endpoint("-H", "a", "-c", "b")
    with pytest.raises(CommandError, match="Specify only one -H"):
        endpoint("-H", "a", "-H", "b")


def test_a_context_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r'context "x": context not found: open .*meta.json: no such file'):
        endpoint("-c", "x")
    context(tmp_path, "broken", "x").encode()
    next(tmp_path.glob("contexts/meta/*/meta.json")).write_text("{")
    with pytest.raises(CommandError, match='unable to resolve docker endpoint: context "broken"'):
        endpoint("-c", "broken")


def test_a_context_with_keys(tmp_path: Path) -> None:
    digest = context(tmp_path, "far", "tcp://far:2376", SkipTLSVerify=True)
    keys = tmp_path / "contexts" / "tls" / digest / "docker"
    keys.mkdir(parents=True)
    (keys / "ca.pem").touch()
    tls = endpoint("-c", "far").tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.verify) == (str(keys / "ca.pem"), "", False)


def test_tls_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint("-H", "tcp://x").tls is None
    (tmp_path / "key.pem").touch()
    tls = endpoint("-H", "tcp://x", "--tls", "--tlscacert", "given.pem").tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key, tls.verify) == ("given.pem", "", str(tmp_path / "key.pem"), False)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    tls = endpoint("-H", "tcp://x").tls
    assert tls is not None and tls.verify


def test_a_broken_configuration_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{")
    assert endpoint().own
    assert "WARNING: Error loading config file" in capsys.readouterr().err


def test_the_default_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert endpoint().address == "unix:///run/wherry/wherry.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(local, "SYSTEM_EXEC_ROOT", str(tmp_path / "system"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    assert endpoint().address == f"unix://{tmp_path}/own/wherry/wherry.sock"
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "wherry.sock").touch()
    assert endpoint().address == f"unix://{tmp_path}/system/wherry.sock"
    (tmp_path / "own" / "wherry").mkdir(parents=True)
    (tmp_path / "own" / "wherry" / "wherry.sock").touch()
    assert endpoint().address == f"unix://{tmp_path}/own/wherry/wherry.sock"


# Who may.


def as_nobody(work: Callable[[], object]) -> str:
    """What a ClientError says when an ordinary user does this; root becomes one in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            work()
        except ClientError as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as said:
        return said.read()


@pytest.fixture
def closed_socket() -> Iterator[Path]:
    """A socket that somebody listens on, and that nobody but root may open; the way to it is open to all."""
    with tempfile.TemporaryDirectory(prefix="wherry-") as directory, socket.socket(socket.AF_UNIX) as listening:
        os.chmod(directory, 0o711)
        path = Path(directory) / "wherry.sock"
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        yield path


def test_a_socket_that_is_for_others(closed_socket: Path) -> None:
    said = as_nobody(Host(f"unix://{closed_socket}").connect)
    assert said.startswith(
        "PermissionMissing: permission denied while trying to connect to the wherry daemon socket at "
        f"unix://{closed_socket}: it is for root alone. Run this with sudo, or "
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a socket to another group")
@pytest.mark.parametrize(("group", "name"), [(grp.getgrnam("daemon").gr_gid, "daemon"), (54321, "54321")])
def test_a_socket_that_is_for_a_group(closed_socket: Path, group: int, name: str) -> None:
    os.chown(closed_socket, 0, group)
    closed_socket.chmod(0o660)
    said = as_nobody(Host(f"unix://{closed_socket}").connect)
    assert f"it is for root and the group {name}. To join it: sudo usermod -aG {name} " in said


def test_nothing_is_started_where_the_socket_is_for_others(closed_socket: Path) -> None:
    def start() -> bool:
        raise AssertionError("there is an engine")

    assert "permission denied" in as_nobody(lambda: Client(f"unix://{closed_socket}", unreachable=start).get("/x"))


def test_an_ordinary_user_is_told_at_once_that_the_runtime_directory_cannot_be_made(closed_socket: Path) -> None:
    said = as_nobody(lambda: start_engine(str(closed_socket.parent / "run" / "wherry.sock")))
    assert said == f"StartFailed: cannot start the wherry daemon: {closed_socket.parent}/run: Permission denied"


def test_an_ordinary_user_has_places_by_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/mine")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative, and so ignored")
    monkeypatch.setenv("HOME", "/home/me")
    assert places.exec_root(1000) == "/run/mine/wherry"
    assert places.data_root() == "/data/wherry"
    assert places.config_file() == "/home/me/.config/wherry/daemon.json"


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in /tmp of a user that there is not."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    path = Path(f"/tmp/wherry-{STRANGER}")
    yield path
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        path.rmdir()


STRANGER = 987654321


def test_without_a_runtime_directory_there_is_one_in_tmp(fallback: Path) -> None:
    assert places.exec_root(STRANGER) == str(fallback)
    fallback.mkdir(mode=0o700)
    assert places.exec_root(STRANGER) == str(fallback)


def test_a_folder_in_tmp_that_somebody_else_made_first_is_refused(fallback: Path) -> None:
    fallback.mkdir(mode=0o700)
    os.chown(fallback, 65534, 65534)
    with pytest.raises(places.NotPrivate, match="not a folder of yours alone"):
        places.exec_root(STRANGER)


def test_a_folder_in_tmp_that_others_may_enter_is_refused(fallback: Path) -> None:
    fallback.mkdir()
    fallback.chmod(0o755)
    with pytest.raises(places.NotPrivate):
        places.exec_root(STRANGER)


def test_a_link_in_tmp_is_refused(fallback: Path, tmp_path: Path) -> None:
    fallback.symlink_to(tmp_path)
    with pytest.raises(places.NotPrivate):
        places.exec_root(STRANGER)


# Starting one. The engine here is a script that listens, says so, and ends when a client says anything.

DAEMON = """
import os, socket, sys
path, started = sys.argv[1], sys.argv[2]
with open(started, "a") as file: file.write(f"{os.getpid()} {os.getcwd()} {os.getsid(0)}\\n")
descriptors = sorted(map(int, os.listdir("/proc/self/fd")))
assert descriptors[:4] == [0, 1, 2, 3] and len(descriptors) <= 5, descriptors
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(100)
print("listening", flush=True)
os.write(3, b"ready\\n"); os.close(3)
while True:
    c, _ = s.accept()
    if c.recv(1): break
"""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of an engine that can be started."""
    path, script = tmp_path / "run" / "wherry.sock", tmp_path / "daemon.py"
    script.write_text(DAEMON)
    command = [sys.executable, str(script), str(path), str(tmp_path / "started")]
    monkeypatch.setattr(local, "daemon_command", lambda: command)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    yield path
    if path.exists():
        stream = Host(f"unix://{path}").connect()
        stream.sendall(b"x")
        stream.close()


def test_an_engine_is_started_and_left_alone(daemon: Path, tmp_path: Path) -> None:
    start_engine(str(daemon))
    Host(f"unix://{daemon}").connect().close()
    pid, directory, session = (tmp_path / "started").read_text().split()
    assert directory == "/"
    assert int(session) != os.getsid(0)
    assert (daemon.parent / "daemon.log").read_text() == "listening\n"
    with pytest.raises(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)  # it is not this process's child
    start_engine(str(daemon))
    assert len((tmp_path / "started").read_text().splitlines()) == 1


def test_many_at_once_start_one(daemon: Path, tmp_path: Path) -> None:
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            try:
                start_engine(str(daemon))
                Host(f"unix://{daemon}").connect().close()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len((tmp_path / "started").read_text().splitlines()) == 1


def test_one_that_does_not_come_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        local, "daemon_command", lambda: [sys.executable, "-c", "import sys; sys.exit('no overlayfs here')"]
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "daemon.log").write_text("an older story\n")
    with pytest.raises(StartFailed, match=r"did not start; its log, .*daemon.log, ends with:\n  no overlayfs here$"):
        start_engine(str(tmp_path / "wherry.sock"))


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed, match=r"cannot start the wherry daemon: .*file"):
        start_engine(str(tmp_path / "file" / "wherry.sock"))


def test_nobody_imports_from_the_working_directory() -> None:
    """`-m` looks there first: a module that somebody left in /tmp would run as root."""
    assert local.daemon_command()[:4] == [sys.executable, "-P", "-m", "wherry.daemon"]
