"""Builds by BuildKit's protocol: ``docker build`` with buildx, on Docker and on wherry. Podman does not speak it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.build import FILES, STEPS, context
from bench.engines import Client

_LARGE = 1 << 30
_LINES = 100_000
_STAGES = 10

PRINTING = f"FROM busybox\nRUN yes 0123456789012345678901234567890123456789 | head -n {_LINES}\n"
INDEPENDENT = "".join(
    f"FROM busybox AS s{number}\nRUN echo {number} > /made && sleep 0.2\n" for number in range(_STAGES)
) + "".join(["FROM busybox\n", *(f"COPY --from=s{number} /made /{number}\n" for number in range(_STAGES))])


class Build:
    """A workload's ``measure`` and ``setting``. What ``prepare`` does to the context before each build is not timed."""

    def __init__(
        self,
        dockerfile: str,
        *arguments: str,
        files: int = 0,
        large: bool = False,
        prepare: Callable[[Path], Path] = lambda folder: folder,
    ) -> None:
        self._dockerfile = dockerfile
        self._arguments = arguments
        self._files = files
        self._large = large
        self._prepare = prepare
        self._folder = Path()

    def measure(self, client: Client) -> float:
        asking = client.by_buildkit()
        folder = self._prepare(self._folder)
        try:
            options = ("--network", "none", "--tag", "bench-build", "--quiet", *self._arguments)
            return asking.time("build", *options, str(folder))
        finally:
            if folder != self._folder:
                shutil.rmtree(folder)

    def setting(self, client: Client) -> AbstractContextManager[None]:
        @contextmanager
        def set_up() -> Iterator[None]:
            with context(self._dockerfile, self._files) as self._folder:
                if self._large:
                    with (self._folder / "large").open("wb") as file:
                        file.truncate(_LARGE)
                yield
                client.run("rmi", "bench-build")

        return set_up()


def _elsewhere(folder: Path) -> Path:
    """A copy: what the engine knows of a client's directory, it knows by its path."""
    made = Path(tempfile.mkdtemp(prefix="bench-build-", dir="/var/tmp"))
    shutil.copytree(folder, made, dirs_exist_ok=True)
    return made


def _changed(folder: Path) -> Path:
    with (folder / "folder-0" / "file-0").open("a") as file:
        file.write("more\n")
    return folder


THREE_STEPS = Build(STEPS, "--no-cache")
ALL_CACHED = Build(STEPS)
FIRST = Build("FROM busybox\nCOPY . /all\n", "--no-cache", files=FILES, prepare=_elsewhere)
AGAIN = Build("FROM busybox\nCOPY . /all\n", files=FILES, prepare=_changed)
LARGE = Build("FROM busybox\nCOPY large /large\n", "--no-cache", large=True, prepare=_elsewhere)
MANY_LINES = Build(PRINTING, "--no-cache")
MANY_STAGES = Build(INDEPENDENT, "--no-cache")
LOADED = Build(STEPS, "--load")
