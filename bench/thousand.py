"""By the thousand: ``python -m bench.thousand crowd | flood | row``, each in an engine of its own.

crowd   what a start costs beside 0, 250, 500, 750 and 1,000 containers that run
flood   all asked at once: how long it takes, and how long ``_ping``, ``ps`` and ``info`` are waited for meanwhile
row     started and removed one after the other, 20 at a time: what the engine has more afterwards
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bench import memory
from bench.engines import BUSYBOX, BUSYBOX_ARCHIVE, Wherry

SHORT = {"Image": BUSYBOX, "Cmd": ["true"]}
LONG = {"Image": BUSYBOX, "Cmd": ["sleep", "1000000"], "StopSignal": "SIGKILL"}
_STEP = 500
_SAMPLE = 60
_AT_A_TIME = 20
_BETWEEN = 0.005  # seconds from an answer to the next question

Figures = dict[str, list[float]]


class Line:
    """A connection that is kept. A request is written in one piece, and its answer read to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, path: str) -> "Line":
        return cls(*await asyncio.open_unix_connection(path))

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises RuntimeError for one that is no success."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        status = int(lines[0].split()[1])
        found = b""
        if "transfer-encoding: chunked" in lines:
            while size := int(await self._reader.readline(), 16):
                found += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        else:
            lengths = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
            found = await self._reader.readexactly(lengths[0] if lengths else 0)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {found.decode(errors='replace')}")
        return json.loads(found) if found[:1] in (b"{", b"[") else found

    async def create(self, config: Any, network: str) -> str:
        config = {**config, "HostConfig": {"NetworkMode": network}}
        return str((await self.ask("POST", "/containers/create", config))["Id"])

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def _line(path: str) -> AsyncIterator[Line]:
    line = await Line.open(path)
    try:
        yield line
    finally:
        line.close()


async def crowd(engine: Wherry, network: str, count: int) -> None:
    """Medians of the start alone, beside ever more that run; the first is measured again at the end."""
    path = engine.socket.removeprefix("unix://")
    async with _line(path) as line:
        running: list[str] = []
        await _sample(line, network)  # the first of all loads what the others share
        print(f"{'running':>8} {'create':>15} {'start':>15} {'remove':>15}  ms: a tenth are faster, and half")
        for wanted in range(0, count + 1, _STEP):
            while len(running) < wanted:
                running.append(await line.create(LONG, network))
                await line.ask("POST", f"/containers/{running[-1]}/start")
            await asyncio.sleep(1)
            _print_sample(len(running), await _sample(line, network))
        await asyncio.gather(*(_remove(path, each) for each in _shares(running)))
        await asyncio.sleep(2)
        _print_sample(0, await _sample(line, network))


def _print_sample(running: int, figures: Figures) -> None:
    cells = (
        f"{sorted(each)[len(each) // 10] * 1e3:7.2f} {statistics.median(each) * 1e3:7.2f}" for each in figures.values()
    )
    print(f"{running:8} {' '.join(cells)}", flush=True)


async def _sample(line: Line, network: str) -> Figures:
    figures: Figures = {"create": [], "start": [], "remove": []}
    for _ in range(_SAMPLE):
        began = time.perf_counter()
        name = await line.create(SHORT, network)
        created = time.perf_counter()
        await line.ask("POST", f"/containers/{name}/start")
        started = time.perf_counter()
        await line.ask("POST", f"/containers/{name}/wait")
        ended = time.perf_counter()
        await line.ask("DELETE", f"/containers/{name}")
        removed = time.perf_counter()
        for figure, took in zip(figures.values(), (created - began, started - created, removed - ended), strict=True):
            figure.append(took)
    return figures


def _shares(names: list[str]) -> list[list[str]]:
    return [names[number::_AT_A_TIME] for number in range(_AT_A_TIME)]


async def _remove(path: str, names: list[str]) -> None:
    async with _line(path) as line:
        for name in names:
            await line.ask("DELETE", f"/containers/{name}?force=1")


