"""What a cgroup may be limited to. Plain data: the runtime's spec carries it, and so does an update."""

import msgspec


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
