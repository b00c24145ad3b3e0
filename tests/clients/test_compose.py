"""A project of Compose (Debian's docker-compose, which stands on docker-py) from up to down."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.engine import Engine

_PROJECT = """
version: "3.8"
services:
  web:
    build: {context: ./web, args: {GREETING: ahoy}}
    ports: ["127.0.0.1:%d:80"]
    volumes: ["data:/data", "./web:/source:ro"]
    environment: {COLOUR: blue}
    depends_on: [store]
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], interval: 1s}
    networks: [front, back]
    stop_signal: SIGKILL
  store:
    image: busybox
    command: ["sh", "-c", "echo store is up; trap exit TERM; while :; do sleep 0.1; done"]
    networks: {back: {aliases: [warehouse]}}
    restart: unless-stopped
    mem_limit: 64m
volumes: {data: {}}
networks: {front: {}, back: {internal: true}}
"""

_DOCKERFILE = """
FROM busybox
ARG GREETING
RUN mkdir /www && echo "$GREETING from compose" > /www/index.html
CMD ["httpd", "-f", "-h", "/www"]
"""

Compose = Callable[..., str]


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def compose(engine: Engine, busybox: str, tmp_path: Path, port: int) -> Iterator[Compose]:
    """``compose("ps", "-q")`` in the project's folder gives what it prints on standard output."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text(_DOCKERFILE)
    (tmp_path / "docker-compose.yml").write_text(_PROJECT % port)
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "COMPOSE_PROJECT_NAME": "harbour",
        "DOCKER_BUILDKIT": "0",
    }

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    yield run
    run("down", "--volumes", "--rmi", "local", "--timeout", "1")


def test_a_project_from_up_to_down(compose: Compose, engine: Engine, port: int) -> None:
    compose("up", "--detach", "--build")
    with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"ahoy from compose\n"
    assert compose("exec", "-T", "web", "sh", "-c", "ls /source; ping -c 1 warehouse >&2; echo $COLOUR") == (
        "Dockerfile\nblue\n"
    )
    assert "store is up" in compose("logs", "--no-color", "store")
    assert compose("run", "--rm", "-T", "--no-deps", "web", "echo", "once") == "once\n"
    assert compose("port", "web", "80") == f"127.0.0.1:{port}\n"


def test_containers_are_kept_made_again_and_scaled(compose: Compose, engine: Engine) -> None:
    compose("up", "--detach")
    before = compose("ps", "--quiet", "store")
    compose("up", "--detach", "--scale", "store=3")
    assert before.strip() in compose("ps", "--quiet", "store").split()
    assert len(compose("ps", "--quiet", "store").split()) == 3
    compose("restart", "--timeout", "1", "web")
    compose("up", "--detach", "--force-recreate", "--timeout", "1", "store")
    after = compose("ps", "--quiet", "store").split()
    assert len(after) == 1 and before.strip() not in after


def test_nothing_is_left(compose: Compose, engine: Engine) -> None:
    compose("up", "--detach")
    compose("down", "--volumes", "--timeout", "1")
    mine = "?filters=" + json.dumps({"label": ["com.docker.compose.project=harbour"]}).replace(" ", "")
    assert engine.request("GET", f"/containers/json{mine}&all=1").body == []
    assert engine.request("GET", f"/networks{mine}").body == []
    assert engine.request("GET", f"/volumes{mine}").body["Volumes"] in ([], None)
