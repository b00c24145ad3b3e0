"""Builds in the tests: a context in a folder, what came of it, and servers for what comes from elsewhere."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import registry
from tests.support.engine import Engine


class Builder:
    """Builds from texts: ``builder("FROM busybox…", {"name": "content"}, "--tag", "x")``, and looks into the result."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def __call__(
        self, text: str, files: Mapping[str, str] | None = None, *arguments: str, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        self.write(files or {})
        (self.context / "Dockerfile").write_text(text)
        return self.engine.wherry(
            "build", "--network", "none", "--tag", "built", "--progress", "plain", *arguments, str(self.context),
            check=check, **options,
        )  # fmt: skip

    def shows(self, *command: str) -> str:
        """What a command prints in the image ``built``."""
        return self.engine.wherry("run", "--rm", "--network", "none", "built", *command, check=True).stdout

    def image(self, name: str = "built") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.wherry("image", "inspect", name, check=True).stdout)[0]
        return found

    def files(self, name: str = "built") -> dict[str, tarfile.TarInfo]:
        """All that is in it, as ``--output`` gives it."""
        answer = self.engine.request("GET", f"/build/files?image={name}")
        assert answer.status == 200, answer
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            return {member.name: member for member in tar}


def cached(finished: subprocess.CompletedProcess[str]) -> list[int]:
    """The numbers of the steps that were found in the cache."""
    lines = [line for line in finished.stderr.splitlines() if line.endswith(" CACHED")]
    return sorted(int(line[1:].split()[0]) for line in lines)


@contextlib.contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """The address at which the files of a folder are."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with serving(partial(Quiet, directory=str(folder))) as address:
        yield address


@contextlib.contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of an HTTP server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def git_server(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The address of a repository with a commit of ``files`` on the branches main and other, and that commit."""
    for name, content in files.items():
        path = folder / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git = ["git", "-C", str(folder / "repository"), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "x"], ["branch", "other"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    port = registry.free_port()
    serving = subprocess.Popen(
        ["git", "daemon", "--export-all", f"--base-path={folder}", "--listen=127.0.0.1", f"--port={port}"],
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while serving.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}/repository", commit
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait()
