"""A Docker engine to compare with: a dockerd of the tests' own, apart from any other on the machine."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.engine import run_client

_START_SECONDS = 60
_STOP_SECONDS = 30


class NoDocker(Exception):
    """There is no Docker that could be started; why not."""


class DockerEngine:
    """A dockerd, with networks of its own or none. ``version`` is its major number."""

    def __init__(self, *, networks: bool = False) -> None:
        """Starts it, or takes the running one that WHERRY_TEST_DOCKER_HOST names. Raises NoDocker."""
        self._root: Path | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self.host = os.environ.get("WHERRY_TEST_DOCKER_HOST", "")
        if not self.host:
            self._start([] if networks else ["--bridge=none", "--iptables=false", "--ip6tables=false"])
        try:
            answer = run_client(["docker", "version", "--format", "{{.Server.Version}}"], {"DOCKER_HOST": self.host})
            self.version = int(answer.stdout.partition(".")[0])
            self._client = self._find_client()
        except (FileNotFoundError, ValueError):
            self.stop()
            raise NoDocker("no docker command line") from None
        except NoDocker:
            self.stop()
            raise

    def __call__(self, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the docker CLI, whose builds are BuildKit's."""
        return self._run(self._client, *arguments, timeout=timeout, check=check)

    def stop(self) -> None:
        """Ends the daemon and takes away all that it made. A daemon that was there before stays."""
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        if self._root is not None:
            left = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            for place in reversed([each for each in left if each.startswith(f"{self._root}/")]):
                subprocess.run(["umount", "--lazy", place], check=False)
            shutil.rmtree(self._root, ignore_errors=True)

    def _start(self, flags: list[str]) -> None:
        if not shutil.which("dockerd"):
            raise NoDocker("no dockerd on this machine")
        if os.geteuid() != 0:
            raise NoDocker("dockerd needs root")
        self._root = Path(tempfile.mkdtemp(prefix="docker-", dir="/var/tmp"))
        self.host = f"unix://{self._root}/docker.sock"
        log = self._root / "log"
        with log.open("wb") as file:
            self._daemon = subprocess.Popen(
                ["dockerd", "--host", self.host, "--data-root", self._root / "data", "--exec-root", self._root / "exec",
                 "--pidfile", self._root / "pid", *flags],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while b"API listen on" not in log.read_bytes():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip().splitlines()[-1:]
                self.stop()
                raise NoDocker(f"dockerd did not start: {' '.join(said)}")
            time.sleep(0.1)

    def _find_client(self) -> str:
        """A docker CLI that speaks to BuildKit: one older than 23, or one with buildx."""
        with tempfile.TemporaryDirectory() as empty:
            for directory in os.environ["PATH"].split(os.pathsep):
                client = shutil.which("docker", path=directory)
                if client is None:
                    continue
                tried = self._run(client, "build", "--quiet", "--file", "-", empty, input="FROM scratch\nLABEL a=b\n")
                if tried.returncode == 0:
                    self._run(client, "rmi", "--force", tried.stdout.strip())
                    return client
        raise NoDocker("no docker command line that builds with BuildKit: it needs buildx")

    def _run(self, client: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        host = {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        if "DOCKER_CONFIG" in os.environ:  # where buildx may be
            host["DOCKER_CONFIG"] = os.environ["DOCKER_CONFIG"]
        return run_client([client, *arguments], host, **options)
