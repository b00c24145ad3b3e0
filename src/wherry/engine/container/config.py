"""Makes a container's configuration of what a user asked for and what the image says."""

import functools
import ipaddress
import os
import signal
from collections.abc import Sequence, Set
from typing import TypeVar

import msgspec

from wherry.common.errors import Conflict, EngineError, InvalidParameter
from wherry.common.settings import RUNTIMES
from wherry.common.values import clean_path
from wherry.engine.config import EngineConfig
from wherry.linux import user_namespaces
from wherry.linux.user_namespaces import Extent
from wherry.model.container import Container, ContainerConfig, HealthConfig, HostConfig, LogConfig, RestartPolicy
from wherry.model.network import Network, NetworkingConfig

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_T = TypeVar("_T")
_NUMBER_AT_MOST = 8192  # of a processor or a memory node, as in Docker; whoever asks for more means harm
_MINIMUM_MEMORY = 6 << 20
_MILLISECOND = 1_000_000
_REAL_TIME = {f"RTMIN+{offset}": signal.SIGRTMIN + offset for offset in range(1, 16)} | {
    f"RTMAX-{offset}": signal.SIGRTMAX - offset for offset in range(1, 15)
}
_RESTART_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


def merge(asked: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """What was asked for, completed by what the image says. The rules are Docker's: a new entrypoint drops the image's
    command, lists of names add up, anything else of the user's replaces the image's."""
    config = msgspec.structs.replace(asked)
    config.user = asked.user or image.user
    config.working_dir = asked.working_dir or image.working_dir
    if config.working_dir.startswith("/"):
        config.working_dir = clean_path(config.working_dir)
    config.env = _merge_environment(asked.env or [], image.env or [])
    config.labels = _sorted(image.labels | asked.labels)
    if asked.exposed_ports or image.exposed_ports:
        config.exposed_ports = _sorted((image.exposed_ports or {}) | (asked.exposed_ports or {}))
    config.volumes = _sorted((image.volumes or {}) | (asked.volumes or {})) or None
    if not asked.entrypoint:
        config.cmd = asked.cmd or image.cmd
        if asked.entrypoint is None:
            config.entrypoint = image.entrypoint
    if config.entrypoint == [""]:
        config.entrypoint = None
    config.stop_signal = asked.stop_signal or image.stop_signal
    config.stop_timeout = asked.stop_timeout if asked.stop_timeout is not msgspec.UNSET else image.stop_timeout
    config.shell = asked.shell or image.shell
    config.healthcheck = _merge_health(asked.healthcheck, image.healthcheck)
    return config


def _sorted(names: dict[str, _T]) -> dict[str, _T]:
    """A mapping in the order of Go's JSON, which is what ``inspect`` shows."""
    return dict(sorted(names.items()))


def _merge_environment(asked: list[str], image: list[str]) -> list[str]:
    names = {entry.partition("=")[0] for entry in asked}
    return asked + [entry for entry in image if entry.partition("=")[0] not in names]


def _merge_health(
    asked: HealthConfig | msgspec.UnsetType, image: HealthConfig | msgspec.UnsetType
) -> HealthConfig | msgspec.UnsetType:
    if not isinstance(asked, HealthConfig) or not isinstance(image, HealthConfig):
        return asked if isinstance(asked, HealthConfig) else image
    return HealthConfig(
        test=asked.test or image.test,
        interval=asked.interval or image.interval,
        timeout=asked.timeout or image.timeout,
        start_period=asked.start_period or image.start_period,
        start_interval=asked.start_interval or image.start_interval,
        retries=asked.retries or image.retries,
    )


def command_line(config: ContainerConfig) -> list[str]:
    """Entrypoint and command in one. Raises InvalidParameter when both are empty."""
    arguments = [*(config.entrypoint or []), *(config.cmd or [])]
    if not arguments:
        raise InvalidParameter("no command specified")
    return arguments


def check_config(config: ContainerConfig) -> None:
    """Raises InvalidParameter for what no container can be made with."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    check_environment(config.env)
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if isinstance(config.healthcheck, HealthConfig):
        _check_health(config.healthcheck)


def check_environment(entries: Sequence[str] | None) -> None:
    for entry in entries or ():
        if entry.startswith("=") or not entry:
            raise InvalidParameter(f"invalid environment variable: {entry}")


def _check_health(health: HealthConfig) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MILLISECOND:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL", ""):
        raise InvalidParameter(f"Unknown healthcheck type '{health.test[0]}' (expected 'CMD')")


def log_config(asked: HostConfig, engine: EngineConfig) -> LogConfig:
    """Which log driver a container gets: the one that was asked for, or the engine's, with the engine's options."""
    driver = asked.log_config.type or engine.log_driver
    options = engine.log_opts if driver == engine.log_driver else {}
    return LogConfig(driver, options | asked.log_config.config)


def complete_host_config(asked: HostConfig, engine: EngineConfig) -> HostConfig:
    """The host configuration with every default filled in, as ``inspect`` shows it. Raises InvalidParameter."""
    host = msgspec.structs.replace(asked)
    host.network_mode = "bridge" if asked.network_mode in ("", "default") else asked.network_mode
    host.ipc_mode = asked.ipc_mode or engine.default_ipc_mode
    host.cgroupns_mode = asked.cgroupns_mode or (
        "host" if asked.privileged else engine.default_cgroupns_mode or "private"
    )
    host.shm_size = asked.shm_size or engine.default_shm_size
    host.runtime = asked.runtime or engine.default_runtime
    host.cgroup_parent = asked.cgroup_parent or engine.cgroup_parent
    host.log_config = log_config(asked, engine)
    host.oom_kill_disable = bool(asked.oom_kill_disable)
    if asked.memory_swappiness == -1:  # what the docker CLI sends for not said
        host.memory_swappiness = None
    if asked.pids_limit is not None and asked.pids_limit <= 0:
        host.pids_limit = None
    if not asked.restart_policy.name:
        host.restart_policy = msgspec.structs.replace(asked.restart_policy, name="no")
    if asked.memory > 0 and asked.memory_swap == 0:
        host.memory_swap = asked.memory * 2
    if asked.masked_paths is None:
        host.masked_paths = [] if asked.privileged else list(MASKED_PATHS)
    if asked.readonly_paths is None:
        host.readonly_paths = [] if asked.privileged else list(READONLY_PATHS)
    _apply_security_options(host)
    _check_host_config(host)
    return host


def _apply_security_options(host: HostConfig) -> None:
    for option in host.security_opt or []:
        if option in ("systempaths=unconfined", "systempaths:unconfined"):
            host.masked_paths, host.readonly_paths = [], []


def _check_host_config(host: HostConfig) -> None:
    check_restart_policy(host.restart_policy)
    if host.auto_remove and host.restart_policy.name != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host.oom_score_adj < -1000 or host.oom_score_adj > 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.isolation not in ("", "default"):
        raise EngineError(f"Invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    for name in host.storage_opt or {}:
        if name != "size":
            raise EngineError(f"Unknown option {name}")
        raise EngineError("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if "" in (host.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    for what, limit in (("bandwidth", host.io_maximum_bandwidth), ("IOPs", host.io_maximum_iops)):
        if limit:
            raise EngineError(f"Invalid QoS settings: linux does not support configuration of maximum {what}")
    if min(host.console_size) < 0:
        raise InvalidParameter(f"invalid console size: {list(host.console_size)}")
    if host.runtime not in RUNTIMES:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")
    check_resources(host)
    for entry in host.extra_hosts or ():
        _check_extra_host(entry)
    for kind, mode, allowed in (
        ("IPC", host.ipc_mode, ("none", "private", "shareable", "host", "container")),
        ("PID", host.pid_mode, ("", "host", "private", "container")),
        ("UTS", host.uts_mode, ("", "host", "private")),
        ("cgroup namespace", host.cgroupns_mode, ("host", "private")),
    ):
        name, _, container = mode.partition(":")
        if name not in allowed or (name == "container") != bool(container):
            raise InvalidParameter(f"invalid {kind} mode: {mode}")


def _check_extra_host(entry: str) -> None:
    name, _, address = entry.partition(":")
    if not name or not address:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != "host-gateway":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None


def check_restart_policy(policy: RestartPolicy) -> None:
    """Raises InvalidParameter in Docker's words."""
    if policy.name not in _RESTART_POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidParameter("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")


def check_resources(host: HostConfig) -> None:
    """Raises InvalidParameter for limits that contradict themselves, in Docker's words."""
    if host.memory != 0 and host.memory < _MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and 0 <= host.memory_swap < host.memory and host.memory_swap != 0:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < host.memory_reservation < _MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if host.memory_reservation and host.memory and host.memory < host.memory_reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    for name, limit in (("Period", host.cpu_period), ("Quota", host.cpu_quota)):
        if host.nano_cpus and limit:
            raise InvalidParameter(f"Conflicting options: Nano CPUs and CPU {name} cannot both be set")
    processors = os.sched_getaffinity(0)
    if not 0 <= host.nano_cpus <= len(processors) * 1_000_000_000:
        raise InvalidParameter(
            f"Range of CPUs is from 0.01 to {len(processors)}.00, as there are only {len(processors)} CPUs available"
        )
    _check_set("CPUs", "cpus", host.cpuset_cpus, processors)
    _check_set("memory nodes", "mems", host.cpuset_mems, _memory_nodes())
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if 0 < host.cpu_realtime_period < host.cpu_realtime_runtime:
        raise EngineError("cpu real-time runtime cannot be higher than cpu real-time period")
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")


def _check_set(what: str, name: str, asked: str, available: Set[int]) -> None:
    """ "0-2,4": of processors, or of memory nodes."""
    if not asked:
        return
    try:
        wanted = parse_set(asked)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value {asked} for cpuset {name}: {error}") from None
    if not wanted <= available:
        there = write_set(available)
        raise InvalidParameter(f"Requested {what} are not available - requested {asked}, available: {there}")


def parse_set(text: str) -> Set[int]:
    """The kernel's lists of numbers, "0-2,4". Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise ValueError(f"invalid format: {text}")
        if len(last) > 5 or int(last) > _NUMBER_AT_MOST:
            raise ValueError(f"value of out range, maximum is {_NUMBER_AT_MOST}")
        if len(first) > 5 or int(first) > int(last):
            raise ValueError(f"invalid format: {text}")
        found.update(range(int(first), int(last) + 1))
    return found


def write_set(numbers: Set[int]) -> str:
    """The same, the other way: "0-2,4"."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True)
    )


