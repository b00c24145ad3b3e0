"""A child and what becomes of it."""

import os

from wherry.runtime.execute import Init
from wherry.runtime.ipc import Loop
from wherry.runtime.running import Running, fork
from wherry.runtime.spec import Process
from wherry.runtime.stdio import Buffer


def test_one_that_was_killed_before_it_became_the_program_is_reaped() -> None:
    """Else it stays in its pid namespace for ever, whose first process then cannot end either."""
    before = set(os.listdir("/proc/self/fd"))
    child = fork(lambda line: os._exit(0))
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    loop = Loop()
    wanted = Process(args=("true",))
    running = Running(loop, Buffer(), wanted)
    happened: list[str] = []
    for fd in running.open_pipes().values():
        os.close(fd)
    init = Init(wanted, reaps=False, joins=True)
    init.begun()
    running.watch(child, init, lambda _: happened.append("started"), lambda _: happened.append("exited"))
    while "exited" not in happened:
        loop.turn()
    assert happened == ["started", "exited"]
    assert not os.path.exists(f"/proc/{child.pid}")
    running.stdio.drain()
    del loop
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1, "but the loop's own"
