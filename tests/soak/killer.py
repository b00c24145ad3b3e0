"""Kills what an engine consists of, one process after another, and starts the daemon again."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from tests.soak.clients import answers
from tests.support.engine import Engine

_FORK_SERVER = "wherry.storage.worker.server"
_HUNT = 1  # seconds that a worker is waited for
KINDS = ("daemon", "launcher", "spare", "monitor", "fork_server", "worker")


class Killer(threading.Thread):
    """``kills`` by kind; ``silences``: how long nobody answered a ping after the daemon was started again."""

    def __init__(self, engine: Engine, seed: int, pause: float) -> None:
        super().__init__(name="killer", daemon=True)
        self._engine = engine
        self._random = random.Random(seed)
        self._pause = pause
        self.kills: Counter[str] = Counter()
        self.silences: list[float] = []
        self.failure: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            kinds = ["daemon"]
            while not self.ended.wait(self._random.uniform(0.2, 2 * self._pause)):
                kind = kinds.pop()
                kinds = kinds or self._random.sample(KINDS, len(KINDS))
                if kind == "daemon":
                    self._restart()
                else:
                    self._kill(kind)
        except BaseException as error:
            self.failure = error

    def _restart(self) -> None:
        self.kills["daemon"] += 1
        self._engine.kill()
        began = time.monotonic()
        starting = threading.Thread(target=self._engine.start)
        starting.start()
        while not answers(self._engine) and starting.is_alive():
            time.sleep(0.005)
        self.silences.append(time.monotonic() - began)
        starting.join()

    def _kill(self, kind: str) -> None:
        found = find(self._engine).get("fork_server" if kind == "worker" else kind)
        if kind == "worker" and found:
            found = _children(found[0])
        if found:
            self.kills[kind] += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(found), signal.SIGKILL)


def find(engine: Engine) -> dict[str, list[int]]:
    """The processes of an engine by their kinds; workers are their fork_server's children."""
    found: dict[str, list[int]] = {}
    nurseries: dict[int, int] = {}
    for pid in engine.processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if _FORK_SERVER in command:
                nurseries[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found.setdefault(_kind(command), []).append(pid)
    found["fork_server"] = [pid for pid, parent in nurseries.items() if parent not in nurseries]
    return found


def _children(pid: int) -> list[int]:
    """Waits a while until there are some."""
    deadline = time.monotonic() + _HUNT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                return [int(each) for each in found]
        time.sleep(0.002)
    return []


def _kind(command: str) -> str:
    if command.startswith("wherry-launcher"):
        return "launcher"
    if command.startswith("wherry-monitor"):
        return "monitor" if command.split()[1:] else "spare"
    if _FORK_SERVER in command:
        return "fork_server"
    return "daemon" if "wherry.daemon" in command else "other"
