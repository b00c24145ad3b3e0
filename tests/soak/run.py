"""A soak from its beginning to its end."""

import re
import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from tests.soak import checker
from tests.soak.clients import NETWORK, Client, Findings
from tests.soak.killer import Killer
from tests.support.engine import Engine

_PATIENCE = 120  # seconds that a client gets for what it is at when the time is over


class Report(NamedTuple):
    seconds: float
    operations: Counter[str]
    statuses: Counter[int]
    unanswered: int
    kills: Counter[str]
    silences: list[float]
    wrong: list[str]
    memory: tuple[int, int]
    """The daemon's, in kB, before and after."""

    def __str__(self) -> str:
        longest = max(self.silences, default=0)
        middle = sorted(self.silences)[len(self.silences) // 2] if self.silences else 0
        lines = [
            f"{self.operations.total()} operations in {self.seconds:.0f} s, {self.unanswered} of them unanswered",
            "statuses: " + ", ".join(f"{status} {count}" for status, count in sorted(self.statuses.items())),
            f"{self.kills.total()} kills: " + ", ".join(f"{kind} {count}" for kind, count in self.kills.most_common()),
            f"ms from the daemon's start to a ping's answer: {middle * 1000:.0f} (median), {longest * 1000:.0f} (most)",
            f"the daemon has {self.memory[0]} kB before, {self.memory[1]} after",
            f"{len(self.wrong)} wrong answers",
        ]
        alike = Counter(re.sub(r"[0-9a-f]{12,64}", "ID", text) for text in self.wrong)
        return "\n".join([*lines, *(f"  {count} x {text}" for text, count in alike.most_common(50))])


def soak(engine: Engine, seconds: float, *, clients: int = 20, seed: int = 1, pause: float = 2) -> Report:
    """Of an engine that runs and has busybox. ``pause`` is between two kills, on the average."""
    network = _make_network(engine)
    engine.request(
        "POST", "/containers/create?name=warm", {"Image": "busybox", "HostConfig": {"NetworkMode": "bridge"}}
    )
    engine.request("POST", "/containers/warm/start")
    engine.request("DELETE", "/containers/warm?force=1")
    engine.request("DELETE", f"/networks/{NETWORK}")
    before, memory = checker.kept(engine), _memory(engine)
    assert engine.request("POST", "/networks/create", network).status == 201
    findings, killer = Findings(), Killer(engine, seed, pause)
    crowd = [Client(engine, number, seed, findings, killer.kills) for number in range(clients)]
    began = time.monotonic()
    threads = [threading.Thread(target=each.run, name=each.name, daemon=True) for each in crowd]
    for each in (*threads, killer):
        each.start()
    killer.ended.wait(seconds)
    killer.ended.set()
    killer.join(_PATIENCE)
    for client in crowd:
        client.ended.set()
    for each in threads:
        each.join(_PATIENCE)
        if each.is_alive():
            findings.complain(f"{each.name} does not come to an end")
    elapsed = time.monotonic() - began
    if killer.failure is not None:
        raise killer.failure
    checker.check(engine, before, findings)
    return Report(
        elapsed, findings.operations, findings.statuses, findings.unanswered, killer.kills, killer.silences,
        findings.wrong, (memory, _memory(engine)),
    )  # fmt: skip


def _make_network(engine: Engine) -> dict[str, Any]:
    """Of few addresses, that this machine does not have: what it was asked for by."""
    for number in range(256):
        body = {"Name": NETWORK, "IPAM": {"Config": [{"Subnet": f"10.213.{(engine.pid + number) % 256}.0/29"}]}}
        made = engine.request("POST", "/networks/create", body)
        if made.status == 201:
            return body
    raise AssertionError(made)


def _memory(engine: Engine) -> int:
    with open(f"/proc/{engine.pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])
