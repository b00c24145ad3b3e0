"""Limits where no cgroups are to be had: an ordinary user's engine has those alone that were delegated to it."""

from wherry.model.container import HostConfig

_NOT_MOUNTED = "or the cgroup is not mounted"
_DISCARDED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("memory", "memory_swap"), f"memory limit capabilities {_NOT_MOUNTED}. Limitation discarded."),
    (("memory_reservation",), f"memory soft limit capabilities {_NOT_MOUNTED}. Limitation discarded."),
    (("memory_swappiness",), f"memory swappiness capabilities {_NOT_MOUNTED}. Memory swappiness discarded."),
    (("oom_kill_disable",), "OomKillDisable. OomKillDisable discarded."),
    (("pids_limit",), f"PIDs limit capabilities {_NOT_MOUNTED}. PIDs limit discarded."),
    (("nano_cpus", "cpu_period", "cpu_quota"), "CPU CFS scheduler. CPU period/quota discarded."),
    (("cpu_realtime_period", "cpu_realtime_runtime"), "CPU real-time scheduler. CPU real-time settings discarded."),
    (("cpu_shares",), f"CPU shares {_NOT_MOUNTED}. Shares discarded."),
    (("cpuset_cpus", "cpuset_mems"), f"cpuset {_NOT_MOUNTED}. Cpuset discarded."),
    (("blkio_weight",), f"Block I/O weight {_NOT_MOUNTED}. Weight discarded."),
    (("blkio_weight_device",), f"Block I/O weight_device {_NOT_MOUNTED}. Weight-device discarded."),
    (("blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops", "blkio_device_write_iops"),
     f"Block I/O limits {_NOT_MOUNTED}. Block I/O limits discarded."),
    (("device_cgroup_rules",), f"device rules {_NOT_MOUNTED}. Device cgroup rules discarded."),
)  # fmt: skip
_NOTHING = HostConfig()


def discard(host: HostConfig) -> list[str]:
    """Takes away what cgroups would do; a warning for each, in Docker's words."""
    warnings = []
    for fields, text in _DISCARDED:
        if any(getattr(host, field) for field in fields):
            warnings.append(f"Your kernel does not support {text}")
        for field in fields:
            setattr(host, field, getattr(_NOTHING, field))
    return warnings
