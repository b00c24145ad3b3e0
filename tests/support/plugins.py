"""A plug-in of Docker's protocol, in this process: HTTP over a socket, JSON either way."""

import http.server
import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PluginServer:
    """``answer(path, body)`` gives what is answered."""

    def __init__(self, socket_path: Path, answer: Callable[[str, dict[str, Any]], Any]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                data = json.dumps(answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *arguments: object) -> None:
                return

        self._server = socketserver.ThreadingUnixStreamServer(str(socket_path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The socket stays, as that of one that died."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
