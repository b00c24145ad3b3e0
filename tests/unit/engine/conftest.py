from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bare_engine import BareEngine, opened
from wherry.network import bridge


@pytest.fixture
async def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BareEngine]:
    """An engine in this process, without a launcher: see ``BareEngine``. The image "app" is there."""
    monkeypatch.setattr(bridge, "_LOCK", str(tmp_path / "networks.lock"))
    async with opened(tmp_path) as found:
        found.image("a")
        yield found