async def flood(engine: Wherry, network: str, count: int) -> None:
    """Every container has a client of its own, as a harness that starts them all has."""
    path = engine.socket.removeprefix("unix://")
    over = multiprocessing.Event()
    asking, told = multiprocessing.Pipe(duplex=False)
    watcher = multiprocessing.Process(target=_watch, args=(path, over, told))
    watcher.start()
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    results = await asyncio.gather(*(_run_one(path, network) for _ in range(count)), return_exceptions=True)
    took = time.perf_counter() - began
    over.set()
    figures = asking.recv()
    watcher.join()
    failures = [result for result in results if isinstance(result, BaseException)]
    print(f"{count} asked at once: {count - len(failures)} ran, in {took:.1f} s, {took / count * 1e3:.1f} ms each")
    for failure in failures[:3]:
        print(f"  {failure!r}")
    for name, values in figures.items():
        values = sorted(values)
        p99 = values[int(len(values) * 0.99)]
        print(f"{name:>10}: {len(values)} answers, median {statistics.median(values) * 1e3:.1f} ms, "
              f"p99 {p99 * 1e3:.1f}, longest {values[-1] * 1e3:.1f}")  # fmt: skip


async def _run_one(path: str, network: str) -> None:
    async with _line(path) as line:
        name = await line.create(SHORT, network)
        await line.ask("POST", f"/containers/{name}/start")
        await line.ask("POST", f"/containers/{name}/wait")
        await line.ask("DELETE", f"/containers/{name}")


def _watch(path: str, over: Event, told: Any) -> None:
    """In a process of its own: how long each kind of question is waited for."""
    asyncio.run(_ask_on(path, over, told))


async def _ask_on(path: str, over: Event, told: Any) -> None:
    figures: Figures = {"ping": [], "new ping": [], "ps": [], "info": []}
    async with _line(path) as line:
        for turn in itertools.count():
            if over.is_set():
                break
            figures["ping"].append(await _timed(line, "/_ping"))
            if turn % 4 == 0:
                began = time.perf_counter()
                async with _line(path) as new:
                    await new.ask("GET", "/_ping")
                figures["new ping"].append(time.perf_counter() - began)
            if turn % 16 == 0:
                figures["ps"].append(await _timed(line, "/containers/json"))
                figures["info"].append(await _timed(line, "/info"))
            await asyncio.sleep(_BETWEEN)
    told.send(figures)


async def _timed(line: Line, path: str) -> float:
    began = time.perf_counter()
    await line.ask("GET", path)
    return time.perf_counter() - began


async def row(engine: Wherry, network: str, count: int) -> None:
    path = engine.socket.removeprefix("unix://")
    await _turns(path, network, 500)  # what the first ones load is not growth
    await asyncio.sleep(2)
    before = _footprint(engine)
    began = time.perf_counter()
    await _turns(path, network, count)
    took = time.perf_counter() - began
    await asyncio.sleep(2)
    after = _footprint(engine)
    print(f"{count} started and removed in {took:.0f} s, {took / count * 1e3:.1f} ms each")
    for name, value in before.items():
        print(f"{name:>24}: {value:9} before, {after[name]:9} after")


async def _turns(path: str, network: str, count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        async with _line(path) as line:
            for _ in numbers:
                name = await line.create(SHORT, network)
                await line.ask("POST", f"/containers/{name}/start")
                await line.ask("POST", f"/containers/{name}/wait")
                await line.ask("DELETE", f"/containers/{name}")

    await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))


def _footprint(engine: Wherry) -> dict[str, int]:
    pid = engine.pid
    return {
        "memory of the engine, kB": memory.proportional([pid]) // 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "processes": len(engine.processes()),
        "interfaces": len(Path(f"/proc/{pid}/net/dev").read_text().splitlines()),
        "cgroups": sum(len(names) for _, names, _ in os.walk("/sys/fs/cgroup")),
        "files": sum(len(names) for _, _, names in os.walk(engine.directory)),
        "directories": sum(len(names) for _, names, _ in os.walk(engine.directory)),
        "bytes of state.db": sum(each.stat().st_size for each in engine.directory.glob("data/state.db*")),
    }


@contextlib.contextmanager
def _engine() -> Iterator[Wherry]:
    with tempfile.TemporaryDirectory(prefix="wherry-bench-", dir="/var/tmp") as directory:
        engine = Wherry(Path(directory) / "wherry")
        try:
            engine.start()
            engine.client().run("load", "--input", str(BUSYBOX_ARCHIVE))
            yield engine
        finally:
            engine.stop()


_WHAT = {"crowd": (crowd, 1000), "flood": (flood, 5000), "row": (row, 20000)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.thousand", description=__doc__)
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("--count", type=int, help="how many containers")
    parser.add_argument("--network", default="bridge")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: the engine needs root")
    measure, count = _WHAT[options.what]
    print(f"load of this machine: {', '.join(f'{each:.1f}' for each in os.getloadavg())}; {os.cpu_count()} processors")
    with _engine() as engine:
        asyncio.run(measure(engine, options.network, options.count or count))


if __name__ == "__main__":
    main()
