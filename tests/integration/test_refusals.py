"""What Docker refuses is refused, with its status and its words; nothing of it is a fault of the engine's.

tests/specs/refusals.jsonl has what Docker 26.1.5 answered: method, path, body, status, message. Where Docker takes a
number, a time or a filter that cannot be read for its own fault (500), the file says 400.
"""

from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.engine import Engine


@pytest.fixture
def prepared(engine: Engine, busybox: str) -> Iterator[Engine]:
    answers.prepare(engine.request)
    yield engine
    answers.clear(engine.request)


def test_what_docker_refuses_is_refused_with_its_words(prepared: Engine) -> None:
    before = prepared.log.stat().st_size
    different = []
    for refused in answers.read():
        found, expected = answers.answer(prepared.request, refused), (refused.status, refused.message)
        if found != expected:
            different.append(f"{refused.method} {refused.path} {refused.body}\n  {expected}\n  {found}")
    assert not different, "\n".join([f"{len(different)} answers", *different])
    assert "Traceback" not in prepared.log.read_text()[before:]


NULL = "%00"
LONG = "1" * 30
LONE = r"\ud800"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/containers/answers-running/archive?path=/a{NULL}b", None),
        ("GET", f"/volumes/a{NULL}b", None),
        ("GET", f"/images/a{NULL}b/json", None),
        ("POST", f"/containers/create?name=a{NULL}b", {"Image": "busybox"}),
        ("GET", f"/containers/json?limit={LONG}", None),
        ("GET", f"/events?since={LONG}&until=1", None),
        ("POST", f"/containers/answers-running/resize?h={LONG}&w=1", None),
        ("GET", f"/containers/answers-running/archive?path={'/a' * 3000}", None),
        ("GET", f"/containers/answers-running/archive?path=/{'a' * 300}", None),
        ("POST", "/containers/create", b'{"Image":"busybox","User":"a\\u0000b"}'),
        ("POST", "/containers/create", b'{"Image":"busybox","Cmd":["a\\u0000b"]}'),
        ("POST", "/containers/create", b'{"Image":"busybox","HostConfig":{"Memory":%s}}' % LONG.encode()),
        ("POST", "/containers/create", b'{"Image":"busybox","Labels":{"a":"%s"}}' % LONE.encode()),
        ("POST", "/volumes/create", b'{"Name":"a\\u0000b"}'),
        ("POST", "/volumes/create", {"Name": "a" * 300}),
        ("POST", "/networks/create", {"Name": "answers-made", "Options": {"com.docker.network.bridge.name": "a%d"}}),
        ("POST", "/networks/create", {"Name": "answers-made", "Options": {"com.docker.network.bridge.name": "é" * 8}}),
        ("POST", "/auth", {"serveraddress": "http://[::1"}),
        ("POST", "/auth", {"serveraddress": "https://h:port"}),
        ("POST", "/images/create?fromImage=[:::::]/a", None),
        ("GET", "/images/search?term=[:::::]/a", None),
        ("GET", "/distribution/[:::::]/a/json", None),
    ],
)
def test_no_name_no_number_and_no_path_is_an_error_of_the_engine_s(
    prepared: Engine, method: str, path: str, body: object
) -> None:
    before = prepared.log.stat().st_size
    headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else None
    answer = prepared.request(method, f"/v1.45{path}", body, headers)
    assert answer.status in (400, 404), answer
    assert list(answer.body) == ["message"]
    assert "Traceback" not in prepared.log.read_text()[before:]
