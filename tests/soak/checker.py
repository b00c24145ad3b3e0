"""What is left after a soak: whether every state is true, and whether anything stays that should not."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.soak.clients import NETWORK, Findings
from tests.soak.killer import find
from tests.support.engine import CGROUP_ROOT, Engine, wait_until_gone
from tests.support.footprint import footprint

_ADDRESSES = 5  # of the network of a soak, a /29, beside its gateway
_STORED = ("layers", "blobs/sha256", "volumes", "tmp")  # folders of the data root
_GROWING = ("events", "sqlite_sequence")
_TRACE = re.compile(r"Traceback|should not have happened|internal error|never retrieved|Task was destroyed")


class Kept(NamedTuple):
    """What an engine has before a soak, and after it again."""

    processes: tuple[str, ...]
    mounts: frozenset[str]
    interfaces: frozenset[str]
    files: frozenset[str]
    rows: tuple[tuple[str, int], ...]


def kept(engine: Engine) -> Kept:
    found = footprint(engine)
    return Kept(
        tuple(sorted(set(_without_ids(found.processes)))),
        found.mounts,
        found.interfaces,
        found.files | {f"{each}/{name}" for each in _STORED for name in os.listdir(engine.data_root / each)},
        tuple(_rows(engine.data_root / "state.db")),
    )


def _without_ids(commands: tuple[str, ...]) -> Iterator[str]:
    """The warm process of workers is started when it is needed, and told another number each time."""
    for command in commands:
        if "wherry.storage.worker" not in command and "--ready-fd" not in command:
            yield re.sub(r"\d+", "N", command)


def _rows(database: Path) -> Iterator[tuple[str, int]]:
    state = sqlite3.connect(database)
    try:
        for (table,) in list(state.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")):
            if table not in _GROWING:
                yield table, state.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        state.close()


def check(engine: Engine, before: Kept, findings: Findings) -> None:
    """With the clients gone. Removes everything that they have made."""
    _check_states(engine, findings)
    for container in engine.request("GET", "/containers/json?all=1").body:
        _check_log(engine, container["Id"], findings)
    _remove_all(engine, findings)
    _check_addresses(engine, findings)
    engine.request("DELETE", f"/networks/{NETWORK}")
    _check_left(engine, before, findings)
    for line in engine.log.read_text(errors="replace").splitlines():
        if _TRACE.search(line):
            findings.complain(f"the engine's log: {line}")


def _check_states(engine: Engine, findings: Findings) -> None:
    def contradictions() -> list[str]:
        return [text for container in _containers(engine) if (text := _contradiction(engine, container))]

    for text in wait_until_gone(contradictions, 30):
        findings.complain(text)


def _containers(engine: Engine) -> Iterator[dict[str, Any]]:
    for listed in engine.request("GET", "/containers/json?all=1").body:
        found = engine.request("GET", f"/containers/{listed['Id']}/json")
        if found.status == 200:
            yield found.body


def _contradiction(engine: Engine, container: dict[str, Any]) -> str:
    state, name = container["State"], container["Name"]
    if state["Restarting"]:
        return ""
    monitors = {_argument(pid) for pid in find(engine).get("monitor", ())}
    if state["Running"] != (container["Id"] in monitors):
        return f"{name} is {state['Status']}, and its monitor {'runs' if container['Id'] in monitors else 'does not'}"
    if state["Running"]:
        if not Path(f"/proc/{state['Pid']}").exists():
            return f"{name} runs, and its process {state['Pid']} does not"
        if not state["Paused"]:
            made = engine.request("POST", f"/containers/{name[1:]}/exec", {"Cmd": ["true"]})
            if (
                made.status != 201
                or engine.request("POST", f"/exec/{made.body['Id']}/start", {"Detach": True}).status != 200
            ):
                return f"{name} runs, and nothing can be executed in it: {made.body}"
    elif state["Pid"]:
        return f"{name} is {state['Status']}, with a process {state['Pid']}"
    return ""


def _argument(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").rpartition(b" ")[2].decode()
    except OSError:
        return ""


def _check_log(engine: Engine, container_id: str, findings: Findings) -> None:
    """A run prints "line 0" and so on; after its last line comes the first one of the next run."""
    answer = engine.request("GET", f"/containers/{container_id}/logs?stdout=1")
    if answer.status != 200:
        return findings.complain(f"the log of {container_id:.12}: {answer.status} {answer.body}")
    following = 0
    for line in _lines(answer.body if isinstance(answer.body, bytes) else b""):
        if not line.startswith("line "):
            continue
        number = int(line[5:])
        if number not in (0, following):
            findings.complain(f"the log of {container_id:.12} has a gap: line {number} in place of {following}")
        following = number + 1
    return None


def _lines(framed: bytes) -> list[str]:
    text, at = b"", 0
    while at + 8 <= len(framed):
        size = int.from_bytes(framed[at + 4 : at + 8])
        text += framed[at + 8 : at + 8 + size]
        at += 8 + size
    return text.decode().splitlines()


def _remove_all(engine: Engine, findings: Findings) -> None:
    deadline = time.monotonic() + 60
    while containers := engine.request("GET", "/containers/json?all=1").body:
        for container in containers:
            answer = engine.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            if answer.status not in (204, 404, 409):
                findings.complain(f"removing {container['Names']}: {answer.status} {answer.body}")
        if time.monotonic() > deadline:
            return findings.complain(f"these cannot be removed: {[each['Names'] for each in containers]}")
    for volume in engine.request("GET", "/volumes").body["Volumes"] or ():
        engine.request("DELETE", f"/volumes/{volume['Name']}")
    for tag in ("soaked:a", "soaked:b"):
        engine.request("DELETE", f"/images/{tag}")
    engine.request("POST", "/images/prune")  # those that another one of the same name has come after
    return None


def _check_addresses(engine: Engine, findings: Findings) -> None:
    """All of a small network can be had again."""
    for number in range(_ADDRESSES):
        body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": NETWORK}}
        made = engine.request("POST", f"/containers/create?name=address{number}", body)
        findings.containers.add(made.body["Id"])
        answer = engine.request("POST", f"/containers/address{number}/start")
        if answer.status != 204:
            findings.complain(f"the address of number {number} of {_ADDRESSES}: {answer.body}")
    _remove_all(engine, findings)


def _check_left(engine: Engine, before: Kept, findings: Findings) -> None:
    def differences() -> list[str]:
        after = kept(engine)
        return [
            f"{field}: {sorted(map(str, set(new) ^ set(old)))}"
            for field, old, new in zip(Kept._fields, before, after, strict=True)
            if set(old) != set(new)
        ] + [f"a cgroup: {each}" for each in _cgroups(findings.containers)]

    for text in wait_until_gone(differences, 30):
        findings.complain(f"left: {text}")


def _cgroups(containers: set[str]) -> list[str]:
    return [
        path
        for path, _, _ in os.walk(CGROUP_ROOT)
        if any(name in containers for name in re.findall(r"[0-9a-f]{64}", path))
    ]
