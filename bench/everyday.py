"""What people do all day: look at what there is, end a container, copy files into one and out of it."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

from bench.engines import BUSYBOX, Client

CONTAINERS = 500
COPIED_BYTES = 100_000_000
_ENDS_ON_SIGTERM = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]


def list_all(client: Client) -> float:
    return client.time("ps", "--all")


def inspect(client: Client) -> float:
    return client.time("inspect", "bench-many-0")


def list_images(client: Client) -> float:
    return client.time("images")


@contextmanager
def many_containers(client: Client) -> Iterator[None]:
    """500 that were made and never started."""
    names = [f"bench-many-{number}" for number in range(CONTAINERS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.run("create", "--name", name, BUSYBOX, "true"), names))
    yield
    client.run("rm", *names)


def stop(client: Client) -> float:
    client.run("run", "--detach", "--name", "bench-stop", BUSYBOX, *_ENDS_ON_SIGTERM)
    took = client.time("stop", "bench-stop")
    client.run("rm", "bench-stop")
    return took


class Copy:
    """100 MB in one file, into a container that does not run or out of it: a ``measure`` and a ``setting``."""

    def __init__(self, *, into: bool) -> None:
        self._into = into

    @cached_property
    def _folder(self) -> str:
        """Goes when the process ends: several engines share it."""
        self._owner = tempfile.TemporaryDirectory(prefix="bench-copy-", dir="/var/tmp")
        with open(f"{self._owner.name}/given", "wb") as file:
            file.write(bytes(range(256)) * (COPIED_BYTES // 256))
        return self._owner.name

    def measure(self, client: Client) -> float:
        if self._into:
            return client.time("cp", f"{self._folder}/given", "bench-copy:/given")
        return client.time("cp", "bench-copy:/given", f"{self._folder}/taken")

    @contextmanager
    def setting(self, client: Client) -> Iterator[None]:
        client.run("create", "--name", "bench-copy", BUSYBOX, "true")
        client.run("cp", f"{self._folder}/given", "bench-copy:/given")
        yield
        client.run("rm", "bench-copy")


COPY_IN = Copy(into=True)
COPY_OUT = Copy(into=False)
