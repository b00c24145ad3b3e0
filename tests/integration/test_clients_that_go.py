"""A client may go at any moment of any stream: nothing of it is left in the engine, and no traceback in its log."""

import asyncio
import contextlib
import json
import os
import random
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.support import small_registry
from tests.support.engine import CACHE, Engine, wait_until_gone
from tests.support.tars import make, member

V = "/v1.51"
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
_WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "A" * 22 + "==",
}
_HTTP2 = {"Connection": "Upgrade", "Upgrade": "h2c"}


class Stage(NamedTuple):
    """An engine with a container that talks without end, one that is to be read from, and a registry."""

    engine: Engine
    registry: str


class Stream(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def head(self) -> bytes:
        headers = {"Host": "engine", **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {V}{self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()


def tar() -> bytes:
    lines = b"FROM busybox\nCOPY a /a\nRUN sleep 5\n"
    return make(member("Dockerfile", data=lines), member("a", data=os.urandom(1 << 20)))


def archive() -> bytes:
    return make(member("made/a", data=os.urandom(1 << 20)), member("made/b", tarfile.DIRTYPE))


def exec_of(stage: Stage, tty: bool) -> str:
    talk = "while echo exec; do sleep 0.01; done"
    body = {"Cmd": ["sh", "-c", talk], "AttachStdin": True, "AttachStdout": True, "Tty": tty}
    return str(stage.engine.request("POST", f"{V}/containers/talker/exec", body).body["Id"])


STREAMS: dict[str, Callable[[Stage], Stream]] = {
    "stats": lambda stage: Stream("GET", "/containers/talker/stats", {}),
    "logs": lambda stage: Stream("GET", "/containers/talker/logs?stdout=1&follow=1", {}),
    "events": lambda stage: Stream("GET", "/events", {}),
    "past events": lambda stage: Stream("GET", "/events?since=0&until=1", {}),
    "attach": lambda stage: Stream("POST", "/containers/talker/attach?stream=1&stdin=1&stdout=1", _UPGRADE),
    "attach with logs": lambda stage: Stream("POST", "/containers/talker/attach?stream=1&stdout=1&logs=1", _UPGRADE),
    "attach without an upgrade": lambda stage: Stream("POST", "/containers/talker/attach?stream=1&stdout=1", {}),
    "websocket": lambda stage: Stream("GET", "/containers/talker/attach/ws?stream=1&stdout=1&stdin=1", _WEBSOCKET),
    "exec": lambda stage: Stream("POST", f"/exec/{exec_of(stage, False)}/start", _UPGRADE | _JSON, b'{"Tty":false}'),
    "exec with a terminal": lambda stage: Stream(
        "POST", f"/exec/{exec_of(stage, True)}/start", _UPGRADE | _JSON, b'{"Tty":true}'
    ),
    "wait": lambda stage: Stream("POST", "/containers/talker/wait", {}),
    "wait for a removal": lambda stage: Stream("POST", "/containers/talker/wait?condition=removed", {}),
    "stop": lambda stage: Stream("POST", "/containers/deaf/stop?t=1", {}),
    "start": lambda stage: Stream("POST", "/containers/deaf/start", {}),
    "commit": lambda stage: Stream("POST", "/commit?container=talker&repo=made", _JSON, b"{}"),
    "pull": lambda stage: Stream("POST", f"/images/create?fromImage={stage.registry}/app&tag=1", {}),
    "push": lambda stage: Stream("POST", f"/images/{stage.registry}/busybox/push?tag=1", {"X-Registry-Auth": "e30="}),
    "build": lambda stage: Stream("POST", "/build?t=made&nocache=1", _TAR, tar()),
    "build in JSON lines": lambda stage: Stream("POST", "/build?t=made&nocache=1&version=2", _TAR, tar()),
    "session": lambda stage: Stream("POST", "/session", _HTTP2 | {"X-Docker-Expose-Session-Uuid": "a"}),
    "grpc": lambda stage: Stream("POST", "/grpc", _HTTP2),
    "load": lambda stage: Stream("POST", "/images/load", _TAR, (CACHE / "busybox.image.tar").read_bytes()),
    "import": lambda stage: Stream("POST", "/images/create?fromSrc=-&repo=made", _TAR, archive()),
    "save": lambda stage: Stream("GET", "/images/get?names=busybox", {}),
    "export": lambda stage: Stream("GET", "/containers/talker/export", {}),
    "cp out": lambda stage: Stream("GET", "/containers/talker/archive?path=/", {}),
    "cp in": lambda stage: Stream("PUT", "/containers/talker/archive?path=/tmp", _TAR, archive()),
    "top": lambda stage: Stream("GET", "/containers/talker/top", {}),
    "system df": lambda stage: Stream("GET", "/system/df", {}),
    "create": lambda stage: Stream("POST", "/containers/create", _JSON, json.dumps({"Image": "busybox"}).encode()),
    "a volume out": lambda stage: Stream("GET", "/volumes/shelf/export", {}),
    "a volume in": lambda stage: Stream("POST", "/volumes/shelf/import", _TAR, archive()),
}
_JSON = {"Content-Type": "application/json"}
_TAR = {"Content-Type": "application/x-tar"}


def in_the_head(sock: socket.socket, stream: Stream) -> None:
    sock.sendall(stream.head[: len(stream.head) // 2])


def after_the_head(sock: socket.socket, stream: Stream) -> None:
    sock.sendall(stream.head)


def in_the_body(sock: socket.socket, stream: Stream) -> None:
    sock.sendall(stream.head + stream.body[: len(stream.body) // 2])


def before_the_answer(sock: socket.socket, stream: Stream) -> None:
    _send(sock, stream)


def with_the_answer(sock: socket.socket, stream: Stream) -> None:
    _send(sock, stream)
    with contextlib.suppress(TimeoutError):
        sock.recv(1)  # and what else has come is not read: for the engine that is a connection reset


def in_the_answer(sock: socket.socket, stream: Stream) -> None:
    _send(sock, stream)
    with contextlib.suppress(TimeoutError):
        for _ in range(4):
            sock.recv(1 << 16)


def with_its_half_first(sock: socket.socket, stream: Stream) -> None:
    _send(sock, stream)
    sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        sock.recv(1 << 16)


def with_nonsense(sock: socket.socket, stream: Stream) -> None:
    _send(sock, stream)
    sock.sendall(b"\0\xff" * 5000)
    with contextlib.suppress(TimeoutError):
        sock.recv(1 << 16)


MOMENTS = (
    in_the_head, after_the_head, in_the_body, before_the_answer, with_the_answer, in_the_answer, with_its_half_first,
    with_nonsense,
)  # fmt: skip


def _send(sock: socket.socket, stream: Stream) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not be read to its end
        sock.sendall(stream.head + stream.body)


@contextlib.contextmanager
def registry() -> Iterator[str]:
    """A registry in a thread of its own, with an image app:1 of 8 MB."""
    loop = asyncio.new_event_loop()
    started, end = threading.Event(), asyncio.Event()
    host: list[str] = []

    async def serve() -> None:
        async with small_registry.serving() as serving:
            serving.put_image("app", "1", make(member("a", data=os.urandom(8 << 20))))
            host.append(serving.host)
            started.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(30)
    try:
        yield host[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def stage(_images: None) -> Iterator[Stage]:
    engine = Engine()
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        with registry() as host:
            made = Stage(engine, host)
            _prepare(made)
            yield made
            engine.remove_containers()
        engine.stop()
        _assert_no_fault(engine)
    finally:
        engine.discard()


def _prepare(stage: Stage) -> None:
    def ask(method: str, path: str, body: object = None) -> None:
        answer = stage.engine.request(method, f"{V}{path}", body)
        assert answer.status < 300, answer

    ask("POST", "/volumes/create", {"Name": "shelf"})
    talk = "head -c 8000000 /dev/urandom > /noise; while echo line; do sleep 0.01; done"
    ask("POST", "/containers/create?name=talker", {"Image": "busybox", "Cmd": ["sh", "-c", talk], "OpenStdin": True})
    ask("POST", "/containers/create?name=deaf", {"Image": "busybox", "Cmd": ["sh", "-c", "trap '' TERM; sleep 1000"]})
    ask("POST", "/containers/talker/start")
    ask("POST", f"/images/busybox/tag?repo={stage.registry}/busybox&tag=1")


def _assert_no_fault(engine: Engine, since: int = 0) -> None:
    log = engine.log.read_text()[since:]
    for sign in ("Traceback", "never retrieved", "Unhandled", "was destroyed"):
        assert sign not in log, log[max(0, log.find(sign) - 2000) : log.find(sign) + 4000]


@pytest.mark.parametrize("name", STREAMS)
def test_a_client_that_goes(stage: Stage, name: str) -> None:
    files = f"/proc/{stage.engine.pid}/fd"
    before, said = len(os.listdir(files)), stage.engine.log.stat().st_size
    for go in MOMENTS:
        sock = socket.socket(socket.AF_UNIX)
        with sock:
            sock.settimeout(0.3)
            sock.connect(str(stage.engine.socket))
            go(sock, STREAMS[name](stage))
        assert stage.engine.request("GET", "/_ping").status == 200, go.__name__
    _assert_no_fault(stage.engine, said)
    left = wait_until_gone(lambda: max(0, len(os.listdir(files)) - before - 8), 20)
    assert not left, f"{left} descriptors: {[os.readlink(f'{files}/{fd}') for fd in os.listdir(files)]}"


def test_clients_that_go_at_any_byte(stage: Stage) -> None:
    """Of what they send, and of what they are sent; the dice are the same each time."""
    dice = random.Random(14)
    said = stage.engine.log.stat().st_size
    names = [name for name in STREAMS if name != "commit"]  # which pauses the container that an exec needs
    for _ in range(80):
        stream = STREAMS[dice.choice(names)](stage)
        sent = stream.head + stream.body
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(0.1)
            sock.connect(str(stage.engine.socket))
            with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                if dice.random() < 0.5:
                    sock.sendall(sent[: dice.randrange(len(stream.head) + 1)])
                else:
                    sock.sendall(sent[: dice.randrange(len(stream.head), len(sent) + 1)])
                    sock.recv(dice.choice((1, 100, 10_000)))
    assert stage.engine.request("GET", "/_ping").status == 200
    _assert_no_fault(stage.engine, said)


def test_stats_end_with_their_container(stage: Stage) -> None:
    made = stage.engine.request("POST", f"{V}/containers/create?name=short", {"Image": "busybox"})
    assert made.status == 201
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(stage.engine.socket))
        sock.sendall(Stream("GET", "/containers/short/stats", {}).head)
        received = sock.recv(1 << 16)
        said = stage.engine.log.stat().st_size
        assert stage.engine.request("DELETE", f"{V}/containers/short").status == 204
        while not received.endswith(b"\r\n0\r\n\r\n"):
            more = sock.recv(1 << 16)
            assert more, f"the stream was cut off: {received[-200:]!r}"
            received += more
    _assert_no_fault(stage.engine, said)
