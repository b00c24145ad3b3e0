"""``stats``: what a container uses right now, in the API's shape."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from wherry.common import times
from wherry.common.errors import EngineError, InvalidParameter, NotFound, NotSupported
from wherry.engine.container.service import Containers
from wherry.engine.container.store import ContainerEntry
from wherry.linux.cgroups import BlkioEntry, BlkioStats, CpuStats, MemoryStats, Stats, host_cpu_time

_PERIOD = 1.0  # seconds between two samples, as Docker's
_NETWORK_FIELDS = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", None, None, None, None,
    "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
)  # fmt: skip
"""The columns of /proc/net/dev, in their order, by the API's names."""

Sample = dict[str, Any]


async def stats(containers: Containers, name: str, *, stream: bool, one_shot: bool) -> AsyncIterator[Sample]:
    """Samples of a container: one a second with ``stream``, else a single one.

    A single one spans a second, so that a rate can be told from it, unless ``one_shot``. A container that does not run
    gives zeros, and goes on to be sampled when it starts; with its removal the stream ends.
    """
    entry = containers.find(name)
    previous = _sample(containers, entry, None)
    if one_shot and not stream:
        yield previous
        return
    if stream:
        yield previous
    elif not entry.record.state.running:
        yield previous
        return
    while True:
        await asyncio.sleep(_PERIOD)
        try:
            entry = containers.find(entry.record.id)
        except NotFound:
            return
        previous = _sample(containers, entry, previous)
        yield previous
        if not stream:
            return


def _sample(containers: Containers, entry: ContainerEntry, previous: Sample | None) -> Sample:
    record = entry.record
    found: Sample = {
        "name": f"/{record.name}",
        "id": record.id,
        "read": times.rfc3339(times.now()) if entry.monitor else times.NEVER,
        "preread": previous["read"] if previous else times.NEVER,
        "num_procs": 0,
        "os_type": "linux",
        "storage_stats": {},
        "pids_stats": {},
        "blkio_stats": _blkio(BlkioStats()),
        "cpu_stats": _cpu(CpuStats(), 0, 0),
        "precpu_stats": previous["cpu_stats"] if previous else _cpu(CpuStats(), 0, 0),
        "memory_stats": {},
    }
    counted = _count(containers, entry)
    if counted is None:
        return found
    total, cpus = host_cpu_time()
    found["cpu_stats"] = _cpu(counted.cpu, total, cpus)
    found["memory_stats"] = _memory(counted.memory)
    found["pids_stats"] = {"current": counted.pids.current, "limit": counted.pids.limit or 2**64 - 1}
    found["blkio_stats"] = _blkio(counted.blkio)
    networks = _networks(record.state.pid)
    if networks:
        found["networks"] = networks
    return found


def _count(containers: Containers, entry: ContainerEntry) -> Stats | None:
    if entry.monitor is None:
        return None
    try:
        return containers.cgroup(entry).stats()
    except FileNotFoundError:  # it has ended, and the word of that is under way
        return None


def _cpu(cpu: CpuStats, system: int, cpus: int) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "total_usage": cpu.total,
        "usage_in_kernelmode": cpu.system,
        "usage_in_usermode": cpu.user,
    }
    if cpu.per_cpu:
        usage["percpu_usage"] = list(cpu.per_cpu)
    found: dict[str, Any] = {
        "cpu_usage": usage,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_time,
        },
    }
    if system:
        found |= {"system_cpu_usage": system, "online_cpus": cpus}
    return found


def _memory(memory: MemoryStats) -> dict[str, Any]:
    found: dict[str, Any] = {
        "usage": memory.usage,
        "stats": memory.detail,
        "limit": memory.limit if memory.limit is not None else _machine_memory(),
    }
    if memory.peak:
        found["max_usage"] = memory.peak
    if memory.failures:
        found["failcnt"] = memory.failures
    return found


def _blkio(blkio: BlkioStats) -> dict[str, Any]:
    empty = ("io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive",
             "io_time_recursive", "sectors_recursive")  # fmt: skip
    return {
        "io_service_bytes_recursive": _entries(blkio.service_bytes),
        "io_serviced_recursive": _entries(blkio.serviced),
    } | dict.fromkeys(empty)


def _entries(entries: tuple[BlkioEntry, ...]) -> list[dict[str, Any]] | None:
    return [{"major": e.major, "minor": e.minor, "op": e.op, "value": e.value} for e in entries] or None


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """Every interface of the container's network namespace but the loopback."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.readlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            values = zip(_NETWORK_FIELDS, numbers.split(), strict=False)
            found[name.strip()] = {field: int(value) for field, value in values if field}
    return found


def _machine_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


# ``top``: the processes of a container, as the host's ps prints them.


async def top(pids: list[int], ps_args: str) -> dict[str, Any]:
    """The API's ContainerTopResponse. ``ps_args`` are ps's own, "-ef" when empty.

    Raises InvalidParameter when ps does not like them or prints no PID column, NotSupported when there is no ps.
    """
    arguments = ps_args.split() or ["-ef"]
    if any(argument.startswith("-") and "=" in argument and "pid=" in argument.lower() for argument in arguments):
        raise InvalidParameter(f"ps arguments may not rename the PID column: {ps_args}")
    lines = await _run_ps(arguments)
    titles = lines[0].split()
    if "PID" not in titles:
        raise EngineError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    processes = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column] in wanted:
            processes.append(fields)
    return {"Titles": titles, "Processes": processes}


async def _run_ps(arguments: list[str]) -> list[str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError:
        raise NotSupported("top needs the program ps on the host: install it (package procps)") from None
    out, errors = await process.communicate()
    if process.returncode != 0:
        reason = errors.decode(errors="replace").strip().partition("\n")[0]
        raise EngineError(f"ps: {reason or f'exit status {process.returncode}'}")
    return out.decode(errors="replace").splitlines() or [""]
