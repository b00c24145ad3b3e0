"""Fixtures for the clients' tests: one command line, docker's or wherry's, in front of one engine."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import registry as registries
from tests.support.engine import CACHE, WHERRY, Engine, docker_cli, run_client
from tests.support.registry import Registry
from tests.support.terminal import Terminal

PLUGINS = (
    CACHE / "docker-config" / "cli-plugins",
    Path("/usr/libexec/docker/cli-plugins"),
    Path("/usr/lib/docker/cli-plugins"),
    Path("/usr/local/lib/docker/cli-plugins"),
)


class Cli:
    """The docker CLI or the wherry CLI. ``cli("ps", "-a")`` runs a command to its end, whatever that is.

    ``ok`` expects it to succeed and gives what it printed, without the last newline; ``fails`` expects an exit code and
    gives what it printed on standard error, with the program's own name as ``PROGRAM`` in it.
    """

    def __init__(self, name: str, host: str, open_terminal: Callable[..., Terminal]) -> None:
        self.name = name
        self.command = [docker_cli() if name == "docker" else str(WHERRY)]
        self.host = {"DOCKER_HOST" if name == "docker" else "WHERRY_HOST": host}
        self._open_terminal = open_terminal

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_client([*self.command, *arguments], self.host, **options)

    def ok(self, *arguments: str, **options: Any) -> str:
        return self(*arguments, check=True, **options).stdout.removesuffix("\n")

    def fails(self, *arguments: str, code: int = 1, **options: Any) -> str:
        finished = self(*arguments, **options)
        assert finished.returncode == code, finished
        return re.sub(rf"(?<![\w./-]){self.name}(?=[ :'])", "PROGRAM", finished.stderr)

    def inspect(self, name: str, template: str) -> str:
        return self.ok("inspect", "-f", template, name)

    def wait_for_output(self, name: str) -> None:
        while not self.ok("logs", name):
            pass

    def past_events(self, *filters: str, template: str = "{{.Action}}") -> list[str]:
        """What has happened up to now."""
        options = [word for each in filters for word in ("--filter", each)]
        until = f"{time.time():.6f}"
        return self.ok("events", "--since", "1", "--until", until, "--format", template, *options).splitlines()

    def begin(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A command that goes on beside the test, with pipes for its streams."""
        return subprocess.Popen(
            [*self.command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, **self.host}, **options,
        )  # fmt: skip

    def terminal(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> Terminal:
        """A terminal with the command in it."""
        environment = {**os.environ, "TERM": "xterm", **self.host, **(env or {})}
        return self._open_terminal([*self.command, *arguments], env=environment, **options)


@pytest.fixture(params=["docker", "wherry"])
def cli(request: pytest.FixtureRequest, engine: Engine, busybox: str, terminal: Callable[..., Terminal]) -> Cli:
    """Both command lines, one after the other: a test that takes this says that they do the same."""
    return Cli(request.param, engine.host, terminal)


@pytest.fixture
def sleeper(cli: Cli, busybox: str) -> str:
    """The name of a container that runs until it is told to end, and then ends at once."""
    cli.ok(
        "run",
        "-d",
        "--name",
        "sleeper",
        busybox,
        "sh",
        "-c",
        "trap 'exit 0' TERM; echo up; while :; do sleep 1000 & wait; done",
    )
    cli.wait_for_output("sleeper")  # the trap is set: before that, PID 1 would not hear of a signal
    return "sleeper"


@pytest.fixture
def clean_images(engine: Engine) -> Iterator[None]:
    """Removes the images that a test has made."""
    before = _images(engine)
    yield
    for image in _images(engine) - before:
        engine.request("DELETE", f"/images/{image}?force=1")


def _images(engine: Engine) -> set[str]:
    listed = engine.request("GET", "/images/json?all=1").body
    return {name for image in listed for name in (image["RepoTags"] or [image["Id"]])}


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A directory of the host that any user of a container may enter."""
    with tempfile.TemporaryDirectory(prefix="wherry-shared-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, str]:
    """The environment in which the docker CLI finds its buildx."""
    found = next((path / "docker-buildx" for path in PLUGINS if (path / "docker-buildx").exists()), None)
    if found is None:
        pytest.skip("no buildx: the distribution has no docker-buildx")
    plugins = tmp_path / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(found)
    return {"DOCKER_CONFIG": str(tmp_path / "docker"), "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


@pytest.fixture
def buildx(docker: Callable[..., Any], configured: dict[str, str]) -> Callable[..., Any]:
    """Runs the docker CLI with its buildx."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return docker(*arguments, env={**configured, **(env or {})}, **options)

    return run


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if not registries.installed():
        pytest.skip("needs Debian's packages docker-registry and openssl")
    with registries.running(Registry(tmp_path_factory.mktemp("registry"))) as found:
        yield found


@pytest.fixture
def context(tmp_path: Path, clean_images: None, busybox: str) -> Path:
    """A context of which an image can be built for any platform."""
    made = tmp_path / "context"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH/\n")
    (made / "file").write_text("content\n")
    return made
