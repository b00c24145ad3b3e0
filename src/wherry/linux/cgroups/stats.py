"""What a cgroup has used. The same structs for v1 and v2; what one of them does not count stays empty."""

import msgspec


class CpuStats(msgspec.Struct, frozen=True):
    """Nanoseconds of processor time, and how often a quota held the cgroup back."""

    total: int = 0
    user: int = 0
    system: int = 0
    per_cpu: tuple[int, ...] = ()  # v1 only
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0  # nanoseconds


class MemoryStats(msgspec.Struct, frozen=True):
    """Bytes. ``limit`` is None where there is none; ``detail`` is memory.stat, in which v1 and v2 differ."""

    usage: int = 0
    peak: int = 0
    limit: int | None = None
    failures: int = 0  # v1: times that the limit was hit; v2: times that this ended in the OOM killer's hands
    detail: dict[str, int] = {}


class PidsStats(msgspec.Struct, frozen=True):
    """Processes and threads. ``limit`` is None where there is none."""

    current: int = 0
    limit: int | None = None


class BlkioEntry(msgspec.Struct, frozen=True):
    """One counter of one block device; ``op`` is Read, Write, Sync, Async, Discard, Total on v1, read, write on v2."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(msgspec.Struct, frozen=True):
    """Of the cgroup and everything below it: bytes moved, and operations."""

    service_bytes: tuple[BlkioEntry, ...] = ()
    serviced: tuple[BlkioEntry, ...] = ()


class Stats(msgspec.Struct, frozen=True):
    """All that is counted, as of one moment. A part whose controller is not there is all zeros."""

    cpu: CpuStats = CpuStats()
    memory: MemoryStats = MemoryStats()
    pids: PidsStats = PidsStats()
    blkio: BlkioStats = BlkioStats()


def host_cpu_time(proc: str = "/proc") -> tuple[int, int]:
    """Nanoseconds that all processors of the machine have spent since it started, idle included; and their number.

    The counters user, nice, system, idle, iowait, irq, softirq and steal of /proc/stat, in ticks of 1/100 s; guest time
    is already part of user.
    """
    total = cpus = 0
    with open(f"{proc}/stat") as stat:
        for line in stat:
            if not line.startswith("cpu"):
                break
            name, *ticks = line.split()
            if name == "cpu":
                total = sum(int(tick) for tick in ticks[:8]) * 10_000_000
            else:
                cpus += 1
    return total, cpus
