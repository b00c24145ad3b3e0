"""A private wherry engine: its own socket, data root and exec root, and its own end."""

import contextlib
import functools
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.networks import remove_networks
from tests.support.subordinate_ids import with_ids

PROJECT = Path(__file__).parents[2]
CACHE = PROJECT / ".cache"
CGROUP_ROOT = Path("/sys/fs/cgroup")
WHERRY = Path(sys.executable).with_name("wherry")

# An engine's processes inherit this variable, which tells them from those of every other engine on the machine.
MARK = "WHERRY_TEST_ENGINE"

# Set by who runs the tests as an ordinary user, and wants that user's engine to be what they are about.
ROOTLESS = "WHERRY_TEST_ROOTLESS"

# How much longer than usual a slow machine (an emulated one) is waited for
PATIENCE = float(os.environ.get("WHERRY_TEST_PATIENCE", 1))
START_SECONDS = 30 * PATIENCE
STOP_SECONDS = 30 * PATIENCE

# With "auto", the engines of the tests give every container a user namespace of its own.
USERNS = "WHERRY_TEST_USERNS"


class Response(NamedTuple):
    """An answer of the engine; ``body`` is decoded JSON, or the raw bytes of anything else."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class Engine:
    """A wherry daemon that belongs to the tests. ``host`` is what DOCKER_HOST would hold."""

    def __init__(
        self,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        prefix: Sequence[str] = (),
        *,
        cgroup_parent: str = "",
        root: Path | None = None,
    ) -> None:
        """``prefix`` is a command that becomes the daemon's: ``unshare -m`` say. A ``cgroup_parent`` ("wherry-test", to
        which a name is added) holds this engine's cgroups alone, which no other engine's are then taken for."""
        if os.geteuid() != 0 and not os.environ.get(ROOTLESS):
            pytest.skip(f"containers need root, or {ROOTLESS}=1 to have an ordinary user's engine tested")
        # /var/tmp, since an overlay's upper directory cannot be on every tmpfs, and a short path, since a unix socket's
        # path is at most 107 bytes.
        self.root = root or Path(tempfile.mkdtemp(prefix="wherry-", dir="/var/tmp"))
        self.mark = uuid.uuid4().hex
        self.data_root = self.root / "data"
        self.exec_root = self.root / "exec"
        self.socket = self.root / "wherry.sock"
        self.host = f"unix://{self.socket}"
        self.log = self.root / "daemon.log"
        self.cgroup_parent = f"{cgroup_parent}-{self.mark[:12]}" if cgroup_parent else ""
        self._arguments = list(arguments)
        if os.environ.get(USERNS):
            self._arguments.insert(0, f"--default-userns-mode={os.environ[USERNS]}")
            prefix = (*with_ids(self.root), *prefix)
        if cgroup_parent:
            self._arguments.insert(0, f"--cgroup-parent=/{self.cgroup_parent}")
        self._prefix = list(prefix)
        self._environment = dict(environment)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._daemon is not None, "the engine is not running"
        return self._daemon.pid

    @property
    def running(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    def start(self) -> None:
        """Start the daemon, and return when it serves requests."""
        ready, ready_by_daemon = os.pipe()
        with self.log.open("ab") as log, open(ready, "rb", buffering=0) as ready_file:
            daemon = [
                sys.executable, "-m", "wherry.daemon", "-H", self.host, "--data-root", str(self.data_root),
                "--exec-root", str(self.exec_root), "--ready-fd", str(ready_by_daemon), *self._arguments,
            ]  # fmt: skip
            self._daemon = subprocess.Popen(
                [*self._prefix, *daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[ready_by_daemon],
                env={**os.environ, **self._environment, MARK: self.mark}, start_new_session=True,
            )  # fmt: skip
            os.close(ready_by_daemon)
            readable, _, _ = select.select([ready_file], [], [], START_SECONDS)
            if not readable or not ready_file.read(64):
                self.kill()
                raise AssertionError(f"the engine did not start; its log:\n{self.log_text()}")

    def stop(self) -> None:
        """End the daemon as an administrator does, and check that it ends well."""
        assert self._daemon is not None, "the engine is not running"
        self._daemon.send_signal(signal.SIGTERM)
        try:
            status = self._daemon.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the engine; its log:\n{self.log_text()}") from None
        self._daemon = None
        assert status == 0, f"the engine ended with {status}; its log:\n{self.log_text()}"

    def kill(self) -> None:
        """End the daemon with SIGKILL; monitors and containers live on."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def discard(self) -> None:
        """Remove every trace, whatever happened: processes, then files. Afterwards the engine is gone."""
        self.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError, PermissionError):  # a user's containers end with monitors
                os.kill(pid, signal.SIGKILL)
        if os.geteuid() != 0:
            subprocess.run([sys.executable, "-c", _REMOVE_AS_ROOT, str(self.root)], check=False)
            return
        remove_networks(self.data_root)
        for directory in self.cgroups(with_parent=True):
            with contextlib.suppress(OSError):
                directory.rmdir()
        shutil.rmtree(self.root, ignore_errors=True)

    def cgroups(self, *, with_parent: bool = False) -> list[Path]:
        """What there is in its ``cgroup_parent``, in each hierarchy, the innermost first."""
        if not self.cgroup_parent:
            return []
        parents = (CGROUP_ROOT / self.cgroup_parent, *CGROUP_ROOT.glob(f"*/{self.cgroup_parent}"))
        found = [Path(place) for parent in parents for place, _, _ in os.walk(parent, topdown=False)]
        return [place for place in found if with_parent or place not in parents]

    def log_text(self) -> str:
        """What the daemon has logged since ``begin_log``, its last 8,000 characters."""
        with self.log.open("rb") as file:
            file.seek(self._log_begin)
            return file.read().decode(errors="replace")[-8000:]

    def begin_log(self) -> None:
        """From here on is what ``log_text`` gives: who shares an engine looks at its own test's part."""
        self._log_begin = self.log.stat().st_size

    def check_log(self) -> None:
        """Whatever a client does, it leaves no traceback in the log."""
        assert "Traceback" not in self.log_text(), self.log_text()

    def processes(self) -> list[int]:
        """Pids of the daemon, its launcher, its workers, its monitors, and of its containers' processes."""
        mark = f"{MARK}={self.mark}\0".encode()
        root = os.fsencode(self.root)
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # A process may end while it is being looked at: ENOENT, ESRCH, or an empty file.
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes() + b"\0" or _root_mounted_from(process, root):
                    found.append(int(process.name))
        return found

    def wherry(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the wherry CLI against this engine; ``options`` are those of :func:`run_client`."""
        return run_client([str(WHERRY), *arguments], {"WHERRY_HOST": self.host}, **options)

    def docker(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the docker CLI against this engine; ``options`` are those of :func:`run_client`."""
        return run_client([docker_cli(), *arguments], {"DOCKER_HOST": self.host}, **options)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
        """Ask the API for ``path`` (``/v1.51/info``). ``body`` is sent as it is when bytes, and as JSON otherwise."""
        connection = _UnixConnection(str(self.socket))
        with contextlib.closing(connection):
            if body is not None and not isinstance(body, bytes):
                body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            data = response.read()
            if data and response.headers.get_content_type() == "application/json":
                with contextlib.suppress(ValueError):  # a stream of several is given as it is
                    return Response(response.status, response.headers, json.loads(data))
            return Response(response.status, response.headers, data)

    def load(self, archive: Path) -> None:
        """Load the images of an archive."""
        response = self.request("POST", "/images/load?quiet=1", archive.read_bytes())
        assert response.status == 200, response
        assert b"errorDetail" not in _as_bytes(response.body), response

    def remove_containers(self) -> None:
        for container in self.request("GET", "/containers/json?all=1").body:
            response = self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            assert response.status in (204, 404, 409), response  # 409: --rm is removing it already


_REMOVE_AS_ROOT = """
import shutil, sys
from wherry.linux import namespaces, user_namespaces
user_namespaces.leave(namespaces.CLONE_NEWNS)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
"""What an ordinary user's containers leave belongs to subordinate ids: to be removed by root of a user namespace."""


@contextlib.contextmanager
def started(engine: Engine) -> Iterator[Engine]:
    """The engine, with busybox, as long as the block lasts; its containers go with it."""
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.remove_containers()
        engine.stop()
    finally:
        engine.discard()


def run_client(
    command: Sequence[str],
    host: Mapping[str, str],
    *,
    input: str | None = None,
    timeout: float = 60,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a client's command to its end. Standard input is ``input``, or empty.

    The environment is the tests' own without what would lead the client to another engine, then ``host``, then ``env``.
    With ``check``, an exit code other than 0 is an AssertionError that shows what the command printed.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "WHERRY_"))}
    finished = subprocess.run(
        command, input=input, stdin=subprocess.DEVNULL if input is None else None, capture_output=True, text=True,
        timeout=timeout * PATIENCE, env={**clean, **host, **(env or {})}, cwd=cwd, check=False,
    )  # fmt: skip
    if check and finished.returncode:
        raise AssertionError(
            f"{' '.join(command)}: exit code {finished.returncode}\n{finished.stdout}{finished.stderr}"
        )
    return finished


def docker_cli() -> str:
    """The docker CLI's path. The test is skipped where there is none, or an old one, which says other things."""
    path = shutil.which("docker")
    if path is None:
        pytest.skip("no docker CLI")
    version = docker_version(path)
    if version < (28,):
        pytest.skip(f"the docker CLI is {version[0]}.{version[1]}: the tests know what 28 says")
    return path


@functools.cache
def docker_version(path: str) -> tuple[int, ...]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    assert found, said
    return tuple(map(int, found.groups()))


def wait_until_gone(look: Any, seconds: float = 5) -> Any:
    """What ``look()`` still finds after giving it ``seconds`` to find nothing: the kernel removes a few things late."""
    deadline = time.monotonic() + seconds * PATIENCE
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _root_mounted_from(process: Path, root: bytes) -> bool:
    return any(b" / / " in line and root in line for line in (process / "mountinfo").read_bytes().splitlines())


def _as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60 * PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
