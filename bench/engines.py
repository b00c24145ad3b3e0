"""The engines that are compared: how each is started, spoken to and ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import memory

CACHE = Path(__file__).parents[1] / ".cache"
BUSYBOX = "busybox:latest"
BUSYBOX_ARCHIVE = CACHE / "busybox.image.tar"
START_SECONDS = 30

# Network and mount namespaces of its own: bridges, firewall rules and ports of the machine stay out of it, and no mount
# is left behind.
_APART = ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


class Engine:
    """One engine with its data below ``directory``. ``clients`` says by which command line users reach it.

    An engine's processes, whose memory counts, are those in its network namespace: containers have each their own.
    """

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir()
        self._namespace = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "WHERRY_"))}

    @property
    def pid(self) -> int:
        """Of a process in its namespaces."""
        assert self._process is not None, "the engine is not running"
        return self._process.pid

    def processes(self) -> list[int]:
        return memory.in_network_namespace(self._namespace)

    def start(self) -> None:
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not (self._is_apart(self._process.pid) and self._answers()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the engine and whatever it has left."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    @property
    def socket(self) -> str:
        """The address of its API. RuntimeError where there is none."""
        raise RuntimeError(f"{self.name} has no API without another process")

    def client(self) -> "Client":
        """The engine's own."""
        raise NotImplementedError

    def _is_apart(self, pid: int) -> bool:
        """Whether unshare has done its work; from then on the engine's processes are known."""
        self._namespace = os.readlink(f"/proc/{pid}/ns/net")
        return self._namespace != os.readlink("/proc/self/ns/net")

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        return self.client().succeeds("version")


class Client:
    """A command line that reaches an engine: ``client.run("run", "--rm", …)``."""

    def __init__(self, name: str, engine: Engine, command: Sequence[str], **environment: str) -> None:
        self.name = name
        self.engine = engine
        self._command = list(command)
        self._environment = {**engine.environment, "DOCKER_BUILDKIT": "0", **environment}  # the classic builder

    def by_buildkit(self) -> "Client":
        """The docker CLI with its buildx, in front of the same engine. RuntimeError where there is none."""
        if not self.is_docker_cli:
            raise RuntimeError(f"{self.name} has no BuildKit's protocol")
        own = CACHE / "docker-config"
        more = {"DOCKER_CONFIG": str(own)} if own.is_dir() else {}
        environment = {**self._environment, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", **more}
        return Client(self.name, self.engine, self._command, **environment)

    @property
    def is_docker_cli(self) -> bool:
        return Path(self._command[0]).name == "docker"

    @property
    def is_second(self) -> bool:
        """Another engine's client: the docker CLI on wherry."""
        return self.name != self.engine.name

    def run(self, *arguments: str) -> str:
        """Run a command to its end; its standard output. RuntimeError if it fails."""
        finished = subprocess.run(
            [*self._command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=self._environment, check=False,
        )  # fmt: skip
        if finished.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(arguments)}: {finished.stderr.strip() or finished.returncode}")
        return finished.stdout

    def time_request(self, method: str, path: str) -> float:
        """Seconds that the engine itself takes for a request to its API, to the end of the answer."""
        address = self.engine.socket.removeprefix("unix://")
        begun = time.perf_counter()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        took = time.perf_counter() - begun
        if b" 200 " not in answer.partition(b"\r\n")[0] or b'"error"' in answer:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer[-200:].decode(errors='replace')}")
        return took

    def succeeds(self, *arguments: str) -> bool:
        try:
            self.run(*arguments)
        except RuntimeError:
            return False
        return True

    def time(self, *arguments: str) -> float:
        """Seconds that a command takes, from its start to its end."""
        begun = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - begun

    def time_output(self, *arguments: str, size: int) -> float:
        """Seconds until a reader has all of a command's output, which must be ``size`` bytes long."""
        begun = time.perf_counter()
        received = 0
        with subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=self._environment,
        ) as process:
            assert process.stdout is not None
            while chunk := os.read(process.stdout.fileno(), 1 << 20):
                received += len(chunk)
        took = time.perf_counter() - begun
        if received != size or process.returncode:
            raise RuntimeError(f"{self.name}: {received} bytes instead of {size}, exit code {process.returncode}")
        return took


class Wherry(Engine):
    name = "wherry"

    @property
    def socket(self) -> str:
        return f"unix://{self.directory}/wherry.sock"

    def client(self) -> Client:
        return Client("wherry", self, [str(Path(sys.executable).with_name("wherry"))], WHERRY_HOST=self.socket)

    def docker_client(self) -> Client:
        return Client("wherry, docker CLI", self, [docker_cli()], DOCKER_HOST=self.socket)

    def _command(self) -> list[str]:
        return [*_APART, sys.executable, "-m", "wherry.daemon", "--host", self.socket,
                "--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"]  # fmt: skip


class Docker(Engine):
    name = "Docker"

    @property
    def socket(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    def client(self) -> Client:
        return Client("Docker", self, [docker_cli()], DOCKER_HOST=self.socket)

    def _command(self) -> list[str]:
        return [*_APART, "dockerd", "--host", self.socket, "--data-root", f"{self.directory}/data",
                "--exec-root", f"{self.directory}/exec", "--pidfile", f"{self.directory}/pid"]  # fmt: skip


class Podman(Engine):
    """Has no engine that runs on: the process that is started only holds the namespaces."""

    name = "Podman"

    def client(self) -> Client:
        assert self._process is not None
        enter = ["nsenter", "--net", "--mount", "--target", str(self._process.pid)]
        podman = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--root", f"{self.directory}/root",
                  "--runroot", f"{self.directory}/run"]  # fmt: skip
        return Client(self.name, self, [*enter, *podman], CONTAINERS_CONF=str(self._configuration()))

    def _configuration(self) -> Path:
        """Low limits: Podman's own need CAP_SYS_RESOURCE, which root lacks in some virtual machines and containers."""
        file = self.directory / "containers.conf"
        file.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')
        return file

    def _command(self) -> list[str]:
        return [*_APART, "sleep", "infinity"]


def installed(names: Sequence[str]) -> Iterator[type[Engine]]:
    """Those of ``names`` (wherry, docker, podman) whose programs the machine has."""
    programs = {"docker": ("dockerd", Docker), "podman": ("podman", Podman), "wherry": (sys.executable, Wherry)}
    for name in names:
        program, engine = programs[name]
        if shutil.which(program):
            yield engine


def docker_cli() -> str:
    return find_program("docker")


def find_program(name: str) -> str:
    """The machine's own, or the one that scripts/fixtures.sh took out of Debian's package."""
    path = shutil.which(name) or shutil.which(name, path=str(CACHE / name))
    if path is None:
        raise RuntimeError(f"no {name}: scripts/fixtures.sh fetches one")
    return path
