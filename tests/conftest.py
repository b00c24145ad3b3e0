"""Fixtures for every folder of tests.

Those that need an engine start one, of their own and apart from any other on the machine, at the first test that asks.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api_definition import ApiDefinition
from tests.support.builds import Builder
from tests.support.engine import CACHE, PROJECT, WHERRY, Engine, docker_cli, wait_until_gone
from tests.support.footprint import footprint
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from tests.support.bundles import Bundles
    from tests.support.disk import Disk
    from wherry.runtime.launcher_client import Launcher


def pytest_configure() -> None:
    gc.disable()  # what is imported and collected stays
    # A shell's background jobs ignore Ctrl-C, and so would every program that the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The docker CLI that scripts/fixtures.sh has fetched goes before the machine's: the tests know what it says
    os.environ["PATH"] = f"{CACHE / 'docker'}:{os.environ['PATH']}"


def pytest_collection_finish() -> None:
    """A third of the unit tests' time went to a collector that looked at all tests again and again."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    terminalreporter.write_line(f"{seconds:.0f} s of processor time")


@pytest.fixture(scope="session")
def api_definition() -> ApiDefinition:
    """The Docker Engine API 1.54: ``api_definition.check("GET", "/info", 200, body)``."""
    return ApiDefinition.load()


@pytest.fixture(scope="session")
def _images() -> None:
    """The base images' tars below .cache, made if need be."""
    if not (CACHE / "busybox.image.tar").exists() or not _debian_archive():
        subprocess.run([PROJECT / "scripts" / "fixtures.sh"], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def _session_engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        yield engine
        engine.remove_containers()
        engine.stop()
        _assert_nothing_left(engine)
    finally:
        engine.discard()


@pytest.fixture
def engine(_session_engine: Engine) -> Iterator[Engine]:
    """An engine that all tests share; a test's containers are removed after it."""
    if not _session_engine.running:
        _session_engine.kill()
        _session_engine.start()
    _session_engine.begin_log()
    yield _session_engine
    _session_engine.check_log()
    if _session_engine.running:
        _session_engine.remove_containers()


@pytest.fixture
def own_engine(_images: None) -> Iterator[Engine]:
    """An engine for one test alone, which may kill it, stop it and start it again; busybox:latest is loaded."""
    engine = Engine(cgroup_parent="wherry-test")
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.check_log()
        if not engine.running:
            engine.start()
        engine.remove_containers()
        engine.stop()
        _assert_nothing_left(engine)
    finally:
        engine.discard()


@pytest.fixture(scope="session")
def _busybox_loaded(_session_engine: Engine, _images: None) -> None:
    _session_engine.load(CACHE / "busybox.image.tar")


@pytest.fixture
def busybox(engine: Engine, _busybox_loaded: None) -> str:
    """The name of a busybox image in ``engine``; its command is sh."""
    return "busybox:latest"


@pytest.fixture(scope="session")
def _debian_loaded(_session_engine: Engine, _images: None) -> str:
    archive = _debian_archive()
    if archive is None:
        pytest.skip("no Debian image: scripts/base_image.sh could not make one")
    _session_engine.load(archive)
    return archive.name.removesuffix(".image.tar").replace("-", ":", 1)


@pytest.fixture
def debian(engine: Engine, _debian_loaded: str) -> str:
    """The name of a Debian image in ``engine``, debian:bookworm on most machines; its command is bash."""
    return _debian_loaded


@pytest.fixture
def wherry(engine: Engine) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the wherry CLI: ``wherry("run", "--rm", busybox, "true")``; see :func:`tests.support.engine.run_client`."""
    return engine.wherry


@pytest.fixture
def docker(engine: Engine) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the docker CLI against wherry, likewise."""
    docker_cli()
    return engine.docker


@pytest.fixture
def build(engine: Engine, busybox: str, tmp_path: Path) -> Iterator[Builder]:
    """Builds the image "built" with the wherry CLI: ``build("FROM busybox…", {"file": "content"}, "--no-cache")``."""
    yield Builder(engine, tmp_path)
    engine.wherry("rmi", "--force", "built")


@pytest.fixture
def docker_client(engine: Engine) -> Iterator[Any]:
    """A docker-py client of the engine."""
    import docker

    client = docker.DockerClient(base_url=engine.host, version="auto")
    yield client
    client.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Opens terminals, and closes them after the test: ``terminal(command, env=…)`` is a :class:`Terminal`."""
    opened: list[Terminal] = []

    def open_terminal(command: Sequence[str], **options: Any) -> Terminal:
        opened.append(Terminal(command, **options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture
def wherry_terminal(engine: Engine, terminal: Callable[..., Terminal]) -> Callable[..., Terminal]:
    """A terminal with the wherry CLI in it: ``wherry_terminal("run", "-it", busybox)``."""
    return lambda *arguments, **options: terminal(
        [str(WHERRY), *arguments], env=_client_environment({"WHERRY_HOST": engine.host}), **options
    )


@pytest.fixture
def docker_terminal(engine: Engine, terminal: Callable[..., Terminal]) -> Callable[..., Terminal]:
    """A terminal with the docker CLI in it, talking to wherry."""
    return lambda *arguments, **options: terminal(
        [docker_cli(), *arguments], env=_client_environment({"DOCKER_HOST": engine.host}), **options
    )


def _client_environment(host: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", **host}


def _debian_archive() -> Path | None:
    """Debian's, or Ubuntu's where the machine's apt has that alone."""
    return next(iter(sorted(CACHE.glob("[du]*-*.image.tar"))), None)


def _assert_nothing_left(engine: Engine) -> None:
    left = wait_until_gone(engine.processes)
    assert not left, f"processes outlived the engine: {footprint(engine).processes}"
    assert not footprint(engine).mounts, f"mounts outlived the engine: {footprint(engine).mounts}"


# Parts of an engine, without the rest of it. Who does not ask for one does not load it.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A data root with its store."""
    from tests.support.disk import Disk

    found = Disk(tmp_path / "data")
    yield found
    found.close()


@pytest.fixture
def bundles(_images: None, tmp_path: Path) -> Iterator[Bundles]:
    """Makes specs of containers upon the base images."""
    from tests.support.bundles import Bundles

    made = Bundles(tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    from wherry.runtime.launcher_client import Launcher

    spawned = await Launcher.spawn(str(tmp_path))
    yield spawned
    await spawned.close()
