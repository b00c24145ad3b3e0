"""An engine that speaks the wire's own language, for tests of streams: it answers as told, taken-over connections too.

with ScriptedEngine() as engine:
    engine.on("GET", "/containers/json", json_answer([]))
    ...
    assert engine.requests[0].path == "/v1.51/containers/json"
"""

import contextlib
import json
import re
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

TIMEOUT_SECONDS = 20


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def endpoint(self) -> str:
        """The path without the API's version."""
        return re.sub(r"^/v[\d.]+", "", self.path)


# Writes an answer to the connection. True: HTTP goes on there; False: the connection is used up, and is closed.
Answer = Callable[[Request, socket.socket], bool]


def answer(body: bytes = b"", *, status: int = 200, **headers: str) -> Answer:
    """A body of known length."""

    def write(request: Request, connection: socket.socket) -> bool:
        lines = {"Api-Version": "1.51", "Ostype": "linux", "Content-Length": str(len(body))}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.sendall(head(status, lines) + (b"" if request.method == "HEAD" else body))
        return True

    return write


def json_answer(value: Any, *, status: int = 200) -> Answer:
    return answer(json.dumps(value).encode(), status=status, Content_Type="application/json")


def error(status: int, message: str) -> Answer:
    return json_answer({"message": message}, status=status)


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode()


def upgraded(connection: socket.socket) -> None:
    """The head of an answer that takes the connection over."""
    connection.sendall(head(101, {"Connection": "Upgrade", "Upgrade": "tcp"}))


def frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class ScriptedEngine:
    """Listens on a unix socket in a directory of its own (`host`), or wherever `listener` does."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="scripted-")
        self.path = str(Path(self._directory.name) / "engine.sock")
        self.host = f"unix://{self.path}"
        self.requests: list[Request] = []
        self.connections = 0
        self._failures: list[BaseException] = []
        self._rules: list[tuple[str, re.Pattern[str], Answer]] = []
        self._arrived = threading.Condition()
        if listener is None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path)
            listener.listen(100)
        self._listener = listener
        self.on("HEAD|GET", "/_ping", answer())
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, method: str, endpoint: str, how: Answer) -> None:
        """Answers requests whose method and endpoint match; the latest rule that does counts."""
        self._rules.insert(0, (method, re.compile(endpoint), how))

    def wait_for(self, method: str, endpoint: str) -> Request:
        """The first request that matches, once it has come."""

        def find() -> Request | None:
            return next((r for r in self.requests if r.method == method and re.fullmatch(endpoint, r.endpoint)), None)

        with self._arrived:
            assert self._arrived.wait_for(lambda: find() is not None, TIMEOUT_SECONDS), f"no {method} {endpoint}"
        found = find()
        assert found is not None
        return found

    def sent(self) -> list[str]:
        """The requests as "METHOD /endpoint", without pings."""
        return [f"{r.method} {r.endpoint}" for r in self.requests if r.endpoint != "/_ping"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and self._failures:
            raise self._failures[0]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._directory.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as failure:
                if self._listener.fileno() < 0 or failure.errno in (9, 22):
                    return  # closed
                continue  # a TLS handshake that failed
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while (request := _read(reader)) and self._answer(request, connection):
                    pass
        except OSError:
            pass  # the client has gone, which it may
        except BaseException as failure:
            self._failures.append(failure)

    def _answer(self, request: Request, connection: socket.socket) -> bool:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        for method, pattern, how in self._rules:
            if re.fullmatch(method, request.method) and pattern.fullmatch(request.endpoint):
                return how(request, connection)
        return error(404, f"no rule for {request.method} {request.endpoint}")(request, connection)


def _read(reader: BinaryIO) -> Request | None:
    line = reader.readline().decode()
    if not line:
        return None
    method, target, _ = line.split(" ")
    headers = {}
    while header := reader.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(iter(lambda: _read_chunk(reader), b""))
    else:
        body = reader.read(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query, keep_blank_values=True), headers, body)


def _read_chunk(reader: BinaryIO) -> bytes:
    data = reader.read(int(reader.readline(), 16))
    reader.readline()
    return data


class ScriptedContainer:
    """A container in a ScriptedEngine: once started, `program` has the attached stream, and then it has ended.

    `program(connection)` reads and writes the stream and returns the exit code.
    """

    def __init__(
        self, engine: ScriptedEngine, program: Callable[[socket.socket], int], *, tty: bool = False, stdin: bool = True
    ) -> None:
        self._program = program
        self._started, self._ended = threading.Event(), threading.Event()
        self._code = 0
        self.state: dict[str, Any] = {
            "Id": "c0ffee",
            "State": {"Running": True, "Paused": False, "Restarting": False},
            "Config": {"Tty": tty, "OpenStdin": stdin},
            "HostConfig": {"AutoRemove": False},
        }
        engine.on("POST", "/containers/create", json_answer({"Id": "c0ffee", "Warnings": []}, status=201))
        engine.on("GET", "/containers/[^/]+/json", json_answer(self.state))
        engine.on("POST", "/containers/[^/]+/attach", self._attach)
        engine.on("POST", "/containers/[^/]+/start", self._start)
        engine.on("POST", "/containers/[^/]+/wait", self._wait)
        engine.on("POST", "/containers/[^/]+/(resize|kill)", answer())
        engine.on("POST", "/containers/[^/]+/exec", json_answer({"Id": "e0"}, status=201))
        engine.on("POST", "/exec/e0/start", self._exec)
        engine.on("POST", "/exec/e0/resize", answer())
        engine.on("GET", "/exec/e0/json", lambda *them: json_answer({"ExitCode": self._code})(*them))

    def start(self) -> None:
        """As if it had been started before."""
        self._started.set()

    def end(self) -> None:
        """Answers who waits for the end, whatever the program does."""
        self._ended.set()

    def _attach(self, request: Request, connection: socket.socket) -> bool:
        upgraded(connection)
        self._started.wait(TIMEOUT_SECONDS)
        self._code = self._program(connection)
        self._ended.set()
        return False

    def _exec(self, request: Request, connection: socket.socket) -> bool:
        self._started.set()
        return self._attach(request, connection)

    def _start(self, request: Request, connection: socket.socket) -> bool:
        self._started.set()
        return answer(status=204)(request, connection)

    def _wait(self, request: Request, connection: socket.socket) -> bool:
        connection.sendall(head(200, {"Transfer-Encoding": "chunked"}))
        self._ended.wait(TIMEOUT_SECONDS)
        body = json.dumps({"StatusCode": self._code, "Error": None}).encode()
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        return True
