"""What builds are measured with. Each workload is measured without its context's making."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.engines import Client

STEPS = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\nRUN echo three > /three\n"
FILES = 10_000


def _build(client: Client, context: Path, *arguments: str) -> float:
    return client.time("build", "--network", "none", "--tag", "bench-build", "--quiet", *arguments, str(context))


@contextmanager
def context(dockerfile: str, files: int = 0) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bench-build-", dir="/var/tmp"))
    try:
        (folder / "Dockerfile").write_text(dockerfile)
        for number in range(files):
            below = folder / f"folder-{number % 100}"
            below.mkdir(exist_ok=True)
            (below / f"file-{number}").write_text(f"file {number}\n" * 20)
        yield folder
    finally:
        shutil.rmtree(folder)


class Build:
    """A workload's ``measure`` and ``setting``."""

    def __init__(self, dockerfile: str, *arguments: str, files: int = 0) -> None:
        self._dockerfile = dockerfile
        self._arguments = arguments
        self._files = files
        self._folder = Path()

    def measure(self, client: Client) -> float:
        return _build(client, self._folder, *self._arguments)

    def setting(self, client: Client) -> AbstractContextManager[None]:
        @contextmanager
        def set_up() -> Iterator[None]:
            with context(self._dockerfile, self._files) as self._folder:
                _build(client, self._folder)
                yield
                client.run("rmi", "bench-build")

        return set_up()


THREE_STEPS = Build(STEPS, "--no-cache")
ALL_CACHED = Build(STEPS)
MANY_FILES = Build("FROM busybox\nCOPY . /all\n", "--no-cache", files=FILES)
