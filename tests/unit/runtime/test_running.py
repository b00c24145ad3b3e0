"""A child and what becomes of it."""

import os

from wherry.runtime.ipc import Loop, to_memfd
from wherry.runtime.running import Running, fork
from wherry.runtime.spec import Process
from wherry.runtime.stdio import Buffer


def test_one_that_was_killed_before_it_was_told_what_to_become_is_reaped() -> None:
    """Else it stays in its pid namespace for ever, whose first process then cannot end either."""
    child = fork(lambda channel: os._exit(0))
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    loop = Loop()
    running = Running(loop, Buffer(), Process(args=("true",)))
    happened: list[str] = []
    before = set(os.listdir("/proc/self/fd"))
    running.begin(
        child, to_memfd("process", b""), lambda _: happened.append("started"), lambda _: happened.append("exited")
    )
    while "exited" not in happened:
        loop.turn()
    assert happened == ["started", "exited"]
    assert not os.path.exists(f"/proc/{child.pid}")
    running.stdio.drain()
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1, "only the memfd is ours to close"
