"""Clients of a soak: each does one thing after another, and judges what it is told."""

import contextlib
import http.client
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.support import tars
from tests.support.engine import Engine, Response

COUNT = 'i=0; while true; do echo "line $i"; i=$((i+1)); usleep 20000; done'
_COMMANDS = (COUNT, COUNT, "sleep 1000", "sleep 0.2; exit 3")
NETWORK = "soak"
SHARED = [f"shared{number}" for number in range(6)]

# What may be answered with a status of 500 and more: what Docker answers so, too, and what a client is told in words
# whose request died with a process that it needed.
_TOLD = re.compile(
    r"is not paused|is not connected to network"
    r"|was killed before it was done: try again"
    r"|the monitor of the container ended unexpectedly"
    r"|container's monitor"
    r"|ended twice before it started"
    r"|no available IPv4 addresses"
    r"|failed to set up container networking: .*(ended|gone)"
)

Answer = Response | None
"""None: nobody answered, since the engine was killed."""


class Findings:
    """What all clients of a soak have found."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0
        self.wrong: list[str] = []
        self.containers: set[str] = set()
        self._lock = threading.Lock()

    def note(self, what: str, status: int | None) -> None:
        with self._lock:
            self.operations[what] += 1
            if status is None:
                self.unanswered += 1
            else:
                self.statuses[status] += 1

    def complain(self, text: str) -> None:
        with self._lock:
            self.wrong.append(text)


class Client:
    """``kills`` counts what was killed, so that a client can tell whether something was meanwhile."""

    def __init__(self, engine: Engine, number: int, seed: int, findings: Findings, kills: Counter[str]) -> None:
        self.name = f"client{number}"
        self._engine = engine
        self._random = random.Random(f"{seed}/{number}")
        self._own = [f"own{number}-{each}" for each in range(2)]
        self._findings = findings
        self._kills = kills
        self.ended = threading.Event()
        self._operations = self._weighted()

    def run(self) -> None:
        while not self.ended.is_set():
            names, weights = zip(*((each, weight) for each, weight in self._operations.items()), strict=True)
            operation: Callable[[], None] = self._random.choices(names, weights)[0]
            try:
                operation()
            except Exception as error:  # a mistake of the soak's own, which must not pass for a quiet run
                self._findings.complain(f"{operation.__name__}: {type(error).__name__}: {error}")

    def _weighted(self) -> dict[Callable[[], None], int]:
        return {
            self._make: 12, self._start: 12, self._remove: 6, self._stop: 5, self._simple: 25, self._look: 12,
            self._execute: 10, self._copy_in: 6, self._copy_out: 5, self._follow: 4, self._network: 5, self._commit: 1,
            self._volume: 2, self._own_life: 8, self._wait: 2,
        }  # fmt: skip

    # --- asking

    def _ask(self, what: str, method: str, path: str, body: Any = None) -> Answer:
        began = time.monotonic()
        try:
            answer = self._engine.request(method, path, body)
        except TimeoutError:
            self._findings.complain(f"{method} {path}: no answer within {time.monotonic() - began:.0f} s")
            return None
        except (OSError, http.client.HTTPException):
            self._findings.note(what, None)
            time.sleep(0.02)  # until somebody listens again
            return None
        self._findings.note(what, answer.status)
        if text := self._judge(answer):
            self._findings.complain(f"{method} {path}: {answer.status} {text}")
        return answer

    def _judge(self, answer: Response) -> str:
        """What is wrong with an answer."""
        message = str(answer.body.get("message", "")) if isinstance(answer.body, dict) else ""
        if "internal error" in message or "Traceback" in message:
            return message
        if answer.status >= 400 and not message and answer.body:
            return f"no message: {answer.body!r}"
        return message if answer.status >= 500 and not _TOLD.search(message) else ""

    def _any(self) -> str:
        return self._random.choice([*SHARED, *self._own])

    # --- operations

    def _make(self) -> None:
        self._create(self._any())

    def _create(self, name: str) -> Answer:
        choose = self._random.random
        host: dict[str, Any] = {"NetworkMode": self._random.choice(["none", "bridge", "bridge", NETWORK])}
        if choose() < 0.2:
            host["Binds"] = [f"volume{self._random.randrange(3)}:/v"]
        if choose() < 0.15:
            host["RestartPolicy"] = {"Name": "always"}
        elif choose() < 0.1:
            host["AutoRemove"] = True
        if choose() < 0.15 and host["NetworkMode"] != "none":
            host["PortBindings"] = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        if choose() < 0.2:
            host["Init"] = True
        config: dict[str, Any] = {
            "Image": "busybox",
            "Cmd": ["sh", "-c", self._random.choice(_COMMANDS)],
            "HostConfig": host,
            "StopTimeout": 1,
        }
        if choose() < 0.1:
            config["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": 500_000_000}
        answer = self._ask("create", "POST", f"/containers/create?name={name}", config)
        if answer is not None and answer.status == 201:
            self._findings.containers.add(answer.body["Id"])
        return answer

    def _start(self) -> None:
        self._ask("start", "POST", f"/containers/{self._any()}/start")

    def _stop(self) -> None:
        self._ask("stop", "POST", f"/containers/{self._any()}/{self._random.choice(['stop', 'restart'])}?t=0")

    def _remove(self) -> None:
        force = self._random.choice("01")
        self._ask("remove", "DELETE", f"/containers/{self._any()}?force={force}&v=1")

    def _simple(self) -> None:
        """What is one request, and may meet the container's end."""
        name = self._any()
        verb, query, body = self._random.choice(_SIMPLE)
        self._ask(verb, "POST", f"/containers/{name}/{verb}{query}", body)

    def _look(self) -> None:
        name = self._any()
        path = self._random.choice(
            [f"/containers/{name}/{each}" for each in ("json", "top", "changes", "stats?stream=0&one-shot=1")]
            + ["/containers/json?all=1&size=1", "/networks", "/volumes", "/info", "/system/df", "/images/json"]
        )
        self._ask("look", "GET", path)

    def _execute(self) -> None:
        name, word, before = self._any(), str(self._random.random()), self._kills.total()
        made = self._ask(
            "exec",
            "POST",
            f"/containers/{name}/exec",
            {"Cmd": ["echo", word], "AttachStdout": True, "AttachStderr": True},
        )
        if made is None or made.status != 201:
            return
        started = self._ask("exec", "POST", f"/exec/{made.body['Id']}/start", {"Detach": False, "Tty": False})
        if started is None or started.status != 200:
            return
        found = self._ask("exec", "GET", f"/exec/{made.body['Id']}/json")
        if found is not None and found.status == 200 and found.body["ExitCode"] == 0 and before == self._kills.total():
            output = started.body if isinstance(started.body, bytes) else str(started.body).encode()
            if word.encode() not in output:
                self._findings.complain(f"exec in {name} printed {output!r} in place of {word}")

    def _copy_in(self) -> None:
        size = self._random.choice([10, 10_000, 3 << 20])
        data = tars.make(tars.member("file", data=bytes(size)))
        self._ask("copy in", "PUT", f"/containers/{self._any()}/archive?path=/tmp", data)

    def _copy_out(self) -> None:
        name, path = self._any(), quote(self._random.choice(["/etc", "/bin/busybox", "/tmp", "/nosuch"]))
        method = self._random.choice(["GET", "GET", "HEAD"])
        self._ask("copy out", method, f"/containers/{name}/archive?path={path}")

    def _follow(self) -> None:
        self._ask("logs", "GET", f"/containers/{self._any()}/logs?stdout=1&stderr=1&tail=50")

    def _network(self) -> None:
        verb = self._random.choice(["connect", "disconnect"])
        self._ask(verb, "POST", f"/networks/{NETWORK}/{verb}", {"Container": self._any()})

    def _commit(self) -> None:
        tag = self._random.choice(["soaked:a", "soaked:b"])
        repository, _, version = tag.partition(":")
        self._ask("commit", "POST", f"/commit?container={self._any()}&repo={repository}&tag={version}&pause=0", {})
        if self._random.random() < 0.5:
            self._ask("image remove", "DELETE", f"/images/{tag}")

    def _volume(self) -> None:
        name = f"volume{self._random.randrange(3)}"
        if self._random.random() < 0.5:
            self._ask("volume", "POST", "/volumes/create", {"Name": name})
        else:
            self._ask("volume", "DELETE", f"/volumes/{name}")

    def _wait(self) -> None:
        """For what ends by itself, so that it does not take long."""
        name = self._own[0]
        self._ask("remove", "DELETE", f"/containers/{name}?force=1&v=1")
        body = {"Image": "busybox", "Cmd": ["sh", "-c", "exit 5"], "HostConfig": {"NetworkMode": "none"}}
        made = self._ask("create", "POST", f"/containers/create?name={name}", body)
        if made is None or made.status != 201:
            return
        self._findings.containers.add(made.body["Id"])
        before = self._kills.total()
        started = self._ask("start", "POST", f"/containers/{name}/start")
        if started is None or started.status != 204:
            return
        waited = self._ask("wait", "POST", f"/containers/{name}/wait")
        if waited is not None and before == self._kills.total() and waited.body.get("StatusCode") != 5:
            self._findings.complain(f"{name} ended with {waited.body} in place of 5")

    def _own_life(self) -> None:
        """What nobody else touches is as its client was told."""
        name = self._own[1]
        removed = self._ask("remove", "DELETE", f"/containers/{name}?force=1&v=1")
        if removed is not None and removed.status == 204:
            self._expect(name, None)
        made = self._create(name)
        if made is None or made.status != 201:
            return
        created = self._ask("inspect", "GET", f"/containers/{name}/json")
        if created is None:
            return
        if created.status != 200:
            self._findings.complain(f"{name} was made, and then: {created.status}")
            return
        started = self._ask("start", "POST", f"/containers/{name}/start")
        if started is None or started.status != 204 or created.body["HostConfig"]["AutoRemove"]:
            return
        stopped = self._ask("stop", "POST", f"/containers/{name}/stop?t=0")
        if stopped is not None and stopped.status == 204:
            self._expect(name, "exited")

    def _expect(self, name: str, status: str | None) -> None:
        found = self._ask("inspect", "GET", f"/containers/{name}/json")
        if found is None:
            return
        state = found.body["State"]["Status"] if found.status == 200 else None
        if state != status:
            self._findings.complain(f"{name} is {state}, and was told to be {status}")


_SIMPLE = (
    ("kill", "", None), ("kill", "?signal=USR1", None), ("pause", "", None), ("unpause", "", None),
    ("resize", "?h=40&w=100", None), ("update", "", {"CpuShares": 512}), ("rename", "?name=shared0", None),
    ("restart", "?t=0", None), ("attach", "?logs=1&stdout=1", None), ("unpause", "", None),
)  # fmt: skip


def answers(engine: Engine) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return engine.request("GET", "/_ping").status == 200
    return False
