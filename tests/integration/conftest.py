"""What several files of these tests need: registries, and Docker to compare with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import registry as registries
from tests.support.docker_engine import DockerEngine, NoDocker
from tests.support.engine import CACHE, Engine
from tests.support.faults import ScriptedRegistry
from tests.support.registry import Registry, tar_of


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if not registries.installed():
        pytest.skip("needs Debian's packages docker-registry and openssl")
    with registries.running(Registry(tmp_path_factory.mktemp("registry"))) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A client's environment with a configuration of its own."""
    return {"DOCKER_CONFIG": str(tmp_path / "docker"), "HOME": str(tmp_path)}


@pytest.fixture(scope="session")
def busybox_tar(_images: None) -> bytes:
    """A layer with a shell, cat and uname."""
    content = (CACHE / "busybox").read_bytes()
    return tar_of({"bin/busybox": content, "bin/sh": content, "bin/cat": content, "bin/uname": content})


@pytest.fixture
def scripted() -> Iterator[ScriptedRegistry]:
    server = ScriptedRegistry()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def _own() -> Iterator[Engine]:
    found = Engine()
    try:
        found.start()
        yield found
        found.stop()
    finally:
        found.discard()


@pytest.fixture
def clean(_own: Engine) -> Engine:
    """An engine without images."""
    for image in _own.request("GET", "/v1.51/images/json?all=1").body:
        _own.request("DELETE", f"/v1.51/images/{image['Id']}?force=1")
    return _own


@pytest.fixture(scope="module")
def dockerd(_images: None) -> Iterator[DockerEngine]:
    """A Docker engine without networks, with busybox."""
    try:
        found = DockerEngine()
    except NoDocker as missing:
        pytest.skip(str(missing))
    try:
        found("load", "--input", str(CACHE / "busybox.image.tar"))
        yield found
    finally:
        found.stop()
