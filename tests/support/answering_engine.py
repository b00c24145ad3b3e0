"""An engine that answers from a table: what it was asked is kept for the test to look at."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    method: str
    path: str  # without the version
    query: dict[str, list[str]]
    body: bytes


@dataclass
class AnsweringEngine:
    """`answers`: by "GET /path", or the path alone, a body, or a status and a body. 404 for what is not there."""

    directory: Path
    answers: dict[str, str | tuple[int, str]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    content_type: str = "application/json"

    def __enter__(self) -> "AnsweringEngine":
        self.address = f"unix://{self.directory / 'engine.sock'}"
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def answer(self, request: Request) -> tuple[int, str]:
        self.requests.append(request)
        with_size = f"{request.path}?size"
        for key in (f"{request.method} {request.path}", with_size if "size" in request.query else "", request.path):
            if key in self.answers:
                found = self.answers[key]
                return found if isinstance(found, tuple) else (200, found)
        return 404, json.dumps({"message": _not_found(request.path)})


def _not_found(path: str) -> str:
    """What Docker says, in its several ways."""
    _, kind, name, *_ = [*path.split("/"), "", ""]
    if kind == "images":
        return f"no such image: {name}: No such image: {name}:latest"
    return {"containers": f"No such container: {name}", "volumes": f"get {name}: no such volume"}.get(kind, "not found")


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def __init__(self, engine: AnsweringEngine) -> None:
        self.engine = engine
        super().__init__(engine.address.removeprefix("unix://"), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        version, _, path = url.path.removeprefix("/").partition("/")
        query = parse_qs(url.query, keep_blank_values=True)
        request = Request(self.command, f"/{unquote(path)}", query, self._body())
        status, body = (200, "OK") if version == "_ping" else self.server.engine.answer(request)
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", self.server.engine.content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Api-Version", "1.51")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass
