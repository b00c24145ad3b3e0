"""Storage workers that are killed, and the warm process that they are forked from: what can be done again is."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import tars
from tests.support.disk import Disk, stream
from wherry.common.errors import EngineError
from wherry.storage.worker import client
from wherry.storage.worker.jobs import Job, Root

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
    process = client._fork_server._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await stat(disk)
    assert client._fork_server._process is not process


async def test_many_at_once(disk: Disk) -> None:
    await asyncio.gather(*(stat(disk) for _ in range(20)))


async def test_one_that_cannot_start_is_an_error(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_BOOT", "raise SystemExit(1)")
    monkeypatch.setattr(client, "_fork_server", client.ForkServer())
    with pytest.raises((EngineError, OSError), match=r"could not be started|Broken pipe"):
        await stat(disk)


async def test_a_worker_that_dies_as_soon_as_it_is_forked(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    deadly = disk.root / "deadly"
    deadly.touch()
    monkeypatch.setattr(client, "_BOOT", client._BOOT.replace("; serve(", f"{_DIES}serve("))
    monkeypatch.setenv("DEADLY", str(deadly))
    monkeypatch.setattr(client, "_fork_server", client.ForkServer())
    await asyncio.wait_for(stat(disk), 60)
    assert not deadly.exists()


_DIES = """
import os
from wherry.storage.worker import server
become = server._become_worker
def dying(*given):
    try:
        os.unlink(os.environ["DEADLY"])
    except FileNotFoundError:
        become(*given)
    os._exit(1)
server._become_worker = dying
"""


@pytest.fixture(params=["before its job", "over its job"])
def deaths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of as many workers as the one number says: it counts down."""
    left = [0]
    tell = client.Worker.tell

    async def dying(worker: client.Worker, job: Job) -> None:
        if not left[0]:
            return await tell(worker, job)
        left[0] -= 1
        pidfd = worker._process._pidfd
        if request.param == "before its job":
            worker._process.kill()
            await worker._process.wait()
            return await tell(worker, job)
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)  # lest it has done it before it is killed
        await tell(worker, job)
        return worker._process.kill()

    monkeypatch.setattr(client.Worker, "tell", dying)
    return left


async def _stat(disk: Disk, root: Root) -> None:
    assert (await disk.store.files.stat(root, "/d/f")).size == 7


async def _get(disk: Disk, root: Root) -> None:
    async with disk.store.files.get(root, "/d") as (found, chunks):
        data = b"".join([chunk async for chunk in chunks])
    assert found.name == "d" and [(entry.name, content) for entry, content in tars.read(data)][1:] == [
        (b"d/f", b"content")
    ]


async def _export(disk: Disk, root: Root) -> None:
    data = b"".join([chunk async for chunk in disk.store.files.export(root)])
    assert (b"d/f", b"content") in [(entry.name, content) for entry, content in tars.read(data)]


async def _put(disk: Disk, root: Root) -> None:
    await disk.store.files.put(root, "/d", stream(tars.make(tars.member("f", data=b"newer")), 700))
    assert (disk.root / "containers/c/diff/d/f").read_bytes() == b"newer"


async def _make_directory(disk: Disk, root: Root) -> None:
    await disk.store.snapshots.make_directory("c", "/x/y")
    assert (disk.root / "containers/c/diff/x/y").is_dir()


async def _commit(disk: Disk, root: Root) -> None:
    (disk.root / "containers/c/diff/more").touch()
    assert (await disk.store.snapshots.commit("c")).chain_id


@pytest.mark.parametrize("work", [_stat, _get, _export, _put, _make_directory, _commit])
async def test_what_a_killed_worker_was_asked_for_is_asked_for_again(
    disk: Disk, deaths: list[int], work: Callable[[Disk, Root], Awaitable[None]]
) -> None:
    chain = disk.store.images.get(await disk.image(tars.member("d/f", data=b"content"))).chain_id
    disk.store.snapshots.create("c", chain)
    deaths[0] = 2
    await work(disk, disk.store.snapshots.mounts("c", volatile=True))
    assert deaths == [0]


async def test_what_a_killed_worker_had_mounted_is_mounted_again(disk: Disk) -> None:
    """The kernel leaves a mark where it was mounted as volatile, and refuses to do it a second time."""
    disk.store.snapshots.create("c", disk.store.images.get(await disk.image(tars.member("d/f"))).chain_id)
    root = disk.store.snapshots.mounts("c", volatile=True)
    for _ in range(2):
        await disk.store.files.put(root, "/d", stream(tars.make(tars.member("g"))))
    assert (disk.root / "containers/c/diff/d/g").exists()


async def test_one_that_is_killed_each_time_is_told_in_words(disk: Disk, deaths: list[int]) -> None:
    deaths[0] = 1000
    with pytest.raises(client.WorkerDied, match="was killed before it was done: try again"):
        await stat(disk)


async def test_a_long_stream_is_not_kept(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not unpacked in part either: what was read of it cannot be read again."""
    chain = disk.store.images.get(await disk.image(tars.member("d/f", data=b"content"))).chain_id
    disk.store.snapshots.create("c", chain)
    sent = 0

    async def long() -> Any:
        nonlocal sent
        async for chunk in stream(tars.make(tars.member("f", data=bytes(4 << 20)))):
            sent += len(chunk)
            if sent > 3 << 20:
                workers[-1]._process.kill()
            yield chunk

    workers: list[client.Worker] = []
    tell = client.Worker.tell

    async def noting(worker: client.Worker, job: Job) -> None:
        workers.append(worker)
        await tell(worker, job)

    monkeypatch.setattr(client.Worker, "tell", noting)
    with pytest.raises(client.WorkerDied, match="try again"):
        await disk.store.files.put(disk.store.snapshots.mounts("c", volatile=True), "/d", long())
    assert len(workers) == 1
