"""An engine that comes up finds monitors of the one before it."""

import asyncio
import os
import socket

import pytest

from tests.support.bare_engine import BareEngine
from wherry.engine.container import recovery
from wherry.runtime import ipc


async def test_a_monitor_that_does_not_answer_holds_up_nothing_but_its_own_container(
    bare: BareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("silent", "other"):
        await bare.run(name)
    directory = f"{bare.config.exec_root}/{bare.live('silent').record.id}"
    monkeypatch.setattr(recovery, "_ANSWER_PATIENCE", 0.05)
    first = await asyncio.create_subprocess_exec("sleep", "600")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        folder = os.open(directory, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/{ipc.SOCKET}")  # a socket's path may not be long
        os.close(folder)
        listener.listen()
        listener.setblocking(False)
        await bare.reopen()
        assert bare.live("other").record.state.status == "exited"
        await bare.start("other")
        assert bare.live("silent").record.state.status == "running"
        removing = asyncio.create_task(bare.engine.containers.remove("silent", force=True))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(listener)
        request = ipc.decode_request.decode(await loop.sock_recv(connection, 1 << 16))
        assert isinstance(request, ipc.Status) and not removing.done()
        pidfd = os.pidfd_open(first.pid)
        ipc.send(connection, ipc.Started(first.pid, os.getpid(), 1, number=request.number), (pidfd,))
        os.close(pidfd)
        await first.wait()  # what removes it has ended it first
        ipc.send(connection, ipc.Exited(137, 2))
        await asyncio.wait_for(removing, 10)
        connection.close()
    assert [entry.record.name for entry in bare.engine.entries] == ["other"]
