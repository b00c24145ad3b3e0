"""The warm process that storage workers are forked from, when it dies."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk import Disk
from wherry.common.errors import EngineError
from wherry.storage.worker import client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "data")
    yield found
    found.close()


async def stat(disk: Disk) -> None:
    assert (await disk.store.files.stat((disk.store.snapshots.view("", ""),), "/")).name == "/"


async def test_it_is_started_again_when_it_was_killed(disk: Disk) -> None:
    await stat(disk)
    process = client._nursery._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await stat(disk)
    assert client._nursery._process is not process


async def test_many_at_once(disk: Disk) -> None:
    await asyncio.gather(*(stat(disk) for _ in range(20)))


async def test_one_that_cannot_start_is_an_error(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_BOOT", "raise SystemExit(1)")
    monkeypatch.setattr(client, "_nursery", client.Nursery())
    with pytest.raises((EngineError, OSError), match=r"could not be started|Broken pipe"):
        await stat(disk)
