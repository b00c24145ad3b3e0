"""Reading and writing the small files that cgroups are made of.

Every one of them is a system call away from the kernel, and a container start touches dozens: so plain os calls, no
buffered file objects (which cost three times as much).
"""

import errno
import os

import msgspec

from wherry.linux.syscalls import SyscallError


class CgroupError(SyscallError):
    """A cgroup could not be made, limited, entered or removed. Its text says which, and what the kernel answered."""


def read(path: str) -> str:
    """What the file says, without the final newline. FileNotFoundError when the kernel has no such file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode().rstrip("\n")
    finally:
        os.close(fd)


def read_number(path: str) -> int | None:
    """The number in the file; None for "max", which is how v2 says that there is no limit."""
    text = read(path)
    return None if text == "max" else int(text)


def read_numbers(path: str) -> dict[str, int]:
    """A file of lines "key number", such as memory.stat."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in read(path).splitlines())}


def write(path: str, value: str | int) -> None:
    """Writes the value in one call, as cgroup files demand. Raises CgroupError with the kernel's answer."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        if os.path.isdir(os.path.dirname(path)):
            raise CgroupError(errno.ENOENT, "write", path, detail="this kernel does not offer this limit") from error
        raise CgroupError(errno.ENOENT, "write", path) from error
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, f"write {str(value)!r} to", path) from error


# What a cgroup may be limited to. Plain data: the runtime's spec carries it, and so does an update.


class DeviceRule(msgspec.Struct, frozen=True):
    """One rule of the device cgroup. ``kind`` is a, b or c; a number of None is every number; ``access`` out of rwm."""

    allow: bool
    kind: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class ThrottleDevice(msgspec.Struct, frozen=True):
    """A limit on one block device; ``rate`` in bytes a second, operations a second, or a weight."""

    major: int
    minor: int
    rate: int


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of a cgroup; None leaves what is. Bytes, microseconds, counts; v1's units where the versions differ."""

    memory: int | None = None  # -1 is no limit
    memory_swap: int | None = None  # memory and swap together; -1 is no limit
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None  # -1 is no limit
    cpu_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpu_rt_period: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None  # -1 is no limit
    blkio_weight: int | None = None
    blkio_weight_device: tuple[ThrottleDevice, ...] = ()
    blkio_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_read_iops: tuple[ThrottleDevice, ...] = ()
    blkio_write_iops: tuple[ThrottleDevice, ...] = ()
    devices: tuple[DeviceRule, ...] = ()


DEFAULT_DEVICE_RULES = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, kind="c", access="m"),  # a node that may be made but not opened is of no use to anyone
    DeviceRule(allow=True, kind="b", access="m"),
    DeviceRule(allow=True, kind="c", major=1, minor=3),  # null
    DeviceRule(allow=True, kind="c", major=1, minor=5),  # zero
    DeviceRule(allow=True, kind="c", major=1, minor=7),  # full
    DeviceRule(allow=True, kind="c", major=1, minor=8),  # random
    DeviceRule(allow=True, kind="c", major=1, minor=9),  # urandom
    DeviceRule(allow=True, kind="c", major=5, minor=0),  # tty
    DeviceRule(allow=True, kind="c", major=5, minor=1),  # console
    DeviceRule(allow=True, kind="c", major=5, minor=2),  # ptmx
    DeviceRule(allow=True, kind="c", major=136),  # pts/*
    DeviceRule(allow=True, kind="c", major=10, minor=200),  # net/tun, whose tunnels are of the network namespace
)
"""What a container that asked for no device may use: the nodes that every Linux program expects, as Docker has it."""

ALL_DEVICES = (DeviceRule(allow=True),)
"""For a privileged container."""


def needed_controllers(resources: Resources) -> list[str]:
    """The controllers, by their v1 names, without which these limits cannot be set; in the order to set them in."""
    r = resources
    wanted = {
        "memory": (r.memory, r.memory_swap, r.memory_reservation, r.memory_swappiness, r.oom_kill_disable or None),
        "cpu": (r.cpu_shares, r.cpu_quota, r.cpu_period, r.cpu_rt_runtime, r.cpu_rt_period),
        "cpuset": (r.cpuset_cpus, r.cpuset_mems),
        "pids": (r.pids,),
        "blkio": (
            r.blkio_weight,
            r.blkio_weight_device or None,
            r.blkio_read_bps or None,
            r.blkio_write_bps or None,
            r.blkio_read_iops or None,
            r.blkio_write_iops or None,
        ),
        "devices": (r.devices or None,),
    }
    return [controller for controller, values in wanted.items() if any(value is not None for value in values)]


# What a cgroup has used. The same structs for v1 and v2; what one of them does not count stays empty.


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
    """Bytes moved, and operations, of the cgroup and everything below it."""

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


# What both versions have alike


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
