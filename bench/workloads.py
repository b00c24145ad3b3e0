"""What is measured. A workload does its work once, through one client, and returns seconds or bytes.

What a workload needs beforehand is made by its ``setting``, entered once for each client; that is not measured.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter

from bench import alone, build, buildkit, everyday, memory, pull
from bench.engines import BUSYBOX, CACHE, Client

DEBIAN_ARCHIVE = next(iter(sorted(CACHE.glob("[du]*-*.image.tar"))), None)

LINES = "bench-lines"
LINES_BYTES = 200_000_000
FILLED_BYTES = 100_000_000
FOREVER = ["sleep", "1000000"]


@dataclass(frozen=True)
class Workload:
    """One row of the table. The goals are the parts of Docker's figure that wherry is to reach, by either client."""

    name: str
    measure: Callable[[Client], float]
    rounds: int
    setting: Callable[[Client], AbstractContextManager[None]] = lambda _: nullcontext()
    goal: float | None = None
    goal_docker_cli: float | None = None
    unit: str = "s"
    by_own_client_only: bool = False
    by_docker_cli_only: bool = False


def run(client: Client) -> float:
    return client.time("run", "--rm", BUSYBOX, "cat", "/etc/issue")


def run_without_network(client: Client) -> float:
    return client.time("run", "--rm", "--network", "none", BUSYBOX, "cat", "/etc/issue")


def start_and_wait(client: Client) -> float:
    client.run("create", "--name", "bench-once", BUSYBOX, "true")
    took = client.time("start", "--attach", "bench-once")
    client.run("rm", "bench-once")
    return took


def remove(client: Client) -> float:
    client.run("run", "--name", "bench-once", BUSYBOX, "true")
    return client.time("rm", "bench-once")


def run_forty(client: Client) -> float:
    begun = perf_counter()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: client.run("run", "--rm", BUSYBOX, "true"), range(40)))
    return perf_counter() - begun


def execute(client: Client) -> float:
    return client.time("exec", "bench-box", "true")


@contextmanager
def running_box(client: Client) -> Iterator[None]:
    client.run("run", "--detach", "--name", "bench-box", BUSYBOX, *FOREVER)
    yield
    client.run("rm", "--force", "bench-box")


def stream_lines(client: Client) -> float:
    return client.time_output("run", "--rm", LINES, "cat", "/lines", size=LINES_BYTES)


@contextmanager
def image_of_lines(client: Client) -> Iterator[None]:
    """An image with the file /lines: lines of 64 bytes."""
    client.run("run", "--name", LINES, BUSYBOX, "sh", "-c", f"yes {'x' * 63} | head -c {LINES_BYTES} >/lines")
    client.run("commit", LINES, LINES)
    client.run("rm", LINES)
    yield
    client.run("rmi", LINES)


def read_logs(client: Client) -> float:
    return client.time_output("logs", "bench-logs", size=LINES_BYTES)


@contextmanager
def container_with_logs(client: Client) -> Iterator[None]:
    with image_of_lines(client):
        client.run("run", "--detach", "--name", "bench-logs", LINES, "cat", "/lines")
        client.run("wait", "bench-logs")
        yield
        client.run("rm", "bench-logs")


def load(client: Client) -> float:
    assert DEBIAN_ARCHIVE is not None
    took = client.time("load", "--input", str(DEBIAN_ARCHIVE))
    client.run("rmi", DEBIAN_ARCHIVE.name.removesuffix(".image.tar").replace("-", ":", 1))
    return took


def commit(client: Client) -> float:
    took = client.time("commit", "bench-filled", "bench-filled")
    client.run("rmi", "bench-filled")
    return took


@contextmanager
def filled_container(client: Client) -> Iterator[None]:
    fill = f"head -c {FILLED_BYTES} /dev/urandom >/filled"
    client.run("run", "--name", "bench-filled", BUSYBOX, "sh", "-c", fill)
    yield
    client.run("rm", "bench-filled")


def memory_of_idle_engine(client: Client) -> float:
    return memory.proportional(client.engine.processes())


def memory_of_a_container(client: Client) -> float:
    """What the engine's processes grow by with ten containers, each with a published port, over ten."""
    before = memory.proportional(client.engine.processes())
    for number in range(10):
        client.run("run", "--detach", "--name", f"bench-{number}", "--publish", "127.0.0.1::80", BUSYBOX, *FOREVER)
    grown = memory.proportional(client.engine.processes()) - before
    client.run("rm", "--force", *[f"bench-{number}" for number in range(10)])
    return grown / 10


