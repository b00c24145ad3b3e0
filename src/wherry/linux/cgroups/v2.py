"""Limits and counters of cgroup v2: one directory for all controllers.

The limits come in v1's units, as the Docker API and the OCI runtime spec have them, and are converted here.
"""

import errno
import math
import os
from collections.abc import Callable, Collection, Mapping

from wherry.linux.cgroups import devices_bpf
from wherry.linux.cgroups.files import CgroupError, read, read_number, read_numbers, write
from wherry.linux.cgroups.resources import Resources
from wherry.linux.cgroups.stats import BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats

DEFAULT_CPU_PERIOD = 100_000
"""Microseconds; the kernel's own."""


def cpu_weight(shares: int) -> int:
    """v1's shares (2 to 262144, default 1024) as v2's weight (1 to 10000, default 100).

    The parabola through those three points on logarithmic axes that runc, crun and Kubernetes agreed on in 2025; a
    straight line would make 1024 shares a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def io_weight(blkio_weight: int) -> int:
    """v1's blkio weight (10 to 1000) as v2's io weight (1 to 10000), linearly."""
    return 1 + (blkio_weight - 10) * 9999 // 990


def swap_limit(memory_swap: int, memory: int | None) -> int:
    """v1 limits the sum of memory and swap, v2 swap alone; -1 is no limit. ValueError when they contradict."""
    if memory_swap == -1 or memory is None or memory == -1:
        return memory_swap
    if memory_swap < memory:
        raise ValueError(f"memory and swap together ({memory_swap}) must be at least the memory alone ({memory})")
    return memory_swap - memory


def _or_max(value: int) -> int | str:
    return "max" if value == -1 else value


def _refuse(directory: str, limit: str) -> CgroupError:
    return CgroupError(errno.EOPNOTSUPP, "limit", directory, detail=f"cgroup v2 has no {limit}")


def set_memory(directory: str, resources: Resources) -> None:
    """Swap before memory: a memory limit that is too low for what is in use then finds where to put it."""
    memory, swap = resources.memory, resources.memory_swap
    if resources.memory_swappiness is not None:
        raise _refuse(directory, "swappiness")
    if resources.oom_kill_disable:
        raise _refuse(directory, "way to disable the OOM killer")
    if swap is None and memory == -1:
        swap = -1
    if swap is not None:
        try:
            beside = swap_limit(swap, memory if memory is not None else read_number(f"{directory}/memory.max"))
        except ValueError as error:
            raise CgroupError(errno.EINVAL, "limit the swap of", directory, detail=str(error)) from error
        # A kernel without swap accounting has no such file; then "all of it" and "none" are what it does anyway.
        if beside not in (-1, 0) or os.path.exists(f"{directory}/memory.swap.max"):
            write(f"{directory}/memory.swap.max", _or_max(beside))
    if memory is not None:
        write(f"{directory}/memory.max", _or_max(memory))
    if resources.memory_reservation is not None:
        write(f"{directory}/memory.low", _or_max(resources.memory_reservation))


def set_cpu(directory: str, resources: Resources) -> None:
    """Weight, and quota with period: they share one file, so that one that is not given is kept."""
    if resources.cpu_rt_runtime is not None or resources.cpu_rt_period is not None:
        raise _refuse(directory, "real-time scheduling limit")
    if resources.cpu_shares is not None:
        write(f"{directory}/cpu.weight", cpu_weight(resources.cpu_shares))
    quota, period = resources.cpu_quota, resources.cpu_period
    if quota is None and period is None:
        return
    path = f"{directory}/cpu.max"
    old_quota, _, old_period = read(path).partition(" ")
    if quota is not None:
        old_quota = str(quota) if quota > 0 else "max"
    write(path, f"{old_quota} {period or old_period or DEFAULT_CPU_PERIOD}")


def set_cpuset(directory: str, resources: Resources) -> None:
    """Processors and memory nodes, as lists like "0-2,7"."""
    if resources.cpuset_cpus is not None:
        write(f"{directory}/cpuset.cpus", resources.cpuset_cpus)
    if resources.cpuset_mems is not None:
        write(f"{directory}/cpuset.mems", resources.cpuset_mems)


def set_pids(directory: str, resources: Resources) -> None:
    """The most processes and threads at a time."""
    if resources.pids is not None:
        write(f"{directory}/pids.max", resources.pids if resources.pids > 0 else "max")


def set_io(directory: str, resources: Resources) -> None:
    """Weights (bfq's own file where that scheduler is loaded, which takes v1's scale) and throttles."""
    bfq = f"{directory}/io.bfq.weight"
    has_bfq = os.path.exists(bfq)
    if resources.blkio_weight is not None:
        if has_bfq:
            write(bfq, resources.blkio_weight)
        else:
            write(f"{directory}/io.weight", io_weight(resources.blkio_weight))
    for device in resources.blkio_weight_device:
        number = f"{device.major}:{device.minor}"
        if has_bfq:
            write(bfq, f"{number} {device.rate}")
        else:
            write(f"{directory}/io.weight", f"{number} {io_weight(device.rate)}")
    for key, devices in (
        ("rbps", resources.blkio_read_bps),
        ("wbps", resources.blkio_write_bps),
        ("riops", resources.blkio_read_iops),
        ("wiops", resources.blkio_write_iops),
    ):
        for device in devices:
            write(f"{directory}/io.max", f"{device.major}:{device.minor} {key}={device.rate or 'max'}")


def set_devices(directory: str, resources: Resources) -> None:
    """v2 has no files for devices, but asks an eBPF program."""
    devices_bpf.attach(directory, resources.devices)


SETTERS: Mapping[str, Callable[[str, Resources], None]] = {
    "memory": set_memory,
    "cpu": set_cpu,
    "cpuset": set_cpuset,
    "pids": set_pids,
    "blkio": set_io,
    "devices": set_devices,
}
"""By v1's names, which is what the rest of the engine knows them by."""


