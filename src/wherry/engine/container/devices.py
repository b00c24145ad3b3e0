"""Devices of the host in a container: the nodes to make, and what the device cgroup lets it do with them."""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence

from wherry.common.errors import InvalidParameter
from wherry.engine.container.cdi import is_name
from wherry.linux.cgroups import DEFAULT_DEVICE_RULES, DeviceRule
from wherry.model.container import DeviceMapping, HostConfig
from wherry.runtime.spec import Device

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_NOT_NODES = ("pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev")


def device_nodes(mappings: Sequence[DeviceMapping]) -> tuple[Device, ...]:
    """The nodes for ``--device``; a folder of the host's stands for all the nodes below it. Raises InvalidParameter."""
    return tuple(Device(source, path) for source, path, _ in _expand(mappings))


def privileged_nodes() -> tuple[Device, ...]:
    """Every device node of the host below /dev."""
    return tuple(Device(path, path) for path in _nodes_below("/dev"))


def cgroup_rules(mappings: Sequence[DeviceMapping], rules: Sequence[str]) -> tuple[DeviceRule, ...]:
    """The rules of the device cgroup: nothing, but for Docker's default, what was mapped, and what was said by hand."""
    found = list(DEFAULT_DEVICE_RULES)
    for source, _, access in _expand(mappings):
        status = os.stat(source)
        kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
        found.append(DeviceRule(True, kind, os.major(status.st_rdev), os.minor(status.st_rdev), access or "rwm"))
    return (*found, *parse_rules(rules))


def parse_rules(rules: Sequence[str]) -> Iterator[DeviceRule]:
    """ "c 1:3 rwm", ``--device-cgroup-rule``. Raises InvalidParameter."""
    for text in rules:
        match = _RULE.fullmatch(text)
        if match is None:
            raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
        kind, major, minor, access = match.groups()
        yield DeviceRule(True, kind, _number(major), _number(minor), access)


def block_device(path: str) -> tuple[int, int]:
    """The major and minor number of a block device. Raises InvalidParameter."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidParameter(f"no such device: {path}: {error.strerror}") from None
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidParameter(f"{path} is not a block device")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def discard_weights(host: HostConfig) -> list[str]:
    """Takes away the weights of devices whose scheduler does not go by any; a warning for them, in Docker's words."""
    wanted = host.blkio_weight_device
    host.blkio_weight_device = [device for device in wanted if _may_have_weights(device.path)]
    if len(host.blkio_weight_device) == len(wanted):
        return []
    return [
        "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
    ]


def _may_have_weights(path: str) -> bool:
    """bfq has them. The scheduler of a partition is its disk's. What is no block device may be one at the start."""
    try:
        major, minor = block_device(path)
    except InvalidParameter:
        return True
    for queue in ("queue", "../queue"):
        with contextlib.suppress(OSError), open(f"/sys/dev/block/{major}:{minor}/{queue}/scheduler") as file:
            return "[bfq]" in file.read()
    return False


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def _expand(mappings: Sequence[DeviceMapping]) -> Iterable[tuple[str, str, str]]:
    """(source, path in the container, access) of each node, but of devices that vendors' files describe."""
    for mapping in mappings:
        if is_name(mapping.path_on_host):
            continue
        source = os.path.realpath(mapping.path_on_host)
        target = mapping.path_in_container or mapping.path_on_host
        if _is_node(source):
            yield source, target, mapping.cgroup_permissions
        elif os.path.isdir(source):
            for node in _nodes_below(source):
                yield node, target + node[len(source) :], mapping.cgroup_permissions
        else:
            raise InvalidParameter(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                + ("not a device node" if os.path.exists(source) else "no such file or directory")
            )


def _nodes_below(directory: str) -> list[str]:
    found = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in _NOT_NODES:
                continue
            if entry.is_dir(follow_symlinks=False):
                found += _nodes_below(entry.path)
            elif not entry.is_symlink() and _is_node(entry.path):
                found.append(entry.path)
    return found


def _is_node(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


# Limits where no cgroups are to be had: an ordinary user's engine has those alone that were delegated to it.

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


def discard_limits(host: HostConfig) -> list[str]:
    """Takes away what cgroups would do; a warning for each, in Docker's words."""
    warnings = []
    for fields, text in _DISCARDED:
        if any(getattr(host, field) for field in fields):
            warnings.append(f"Your kernel does not support {text}")
        for field in fields:
            setattr(host, field, getattr(_NOTHING, field))
    return warnings
