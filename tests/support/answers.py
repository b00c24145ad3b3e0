"""What Docker answered to requests that it refuses (tests/specs/refusals.jsonl), to be put to another engine."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[1] / "specs" / "refusals.jsonl"
_VERSION = "/v1.45"
_ID = re.compile("[0-9a-f]{64}")

Ask = Callable[..., Any]  # Engine.request


class Refused(NamedTuple):
    method: str
    path: str
    body: Any
    status: int
    message: str


def read() -> Iterator[Refused]:
    with FILE.open(encoding="utf-8") as file:
        for line in file:
            yield Refused(*json.loads(line))


def prepare(ask: Ask) -> None:
    """Makes the containers, the network and the volume that the requests name; busybox:latest must be there."""
    clear(ask)
    for name, command in (("running", "sleep 1000"), ("ended", "echo one; exit 3"), ("new", "true")):
        body = {"Image": "busybox", "Cmd": ["sh", "-c", command]}
        _done(ask("POST", f"{_VERSION}/containers/create?name=answers-{name}", body))
        if name != "new":
            _done(ask("POST", f"{_VERSION}/containers/answers-{name}/start"))
    _done(ask("POST", f"{_VERSION}/containers/answers-ended/wait"))
    _done(ask("POST", f"{_VERSION}/networks/create", {"Name": "answers-net"}))
    _done(ask("POST", f"{_VERSION}/volumes/create", {"Name": "answers-vol"}))


def clear(ask: Ask) -> None:
    for name in ("running", "ended", "new", "made"):
        ask("DELETE", f"{_VERSION}/containers/answers-{name}?force=1&v=1")
    for path in ("networks/answers-net", "networks/answers-made", "volumes/answers-vol", "volumes/answers-made"):
        ask("DELETE", f"{_VERSION}/{path}")


def answer(ask: Ask, refused: Refused) -> tuple[int, str]:
    """The status and the message; what was made instead is removed."""
    body = refused.body
    if refused.path.startswith("/containers/create") and isinstance(body, dict):
        body = {"Image": "busybox", "Cmd": ["true"], **body}
    versioned = refused.path if refused.path.startswith("/v1") else f"{_VERSION}{refused.path}"
    found = ask(refused.method, versioned.replace('"', "%22"), body)
    if found.status < 400:
        for kind in ("containers", "networks", "volumes"):
            ask("DELETE", f"{_VERSION}/{kind}/answers-made?force=1")
    content = found.body
    message = content["message"] if isinstance(content, dict) and list(content) == ["message"] else str(content)
    return found.status, _ID.sub("<id>", message.strip())


def _done(found: Any) -> None:
    assert found.status < 400, found
