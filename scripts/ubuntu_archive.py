"""Debian's archive under Ubuntu's name, for a root of Ubuntu where Ubuntu's own archive is not reached.

``python3 scripts/ubuntu_archive.py MIRROR SUITE KEYRING`` makes a key, writes its public half to KEYRING, prints the
address of an archive of Ubuntu noble, and serves that until it is ended. Only the list of indexes is signed anew;
all else is read from MIRROR.
"""

import re
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

_CODENAME = "noble"
_NAMES = {"Origin": "Ubuntu", "Label": "Ubuntu", "Suite": _CODENAME, "Codename": _CODENAME, "Version": "24.04"}


class Key:
    """A key that signs for as long as this program runs."""

    def __init__(self, home: str) -> None:
        self._gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*self._gpg, "--quick-generate-key", "archive", "rsa2048", "sign", "never"], check=True)

    def public(self) -> bytes:
        return subprocess.run([*self._gpg, "--export"], check=True, capture_output=True).stdout

    def sign(self, text: str) -> bytes:
        command = [*self._gpg, "--clearsign"]
        return subprocess.run(command, input=text.encode(), check=True, capture_output=True).stdout


def renamed(release: str) -> str:
    """Debian's list of indexes with Ubuntu's names, and without its signature."""
    text = release.partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0]
    return re.sub(rf"^({'|'.join(_NAMES)}): .*$", lambda line: f"{line[1]}: {_NAMES[line[1]]}", text, flags=re.M)


def main(mirror: str, suite: str, keyring: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        key = Key(home)
        keyring.write_bytes(key.public())
        with urlopen(f"{mirror}/dists/{suite}/InRelease") as answer:
            release = key.sign(renamed(answer.read().decode()))

        class Archive(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.removeprefix("/ubuntu/").replace(f"dists/{_CODENAME}/", f"dists/{suite}/")
                found = path == f"dists/{suite}/InRelease"
                self.send_response(200 if found else 302)
                if not found:
                    self.send_header("Location", f"{mirror}/{path}")
                self.send_header("Content-Length", str(len(release) if found else 0))
                self.end_headers()
                if found:
                    self.wfile.write(release)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Leaves one that goes in the middle: apt does."""

        server = Server(("127.0.0.1", 0), Archive)
        print(f"http://127.0.0.1:{server.server_port}/ubuntu", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), sys.argv[2], Path(sys.argv[3]))