def memory_of_a_containers_processes(client: Client) -> float:
    """What the processes beside the engine (monitors, shims, proxies) grow by with ten containers, over ten."""
    client.time("run", "--rm", BUSYBOX, "sleep", "1")  # what is there once, however many containers there are
    before = memory.proportional(memory.of_containers(client.engine.processes()))
    for number in range(10):
        client.run("run", "--detach", "--name", f"bench-{number}", "--publish", "127.0.0.1::80", BUSYBOX, *FOREVER)
    own = memory.proportional(memory.of_containers(client.engine.processes())) - before
    client.run("rm", "--force", *[f"bench-{number}" for number in range(10)])
    return own / 10


WORKLOADS = [
    Workload("memory: idle engine", memory_of_idle_engine, 1, goal=1 / 2, unit="B", by_own_client_only=True),
    Workload("memory: a container, processes of its own", memory_of_a_containers_processes, 1, goal=1 / 2, unit="B",
             by_own_client_only=True),
    Workload("memory: a container, all that the engine grows", memory_of_a_container, 1, unit="B",
             by_own_client_only=True),
    Workload("run --rm busybox cat /etc/issue", run, 20, goal=1 / 6, goal_docker_cli=1 / 8),
    Workload("the same with --network none", run_without_network, 20),
    *(
        Workload(f"{name}, by the engine alone: {how}", measure(network), 3, by_own_client_only=True)
        for name, network in (("a container", "bridge"), ("the same, no network", "none"))
        for how, measure in (("p50", alone.one_by_one), ("p90", alone.slowest_tenth),
                             ("20 at a time, each", alone.twenty_at_a_time))
    ),
    Workload("an exec, by the engine alone", alone.execute, 20, alone.running, by_own_client_only=True),
    Workload("start --attach, to its exit", start_and_wait, 10),
    Workload("rm", remove, 10),
    Workload("exec", execute, 20, running_box, goal_docker_cli=2 / 5),
    Workload("stop of what ends on SIGTERM", everyday.stop, 10),
    Workload("ps --all of 500 containers", everyday.list_all, 10, everyday.many_containers, 1, 1),
    Workload("inspect of one of them", everyday.inspect, 10, everyday.many_containers, 1, 1),
    Workload("images", everyday.list_images, 10, goal=1, goal_docker_cli=1),
    Workload("40 × run --rm, 20 at a time", run_forty, 3, goal_docker_cli=1 / 6),
    Workload("200 MB of 64-byte lines through run", stream_lines, 3, image_of_lines, 1 / 10, 1 / 10),
    Workload("logs of those", read_logs, 3, container_with_logs, 1 / 20, 1 / 20),
    Workload("build of three RUN steps, no cache", build.THREE_STEPS.measure, 5, build.THREE_STEPS.setting, 1 / 8,
             1 / 8),
    Workload("the same, all cached", build.ALL_CACHED.measure, 10, build.ALL_CACHED.setting, 1 / 2, 1 / 2),
    Workload("build with a context of 10,000 files", build.MANY_FILES.measure, 3, build.MANY_FILES.setting, 1 / 2,
             1 / 2),
    *(
        Workload(f"buildx: {name}", each.measure, rounds, each.setting, goal_docker_cli=goal, by_docker_cli_only=True)
        for name, each, rounds, goal in (
            ("three RUN steps, no cache", buildkit.THREE_STEPS, 5, 1 / 4),
            ("the same, all cached", buildkit.ALL_CACHED, 10, 1 / 2),
            ("the same, with --load", buildkit.LOADED, 10, 1 / 2),
            ("a context of 10,000 files, the first time", buildkit.FIRST, 3, 1),
            ("the same, one file changed", buildkit.AGAIN, 5, 1 / 2),
            ("a context of 1 GB in one file", buildkit.LARGE, 3, 1.2),
            ("a RUN that prints 100,000 lines", buildkit.MANY_LINES, 3, 1 / 2),
            ("ten independent stages", buildkit.MANY_STAGES, 3, 1 / 2),
        )
    ),
    Workload("load of a Debian image", load, 3, goal=1 / 2, goal_docker_cli=1 / 2),
    Workload("commit of 100 MB", commit, 3, filled_container, goal=1 / 2, goal_docker_cli=1 / 2),
    Workload("cp of 100 MB into a container", everyday.COPY_IN.measure, 5, everyday.COPY_IN.setting, 2 / 3, 2 / 3),
    Workload("cp of 100 MB out of it", everyday.COPY_OUT.measure, 5, everyday.COPY_OUT.setting, 2 / 3, 2 / 3),
    Workload("pull of 10 layers, 1 GB, 30,000 files", pull.pull, 3, pull.registry, 1 / 2, 1 / 2),
    Workload("pull of an image whose layers are there", pull.pull_upon_the_same_layers, 10, pull.pulled),
    Workload("the same, by the engine alone", pull.ask_for_the_same_layers, 20, pull.pulled, 1 / 3,
             by_own_client_only=True),
    Workload("pull of an image that is there", pull.pull_again, 10, pull.pulled),
]  # fmt: skip
