"""A web proxy: passes requests on, and tunnels TLS, by names that it alone knows."""

import contextlib
import http.client
import http.server
import select
import socket
import threading
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.support.bodies import take_body

_PIECE = 64 << 10


class Proxy:
    """``hosts`` says where names lead ("harbour.test:443" to "127.0.0.1:40000"); it knows no others.

    With a ``log_in`` ("name:password") it answers 407 to those who do not show it. ``asked`` has the method and the
    host of every request that was passed on.
    """

    def __init__(self, hosts: Mapping[str, str], log_in: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self._hosts = hosts
        self._expected = f"Basic {b64encode(log_in.encode()).decode()}" if log_in else None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def target(self, method: str, host: str) -> tuple[str, int]:
        self.asked.append((method, host))
        address, _, port = self._hosts[host].rpartition(":")
        return address, int(port)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                if not self._may_pass(self.path):
                    return
                with (
                    socket.create_connection(proxy.target("CONNECT", self.path)) as upstream,
                    contextlib.suppress(ConnectionError),  # of a client that has what it wanted
                ):
                    self.send_response(200)
                    self.end_headers()
                    _tunnel(self.connection, upstream)

            def pass_on(self) -> None:
                url = urlsplit(self.path)
                host = url.netloc if url.port else f"{url.netloc}:80"
                if not self._may_pass(host):
                    return
                body = take_body(self)
                upstream = http.client.HTTPConnection(*proxy.target(self.command, host), timeout=30)
                with contextlib.closing(upstream):
                    path = url.path + (f"?{url.query}" if url.query else "")
                    upstream.request(self.command, path, body or None, dict(self.headers.items()))
                    response = upstream.getresponse()
                    self.send_response(response.status)
                    for name, value in response.getheaders():
                        self.send_header(name, value)
                    self.end_headers()
                    while data := response.read(_PIECE):
                        self.wfile.write(data)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

            def _may_pass(self, host: str) -> bool:
                knows = proxy._expected in (None, self.headers.get("Proxy-Authorization"))
                if knows and host in proxy._hosts:
                    return True
                self.send_response(502 if knows else 407)
                self.send_header("Proxy-Authenticate", 'Basic realm="lock"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Handler


def _tunnel(one: socket.socket, other: socket.socket) -> None:
    """Passes bytes both ways until either side has no more."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for side in readable:
            data = side.recv(_PIECE)
            if not data:
                return
            (other if side is one else one).sendall(data)
