"""The same over TCP with TLS, and over ssh."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.clients.conftest import Cli
from tests.support.engine import CACHE, WHERRY, Engine
from tests.support.terminal import Terminal


def needs(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"no {program}")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# "openssl ca" and not "openssl x509", which takes no dates before its version 3.4, and no days before today since
_CA = """
[ca]
default_ca = here
[here]
database = index
serial = serial
unique_subject = no
new_certs_dir = .
default_md = sha256
default_days = 1
policy = any
[any]
commonName = supplied
"""


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and cert.pem and key.pem, which serve as the engine's and the client's, made as Docker's documentation
    has it; other-… are of another CA, the time of expired-… is over, and strict-… say what each key may be used for."""
    directory = tmp_path_factory.mktemp("certificates")
    openssl = needs("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=directory)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n"
    (directory / "extensions").write_text(names)
    (directory / "strict-extensions").write_text(f"{names}authorityKeyIdentifier=keyid\nkeyUsage=digitalSignature\n")
    for prefix, usage in (("", ()), ("other-", ()), ("strict-", ("-addext", "keyUsage=critical,keyCertSign"))):
        run("req", "-x509", *key, "-keyout", f"{prefix}ca-key.pem", "-out", f"{prefix}ca.pem", "-subj",
            f"/CN={prefix}ca", *usage)  # fmt: skip
    (directory / "ca.conf").write_text(_CA)
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    long_ago = ("-startdate", "200101000000Z", "-enddate", "200102000000Z")
    for prefix, authority, when in (
        ("", "ca", ()), ("other-", "other-ca", ()), ("expired-", "ca", long_ago), ("strict-", "strict-ca", ()),
    ):  # fmt: skip
        run("req", *key, "-keyout", f"{prefix}key.pem", "-out", f"{prefix}request.pem", "-subj", "/CN=localhost")
        run("ca", "-batch", "-config", "ca.conf", "-notext", "-in", f"{prefix}request.pem",
            "-cert", f"{authority}.pem", "-keyfile", f"{authority}-key.pem", "-out", f"{prefix}cert.pem",
            "-extfile", "strict-extensions" if prefix == "strict-" else "extensions", *when)  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def tls_engine(certificates: Path, _images: None) -> Iterator[tuple[Engine, str]]:
    """An engine that listens on TCP too, and its address there."""
    with _listening(certificates) as found:
        yield found


@contextlib.contextmanager
def _listening(certificates: Path, prefix: str = "") -> Iterator[tuple[Engine, str]]:
    address = f"tcp://127.0.0.1:{free_port()}"
    files = (("cacert", "ca"), ("cert", "cert"), ("key", "key"))
    flags = [f"--tls{flag}={certificates}/{prefix}{name}.pem" for flag, name in files]
    engine = Engine(["-H", address, "--tlsverify", *flags])
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine, address
        engine.remove_containers()
        engine.stop()
    finally:
        engine.discard()


@pytest.fixture(params=["docker", "wherry"])
def over_tls(
    request: pytest.FixtureRequest,
    tls_engine: tuple[Engine, str],
    certificates: Path,
    terminal: Callable[..., Terminal],
) -> Iterator[Cli]:
    if request.param == "docker":
        needs("docker")
    engine, address = tls_engine
    cli = Cli(request.param, address, terminal)
    cli.host |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    yield cli
    engine.remove_containers()


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An ssh server on loopback with keys of its own. What to set so that ``ssh engine-host`` reaches it as root."""
    sshd, keygen = needs("sshd"), needs("ssh-keygen")
    if os.geteuid() != 0:
        pytest.skip("the ssh server needs root")
    directory = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    port = free_port()
    (directory / "authorized").write_text((directory / "user.pub").read_text())
    os.makedirs("/run/sshd", exist_ok=True)
    # What a client asks for on the other side: docker, and wherry under its own name.
    path = f"{WHERRY.parent}:{os.environ['PATH']}"
    configuration = directory / "sshd_config"
    configuration.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\n"
        f"PidFile {directory}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        f"PermitUserEnvironment DOCKER_HOST\nSetEnv PATH={path}\n"
    )
    server = subprocess.Popen([sshd, "-D", "-e", "-f", str(configuration)], stderr=subprocess.DEVNULL)
    client = directory / "bin"
    client.mkdir()
    (client / "ssh").write_text(
        f"#!/bin/sh\nexec {needs('ssh')} -i {directory}/user -p {port} -o StrictHostKeyChecking=no "
        f'-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -F none -S {directory}/shared "$@"\n'
    )
    (client / "ssh").chmod(0o755)
    shared = None
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        # One connection for all that follow: clients open several, and what they cost is sshd's.
        shared = subprocess.Popen([client / "ssh", "-M", "-N", "root@127.0.0.1"])
        while not (directory / "shared").exists():
            assert shared.poll() is None, "ssh does not get in"
            time.sleep(0.01)
        yield {"PATH": f"{client}:{path}"}
    finally:
        if shared is not None:
            shared.terminate()
            shared.wait()
        server.send_signal(signal.SIGTERM)
        server.wait()


@pytest.fixture
def over_ssh(cli: Cli, engine: Engine, ssh_server: dict[str, str]) -> Cli:
    """What runs on the other side is ``docker system dial-stdio``, or wherry's."""
    address = f"ssh://root@127.0.0.1{engine.socket}"
    cli.host = {**ssh_server, next(iter(cli.host)): address}
    return cli


def test_run_over_tls(over_tls: Cli) -> None:
    assert over_tls.ok("run", "--rm", "busybox", "echo", "hello") == "hello"
    finished = over_tls("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("out\n", "err\n", 7)


def test_input_that_ends_over_tls(over_tls: Cli) -> None:
    assert over_tls.ok("run", "--rm", "-i", "busybox", "wc", "-c", input="x" * 300_000) == "300000"
    text = "".join(f"{number}\n" for number in range(100_000))
    assert over_tls("run", "--rm", "-i", "busybox", "cat", input=text).stdout == text
    assert over_tls.ok("run", "--rm", "-i", "busybox", "sh", "-c", "cat >/dev/null; echo after; sleep 0.2; echo end",
                       input="x") == "after\nend"  # fmt: skip


def test_a_terminal_over_tls(over_tls: Cli) -> None:
    terminal = over_tls.terminal("run", "--rm", "-it", "busybox", "sh", rows=30, columns=90)
    terminal.expect("/ # ")
    terminal.send("stty size\r")
    terminal.expect("30 90")
    terminal.send("exit 4\r")
    assert terminal.wait() == 4


def _leave_and_come_back(cli: Cli) -> None:
    """The detach keys, also after a first key that was one too many, and those that were asked for."""
    terminal = cli.terminal("run", "-it", "--name", "left", "busybox", "sh")
    terminal.expect("/ # ")
    terminal.send("\x10\x10\x11")
    assert terminal.wait() == 0
    for command in (["attach"], ["exec", "-it"]):
        terminal = cli.terminal(*command, "--detach-keys", "ctrl-a,x", "left", *(["sh"] if "exec" in command else []))
        terminal.send("echo $((6 * 7))\r")
        terminal.expect("42")
        terminal.send("\x01x")
        terminal.wait()
    assert cli.ok("inspect", "-f", "{{.State.Running}}", "left") == "true"


def test_the_detach_keys_over_tls(over_tls: Cli) -> None:
    _leave_and_come_back(over_tls)


def test_the_detach_keys_over_ssh(over_ssh: Cli, busybox: str) -> None:
    _leave_and_come_back(over_ssh)


def test_exec_logs_and_images_over_tls(over_tls: Cli, tmp_path: Path) -> None:
    over_tls.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "seq 20000; sleep 1000")
    assert over_tls.ok("exec", "-i", "box", "cat", input="in and out") == "in and out"
    assert over_tls("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert over_tls.ok("logs", "--tail", "2", "box") == "19999\n20000"
    over_tls.ok("save", "-o", str(tmp_path / "image.tar"), "busybox")
    assert over_tls.ok("load", "-q", "-i", str(tmp_path / "image.tar")) == "Loaded image: busybox:latest"


@pytest.fixture
def shown(over_tls: Cli, certificates: Path, tmp_path: Path) -> Callable[..., str]:
    """``shown(ca.pem, cert.pem…)``: what a command line that has these files says when it is refused."""

    def refused(**files: str) -> str:
        directory = tmp_path / "-".join(files.values())
        directory.mkdir()
        for name, source in files.items():
            shutil.copy(certificates / f"{source}.pem", directory / f"{name}.pem")
        finished = over_tls("ps", env={"DOCKER_CERT_PATH": str(directory)})
        assert (finished.returncode, finished.stdout) == (1, "")
        assert finished.stderr.count("\n") == 1
        return finished.stderr

    return refused


def test_who_has_no_certificate_is_kept_out(shown: Callable[..., str]) -> None:
    assert "remote error: tls: certificate required" in shown(ca="ca")


def test_who_has_a_certificate_of_another_authority_is_kept_out(shown: Callable[..., str]) -> None:
    assert "remote error: tls: unknown c" in shown(ca="ca", cert="other-cert", key="other-key")


def test_who_has_an_expired_certificate_is_kept_out(shown: Callable[..., str]) -> None:
    said = shown(ca="ca", cert="expired-cert", key="expired-key")
    assert "remote error: tls: " in said
    assert "expired" in said


def test_an_engine_whose_certificate_is_not_to_be_trusted(shown: Callable[..., str]) -> None:
    said = shown(ca="other-ca", cert="cert", key="key")
    assert said.startswith("error during connect: ")
    assert "tls: failed to verify certificate: " in said


def test_a_file_that_is_not_there_is_named(over_tls: Cli, tmp_path: Path) -> None:
    said = over_tls.fails("--tlscacert", f"{tmp_path}/absent.pem", "ps")
    assert said.strip().endswith(f"open {tmp_path}/absent.pem: no such file or directory")


def test_without_tls_there_is_no_answer(over_tls: Cli) -> None:
    over_tls.host = {name: value for name, value in over_tls.host.items() if "TLS" not in name}
    assert "error during connect: " in over_tls.fails("ps")


def test_docker_py_over_tls(certificates: Path, _images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By strict certificates: Python's requests takes no others from Python 3.13 on."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # which requests would take instead of the one that is said
        monkeypatch.delenv(name, raising=False)
    cert, key, ca = (f"{certificates}/strict-{name}.pem" for name in ("cert", "key", "ca"))
    with _listening(certificates, "strict-") as (_, address):
        files = docker.tls.TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
        client = docker.DockerClient(base_url=address, tls=files)
        try:
            assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
            box = client.containers.run("busybox", "sleep 1000", detach=True)
            assert box.exec_run("echo hello") == (0, b"hello\n")
            assert box.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output == (b"out\n", b"err\n")
            box.remove(force=True)
        finally:
            client.close()


def test_over_ssh(over_ssh: Cli, busybox: str) -> None:
    finished = over_ssh("run", "--rm", "-i", busybox, "sh", "-c", "wc -c; exit 7", input="x" * 300_000)
    assert (finished.stdout, finished.returncode) == ("300000\n", 7)
    terminal = over_ssh.terminal("run", "--rm", "-it", busybox, "sh", rows=30, columns=90)
    terminal.expect("/ # ")
    terminal.send("stty size; exit 5\r")
    terminal.expect("30 90")
    assert terminal.wait() == 5


def test_docker_py_over_ssh(
    engine: Engine, ssh_server: dict[str, str], busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is led by ~/.ssh, and reaches the engine that ``docker`` finds on the other side."""
    directory = Path(ssh_server["PATH"].partition(":")[0]).parent
    port = (directory / "sshd_config").read_text().split()[1]
    user_key = (directory / "user.pub").read_text()
    (directory / "authorized").write_text(f'environment="DOCKER_HOST={engine.host}" {user_key}')
    settings = tmp_path / ".ssh"
    settings.mkdir()
    host_key = " ".join((directory / "host.pub").read_text().split()[:2])
    (settings / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (settings / "config").write_text(f"Host 127.0.0.1\n  IdentityFile {directory}/user\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    client = docker.DockerClient(base_url=f"ssh://root@127.0.0.1:{port}")
    try:
        assert client.containers.run(busybox, "echo hello", remove=True) == b"hello\n"
        box = client.containers.run(busybox, "sleep 1000", detach=True)
        assert box.exec_run("echo hello") == (0, b"hello\n")
        box.remove(force=True)
    finally:
        client.close()
        (directory / "authorized").write_text(user_key)


def test_more_comes_out_than_goes_in_over_ssh(over_ssh: Cli, busybox: str) -> None:
    """Nothing goes in while the output is not taken: who only sends until all is sent would wait for ever."""
    line = "x" * 1000 + "\n"
    said = over_ssh.ok("run", "--rm", "-i", busybox, "sed", "s/.*/&&&&&&&&/", input=line * 4000, timeout=60)
    assert len(said) == 4000 * 8001 - 1


def test_a_host_that_cannot_be_reached(cli: Cli, engine: Engine) -> None:
    cli.host = {next(iter(cli.host)): f"unix://{engine.root}/absent.sock"}
    said = cli.fails("ps")
    assert f"unix://{engine.root}/absent.sock" in said
    assert "daemon running?" in said


@pytest.mark.parametrize("name", ["wherry", "docker"])
def test_dial_stdio(engine: Engine, tmp_path: Path, name: str) -> None:
    """Also by the name that docker's clients call on the other side, as a link to it."""
    (tmp_path / name).symlink_to(WHERRY)
    with subprocess.Popen(
        [tmp_path / name, "system", "dial-stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "WHERRY_HOST": engine.host},
    ) as dialled:  # fmt: skip
        assert dialled.stdin is not None
        assert dialled.stdout is not None
        dialled.stdin.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        dialled.stdin.flush()
        answer = dialled.stdout.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nOK")
