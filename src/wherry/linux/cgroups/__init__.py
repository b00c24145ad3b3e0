"""Control groups: what a container may use, what it has used, and a handle to freeze or end all of it at once."""

from wherry.linux.cgroups.cgroup import Cgroup
from wherry.linux.cgroups.hierarchies import FEATURES, Hierarchies
from wherry.linux.cgroups.types import (
    ALL_DEVICES,
    DEFAULT_DEVICE_RULES,
    BlkioEntry,
    BlkioStats,
    CgroupError,
    CpuStats,
    DeviceRule,
    MemoryStats,
    PidsStats,
    Resources,
    Stats,
    ThrottleDevice,
    host_cpu_time,
)

__all__ = [
    "ALL_DEVICES",
    "DEFAULT_DEVICE_RULES",
    "FEATURES",
    "BlkioEntry",
    "BlkioStats",
    "Cgroup",
    "CgroupError",
    "CpuStats",
    "DeviceRule",
    "Hierarchies",
    "MemoryStats",
    "PidsStats",
    "Resources",
    "Stats",
    "ThrottleDevice",
    "host_cpu_time",
]
