"""Limits and counters of cgroup v1: one directory a controller.

Each setter takes the controller's directory and all the resources, and writes those that are its own. Orders matter
where the kernel compares two files with each other; each such place says so.
"""

import errno
import os
from collections.abc import Callable, Mapping

from wherry.linux.cgroups.types import (
    BlkioEntry,
    BlkioStats,
    CgroupError,
    CpuStats,
    DeviceRule,
    MemoryStats,
    PidsStats,
    Resources,
    Stats,
    read,
    read_number,
    read_numbers,
    set_cpuset,
    set_pids,
    write,
)

NO_LIMIT = 1 << 62
"""v1 says "no limit" by a number close to 2^63, rounded down to pages; nothing real comes near."""

NANOSECONDS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture that containers run on


def set_memory(directory: str, resources: Resources) -> None:
    """Memory, then swap; or the other way round, since the kernel refuses memory > memory+swap at any moment."""
    memory, swap = resources.memory, resources.memory_swap
    swap_file = f"{directory}/memory.memsw.limit_in_bytes"
    if memory == -1 and swap is None and os.path.exists(swap_file):
        swap = -1  # no limit on memory means none on the sum either
    raises = swap is not None and memory is not None and (swap == -1 or _limit(directory) < swap)
    if raises and swap is not None:
        write(swap_file, swap)
    if memory is not None:
        _write_memory(directory, memory)
    if not raises and swap is not None:
        write(swap_file, swap)
    if resources.memory_reservation is not None:
        write(f"{directory}/memory.soft_limit_in_bytes", resources.memory_reservation)
    if resources.memory_swappiness is not None:
        write(f"{directory}/memory.swappiness", resources.memory_swappiness)
    if resources.oom_kill_disable:
        write(f"{directory}/memory.oom_control", 1)


def _limit(directory: str) -> int:
    return int(read(f"{directory}/memory.limit_in_bytes"))


def _write_memory(directory: str, limit: int) -> None:
    try:
        write(f"{directory}/memory.limit_in_bytes", limit)
    except CgroupError as error:
        if error.errno != errno.EBUSY:
            raise
        usage = read(f"{directory}/memory.usage_in_bytes")
        detail = f"{limit} bytes are less than the {usage} that are in use now and cannot be given up"
        raise CgroupError(errno.EBUSY, "set the memory limit of", directory, detail=detail) from error


def set_cpu(directory: str, resources: Resources) -> None:
    """Shares, quota and period, real-time runtime and period."""
    if resources.cpu_shares is not None:
        path = f"{directory}/cpu.shares"
        write(path, resources.cpu_shares)
        # The kernel takes what it allows and says nothing, so that a typing error would go unseen.
        taken = int(read(path))
        if taken != resources.cpu_shares:
            bound = "maximum" if taken < resources.cpu_shares else "minimum"
            raise CgroupError(errno.EINVAL, "write", path, detail=f"the {bound} allowed cpu-shares is {taken}")
    _write_pair(directory, "cpu.cfs_quota_us", resources.cpu_quota, "cpu.cfs_period_us", resources.cpu_period)
    _write_pair(directory, "cpu.rt_runtime_us", resources.cpu_rt_runtime, "cpu.rt_period_us", resources.cpu_rt_period)


def _write_pair(directory: str, budget_file: str, budget: int | None, period_file: str, period: int | None) -> None:
    """The kernel refuses a ratio above the parent's at any moment: so period first, and again when it was too early."""
    retry = False
    if period is not None:
        try:
            write(f"{directory}/{period_file}", period)
        except CgroupError as error:
            if error.errno != errno.EINVAL or budget is None:
                raise
            retry = True
    if budget is not None:
        write(f"{directory}/{budget_file}", budget)
    if retry and period is not None:
        write(f"{directory}/{period_file}", period)


def set_blkio(directory: str, resources: Resources) -> None:
    """Weights (whichever scheduler's file there is) and throttles."""
    prefix = "blkio." if os.path.exists(f"{directory}/blkio.weight") else "blkio.bfq."
    if resources.blkio_weight is not None:
        write(f"{directory}/{prefix}weight", resources.blkio_weight)
    for file, devices in (
        (f"{prefix}weight_device", resources.blkio_weight_device),
        ("blkio.throttle.read_bps_device", resources.blkio_read_bps),
        ("blkio.throttle.write_bps_device", resources.blkio_write_bps),
        ("blkio.throttle.read_iops_device", resources.blkio_read_iops),
        ("blkio.throttle.write_iops_device", resources.blkio_write_iops),
    ):
        for device in devices:
            write(f"{directory}/{file}", f"{device.major}:{device.minor} {device.rate}")


