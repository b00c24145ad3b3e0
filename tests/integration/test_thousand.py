"""Many containers asked for at once: everyone gets his. ``python -m bench.thousand`` does it with thousands, and takes
the time."""

import asyncio
import contextlib
import os
import signal
import time

from bench.thousand import SHORT, Line
from tests.support.engine import Engine

_COUNT = 60


async def _run_all(path: str) -> list[int]:
    """How each ended. All ask at once, each by a connection of its own."""

    async def run() -> int:
        line = await Line.open(path)
        try:
            name = await line.create(SHORT, "none")
            await line.ask("POST", f"/containers/{name}/start")
            ended = await line.ask("POST", f"/containers/{name}/wait")
            await line.ask("DELETE", f"/containers/{name}")
            return int(ended["StatusCode"])
        finally:
            line.close()

    return await asyncio.gather(*(run() for _ in range(_COUNT)))


def test_whoever_asks_for_many_at_once_gets_them(engine: Engine, busybox: str) -> None:
    assert asyncio.run(_run_all(str(engine.socket))) == [0] * _COUNT
    starts = engine.request("GET", "/info").body["Starts"]
    assert starts == {"Waiting": 0, "UnderWay": 0, "AtATime": starts["AtATime"]}
    assert engine.request("GET", "/containers/json?all=1").body == []


def test_policies_start_their_containers_again_by_turns(own_engine: Engine) -> None:
    names = [f"c{number}" for number in range(12)]
    for name in names:
        own_engine.docker("run", "-d", "--name", name, "--network", "none", "--restart", "always",
                          "busybox", "sleep", "1000", check=True)  # fmt: skip
    own_engine.kill()
    for pid in own_engine.processes():  # a machine that starts again: nothing of them runs
        with contextlib.suppress(ProcessLookupError):  # a container goes with its monitor
            os.kill(pid, signal.SIGKILL)
    own_engine.start()
    deadline = time.monotonic() + 60
    while (info := own_engine.request("GET", "/info").body)["ContainersRunning"] < len(names):
        assert time.monotonic() < deadline, own_engine.log_text()
        time.sleep(0.05)
    assert info["Starts"]["Waiting"] == 0
    assert info["Starts"]["UnderWay"] <= info["Starts"]["AtATime"]
