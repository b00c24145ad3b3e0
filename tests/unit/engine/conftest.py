from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bare_engine import BareEngine, opened
from wherry.network import bridge
from wherry.storage.worker import client


@pytest.fixture
async def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BareEngine]:
    """An engine in this process, without a launcher: see ``BareEngine``. The image "app" is there."""
    monkeypatch.setattr(bridge, "_LOCK", str(tmp_path / "networks.lock"))
    # Only root can wall workers in, which tests/security looks at. They do what they do without, too.
    monkeypatch.setattr(client, "_BOOT", f"import os; os.chroot = lambda place: None; {client._BOOT}")
    monkeypatch.setattr(client, "_fork_server", fork_server := client.ForkServer())
    async with opened(tmp_path) as found:
        found.image("a")
        yield found
    fork_server._discard()
