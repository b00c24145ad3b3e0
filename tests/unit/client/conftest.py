from collections.abc import Iterator

import pytest

from tests.support.scripted_engine import ScriptedEngine
from wherry.client.blocking import Client


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    with ScriptedEngine() as engine:
        yield engine


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[Client]:
    with Client(engine.host) as client:
        yield client