@functools.cache
def _memory_nodes() -> Set[int]:
    """This machine's memory nodes; only the first where the kernel does not say."""
    try:
        with open("/sys/devices/system/node/online", encoding="ascii") as file:
            return parse_set(file.read())
    except (OSError, ValueError):
        return {0}


def parse_signal(name: str) -> int:
    """The number of "SIGTERM", "term", "RTMIN+3" or "15", also of one that no kernel has. Raises InvalidParameter."""
    digits = name.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        number = int(digits)
    else:
        upper = name.upper().removeprefix("SIG")
        found = getattr(signal, f"SIG{upper}", None)
        number = int(found) if isinstance(found, signal.Signals) else _REAL_TIME.get(upper, 0)
    if number < 1:
        raise InvalidParameter(f"invalid signal: {name}")
    return number


# ``--sysctl``: settings of the kernel that a container can have of its own, since they belong to a namespace.

_LAST_GROUP = 2147483647
_OF_IPC = {
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"),
    *("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
}


def check_sysctls(host: HostConfig) -> None:
    """Raises InvalidParameter for a setting of the host's, which no container may change."""
    for text in host.sysctls or {}:
        name = text.replace("/", ".")
        if name.startswith("net."):
            kind, mode = "network", host.network_mode
        elif name in _OF_IPC or name.startswith("fs.mqueue."):
            kind, mode = "IPC", host.ipc_mode
        elif name == "kernel.domainname":
            kind, mode = "UTS", host.uts_mode or host.network_mode  # with the host's network goes its UTS namespace
        else:
            raise InvalidParameter(f'sysctl "{text}" is not in a separate kernel namespace')
        if mode == "host":
            raise InvalidParameter(f'sysctl "{text}" not allowed in host {kind} namespace')


def complete_sysctls(host: HostConfig, groups: Sequence[Extent] = ()) -> dict[str, str]:
    """Docker's, that let a container's user bind any port and ping, and the user's own."""
    if host.network_mode == "host" or host.network_mode.startswith("container:"):
        return dict(host.sysctls or {})
    last = min(_LAST_GROUP, user_namespaces.last_group(groups))
    of_every = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {last}"}
    return of_every | (host.sysctls or {})


# What cannot be asked of a container that has no network of its own: it shares the host's, or another container's.


def check_network_mode(config: ContainerConfig, host: HostConfig, networking: NetworkingConfig) -> None:
    """Checks a creation; ``config`` is what was asked for, without what the image says. Raises InvalidParameter."""
    joins, _, target = host.network_mode.partition(":")
    shared = joins == "container"
    if shared and not target:
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    endpoints = [each for each in networking.endpoints_config.values() if each is not None]
    published = host.port_bindings or host.publish_all_ports
    has_mac = bool(config.mac_address) or any(each.mac_address for each in endpoints)
    undefined = "can't be used with links. This would result in undefined behavior"
    conflicts = {
        "hostname and the network mode": shared and config.hostname,
        f"container type network {undefined}": shared and host.links,
        "dns and the network mode": shared and host.dns,
        "custom host-to-IP mapping and the network mode": shared and host.extra_hosts,
        "port publishing and the container type network mode": shared and published,
        "port exposing and the container type network mode": shared and config.exposed_ports,
        "hostname and the UTS mode": host.uts_mode == "host" and config.hostname,
        f"host type networking {undefined}": host.network_mode == "host" and host.links,
        "mac-address and the network mode": (shared or host.network_mode == "host") and has_mac,
    }
    for what, holds in conflicts.items():
        if holds:
            raise InvalidParameter(f"conflicting options: {what}")
    if shared and any(each.ipam_config for each in endpoints):
        raise InvalidParameter("user specified IP address is supported on user defined networks only")


def check_connect(record: Container, network: Network) -> None:
    """Raises InvalidParameter and Conflict."""
    mode = record.host_config.network_mode
    if network.driver == "host" or mode == "host":
        raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
    if mode.startswith("container:"):
        raise Conflict(
            "container sharing network namespace with another container or host cannot be connected to any other "
            "network"
        )
    if network.driver == "null" or "none" in record.networks:
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
