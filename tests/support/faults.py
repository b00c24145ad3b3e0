"""What can be between an engine and its registry: a proxy that does harm, and a server that serves what it is told."""

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.bodies import take_body

_PIECE = 64 << 10


@dataclass(frozen=True)
class Fault:
    """What happens to one answer: another status, an end after so many bytes of the body, one wrong byte, slowness."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    cut_after: int | None = None
    flip_at: int | None = None
    drip: float = 0.0  # seconds between pieces of 64 KB
    without_ranges: bool = False
    body: bytes | None = None


HARMLESS = Fault()
_UNKNOWN = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'


class Server:
    """Base of both: a threading HTTP server on the loopback."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    def count(self, method: str, part: str) -> int:
        """How many requests had ``part`` in their path."""
        return sum(method == asked and part in path for asked, path, _ in self.requests)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = take_body(self)
                server.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server.answer(self, body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Handler


class FaultyProxy(Server):
    """Passes everything on to ``upstream`` (host:port), with the fault that ``choose`` gives for each request.

    ``choose(method, path, count)``: ``count`` says how often this was asked before.
    """

    def __init__(self, upstream: str, choose: Callable[[str, str, int], Fault]) -> None:
        self._upstream = upstream
        self._choose = choose
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        key = (handler.command, handler.path)
        with self._lock:
            count = self._counts.get(key, 0)
            self._counts[key] = count + 1
        fault = self._choose(*key, count)
        if fault.status:
            return self._refuse(handler, fault)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("connection",)}
        if fault.without_ranges:
            headers.pop("Range", None)
        upstream = http.client.HTTPConnection(self._upstream, timeout=30)
        with contextlib.closing(upstream):
            upstream.request(handler.command, handler.path, body or None, headers)
            self._pass_on(handler, upstream.getresponse(), fault)
        return None

    def _refuse(self, handler: http.server.BaseHTTPRequestHandler, fault: Fault) -> None:
        body = fault.body or b""
        handler.send_response(fault.status)
        for name, value in (*fault.headers, ("Content-Length", str(len(body)))):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def _pass_on(
        self, handler: http.server.BaseHTTPRequestHandler, response: http.client.HTTPResponse, fault: Fault
    ) -> None:
        handler.send_response(response.status)
        for name, value in response.getheaders():
            handler.send_header(name, value)
        handler.end_headers()
        sent = 0
        while data := bytearray(response.read(_PIECE)):
            if fault.flip_at is not None and sent <= fault.flip_at < sent + len(data):
                data[fault.flip_at - sent] ^= 0xFF
            if fault.cut_after is not None and sent + len(data) > fault.cut_after:
                handler.wfile.write(data[: fault.cut_after - sent])
                handler.close_connection = True
                return
            handler.wfile.write(data)
            sent += len(data)
            if fault.drip:
                time.sleep(fault.drip)


class ScriptedRegistry(Server):
    """Serves exactly what it is given: ``pages["/v2/x/manifests/1"] = (body, content type)``. All else is 404."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[bytes, str]] = {}
        super().__init__()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        page: Any = self.pages.get(handler.path)
        if handler.path == "/v2/":
            page = (b"{}", "application/json")
        data, kind = page or (
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            "application/json",
        )
        handler.send_response(200 if page else 404)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)
