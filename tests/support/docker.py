"""Docker's own engine, to exchange images with: on a socket and a data root of its own, without networks."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.engine import docker_cli, run_client

START_SECONDS, STOP_SECONDS = 30, 30


def installed() -> bool:
    return shutil.which("dockerd") is not None and shutil.which("containerd") is not None


class Docker:
    """A dockerd that runs."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="docker-", dir="/var/tmp"))
        self.host = f"unix://{self._root}/docker.sock"
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--host", self.host, "--data-root", str(self._root / "data"), "--exec-root",
                 str(self._root / "exec"), "--pidfile", str(self._root / "pid"), "--bridge=none", "--iptables=false",
                 "--ip6tables=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while self("version").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._root / "log").read_text()[-4000:]
                self.stop()
                raise AssertionError(f"dockerd did not start:\n{log_text}")
            time.sleep(0.05)

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The docker CLI against it; ``options`` are those of ``run_client``."""
        return run_client([docker_cli(), *arguments], {"DOCKER_HOST": self.host}, **options)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._root, ignore_errors=True)
