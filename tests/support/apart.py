"""Fixtures for tests of networks: a host's network of a module's own, an outside on a cable to it, and an engine.

The engine is started with the module's DAEMON_FLAGS, if there are some.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine, started
from tests.support.networks import own_network
from tests.support.outside import Outside, outside


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with own_network():
        yield


@pytest.fixture(scope="module")
def world(host: None) -> Iterator[Outside]:
    with outside() as made:
        yield made


@pytest.fixture(scope="module")
def apart(request: pytest.FixtureRequest, host: None, _images: None) -> Iterator[Engine]:
    with started(Engine(getattr(request.module, "DAEMON_FLAGS", ()))) as engine:
        yield engine


@pytest.fixture
def engine(apart: Engine) -> Iterator[Engine]:
    """In place of the one that all tests share. A test's containers and networks are removed after it."""
    yield apart
    if not apart.running:
        apart.start()
    apart.remove_containers()
    apart.docker("network", "prune", "-f", check=True)


@pytest.fixture
def busybox(engine: Engine) -> str:
    return "busybox:latest"