def set_devices(directory: str, resources: Resources) -> None:
    """The rules one after the other: the kernel takes one a write."""
    files: dict[bool, int] = {}
    try:
        for rule in resources.devices:
            if rule.allow not in files:
                path = f"{directory}/devices.{'allow' if rule.allow else 'deny'}"
                files[rule.allow] = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.write(files[rule.allow], device_rule_line(rule).encode())
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, "set the device rules of", directory) from error
    finally:
        for fd in files.values():
            os.close(fd)


def device_rule_line(rule: DeviceRule) -> str:
    """A rule as devices.allow and devices.deny take it, such as "c 136:* rwm"."""
    if rule.kind == "a":
        return "a"
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return f"{rule.kind} {major}:{minor} {rule.access}"


SETTERS: Mapping[str, Callable[[str, Resources], None]] = {
    "memory": set_memory,
    "cpu": set_cpu,
    "cpuset": set_cpuset,
    "pids": set_pids,
    "blkio": set_blkio,
    "devices": set_devices,
}


def read_cpu(cpu: str | None, cpuacct: str | None) -> CpuStats:
    """``cpu`` and ``cpuacct`` are those controllers' directories, often the same one."""
    quota = read_numbers(f"{cpu}/cpu.stat") if cpu else {}
    if cpuacct is None:
        return CpuStats()
    spent = read_numbers(f"{cpuacct}/cpuacct.stat")
    return CpuStats(
        total=int(read(f"{cpuacct}/cpuacct.usage")),
        user=spent.get("user", 0) * NANOSECONDS_PER_TICK,
        system=spent.get("system", 0) * NANOSECONDS_PER_TICK,
        per_cpu=tuple(int(usage) for usage in read(f"{cpuacct}/cpuacct.usage_percpu").split()),
        periods=quota.get("nr_periods", 0),
        throttled_periods=quota.get("nr_throttled", 0),
        throttled_time=quota.get("throttled_time", 0),
    )


def read_memory(directory: str) -> MemoryStats:
    """Usage, peak, limit and memory.stat."""
    limit = _limit(directory)
    return MemoryStats(
        usage=int(read(f"{directory}/memory.usage_in_bytes")),
        peak=int(read(f"{directory}/memory.max_usage_in_bytes")),
        limit=None if limit >= NO_LIMIT else limit,
        failures=int(read(f"{directory}/memory.failcnt")),
        detail=read_numbers(f"{directory}/memory.stat"),
    )


def read_pids(directory: str) -> PidsStats:
    """Reads how many there are in the cgroup and those below it."""
    return PidsStats(current=int(read(f"{directory}/pids.current")), limit=read_number(f"{directory}/pids.max"))


def read_blkio(directory: str) -> BlkioStats:
    """Reads the scheduler that counted anything: bfq, cfq (up to Linux 4.20), or the throttling layer."""
    for prefix in ("blkio.bfq.", "blkio.", "blkio.throttle."):
        path = f"{directory}/{prefix}io_service_bytes_recursive"
        if os.path.exists(path) and (entries := _blkio_entries(path)):
            return BlkioStats(
                service_bytes=entries, serviced=_blkio_entries(f"{directory}/{prefix}io_serviced_recursive")
            )
    return BlkioStats()


def _blkio_entries(path: str) -> tuple[BlkioEntry, ...]:
    """Lines "8:0 Read 4096"; the last one, "Total 4096", is of all devices and left out."""
    entries = []
    for line in read(path).splitlines():
        device, _, counter = line.partition(" ")
        major, colon, minor = device.partition(":")
        if colon:
            op, _, value = counter.partition(" ")
            entries.append(BlkioEntry(int(major), int(minor), op, int(value)))
    return tuple(entries)


def read_stats(directories: Mapping[str, str]) -> Stats:
    """``directories`` maps each controller to the cgroup's directory in its hierarchy."""
    memory, pids, blkio = (directories.get(controller) for controller in ("memory", "pids", "blkio"))
    return Stats(
        cpu=read_cpu(directories.get("cpu"), directories.get("cpuacct")),
        memory=read_memory(memory) if memory else MemoryStats(),
        pids=read_pids(pids) if pids else PidsStats(),
        blkio=read_blkio(blkio) if blkio else BlkioStats(),
    )
