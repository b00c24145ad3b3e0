"""The command line in this process, against an engine that answers from a table, or from a script."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.answering_engine import AnsweringEngine
from tests.support.scripted_engine import ScriptedEngine
from wherry.cli import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answering_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringEngine]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with AnsweringEngine(tmp_path) as engine:
        yield engine


@pytest.fixture
def cli(answering_engine: AnsweringEngine, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line against it; gives the exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main.run(["-H", answering_engine.address, *words])
        output = capfd.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """An engine that answers from a script."""
    with ScriptedEngine() as engine:
        yield engine


@pytest.fixture
def call(engine: ScriptedEngine, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs a command line against that one; gives the same."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main.run(["--config", str(tmp_path), "-H", engine.host, *words])
        output = capfd.readouterr()
        return code, output.out, output.err

    return run