def read_cpu(directory: str) -> CpuStats:
    """cpu.stat is there even without the cpu controller, but for the throttling."""
    stat = read_numbers(f"{directory}/cpu.stat")
    return CpuStats(
        total=stat.get("usage_usec", 0) * 1000,
        user=stat.get("user_usec", 0) * 1000,
        system=stat.get("system_usec", 0) * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_time=stat.get("throttled_usec", 0) * 1000,
    )


def read_memory(directory: str) -> MemoryStats:
    """Usage, peak (Linux 5.19), limit and memory.stat."""
    peak = f"{directory}/memory.peak"
    return MemoryStats(
        usage=int(read(f"{directory}/memory.current")),
        peak=int(read(peak)) if os.path.exists(peak) else 0,
        limit=read_number(f"{directory}/memory.max"),
        failures=read_numbers(f"{directory}/memory.events").get("oom", 0),
        detail=read_numbers(f"{directory}/memory.stat"),
    )


def read_pids(directory: str) -> PidsStats:
    """Of the cgroup and those below it."""
    return PidsStats(current=int(read(f"{directory}/pids.current")), limit=read_number(f"{directory}/pids.max"))


def read_io(directory: str) -> BlkioStats:
    """Lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"."""
    tables: dict[str, list[BlkioEntry]] = {"bytes": [], "ios": []}
    ops = {"r": "read", "w": "write"}
    for line in read(f"{directory}/io.stat").splitlines():
        device, *counters = line.split()
        major, _, minor = device.partition(":")
        for counter in counters:
            key, _, value = counter.partition("=")
            if key[:1] in ops and key[1:] in tables:
                tables[key[1:]].append(BlkioEntry(int(major), int(minor), ops[key[0]], int(value)))
    return BlkioStats(service_bytes=tuple(tables["bytes"]), serviced=tuple(tables["ios"]))


def read_stats(directory: str, controllers: Collection[str]) -> Stats:
    """``controllers`` are those that are on in this cgroup, by v2's names."""
    return Stats(
        cpu=read_cpu(directory),
        memory=read_memory(directory) if "memory" in controllers else MemoryStats(),
        pids=read_pids(directory) if "pids" in controllers else PidsStats(),
        blkio=read_io(directory) if "io" in controllers else BlkioStats(),
    )
