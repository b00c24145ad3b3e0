"""The flags of `run` and `create`: all of docker's. What they make is in container_config.py.

The language of each flag is in syntax/, and is loaded when the flag is used.
"""

from __future__ import annotations

import os

from wherry.cli.commands import syntax
from wherry.cli.container_config import RESOURCES, restart_policy, taken
from wherry.cli.session import CommandError, Session, command, for_each
from wherry.common import values
from wherry.common.flags import (
    Flag,
    Options,
    content_trust,
    duration,
    integer,
    pairs,
    size,
    string,
    strings,
    swap,
    switch,
    ulimits,
    unsigned,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _items(name: str, usage: str, place: str, kind: str = "list", **more: Any) -> Flag:
    """A list of what a function of syntax/ makes of each text."""
    parse = syntax(place)
    return Flag(name, "", usage, kind, [], lambda text, so_far: [*so_far, parse(text)], **more)


ULIMIT = ulimits("ulimit", "Ulimit options")

COMMON = [
    strings("add-host", "", "Add a custom host-to-IP mapping (host:ip)", syntax("networks.extra_host")),
    pairs("annotation", "", "Add an annotation to the container (passed through to the OCI runtime)"),
    strings("attach", "a", "Attach to STDIN, STDOUT or STDERR", syntax("process.attached")),
    unsigned("blkio-weight", "", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
             bits=16),
    _items("blkio-weight-device", "Block IO weight (relative device weight)", "devices.weight", show="[]"),
    strings("cap-add", "", "Add Linux capabilities"),
    strings("cap-drop", "", "Drop Linux capabilities"),
    string("cgroup-parent", "", "Optional parent cgroup for the container"),
    string("cgroupns", "", """Cgroup namespace to use (host|private)
'host':    Run the container in the Docker host's cgroup namespace
'private': Run the container in its own private cgroup namespace
'':        Use the cgroup namespace as configured by the
           default-cgroupns-mode option on the daemon (default)"""),
    string("cidfile", "", "Write the container ID to the file"),
    integer("cpu-count", "", "CPU count (Windows only)", hidden=True),
    integer("cpu-percent", "", "CPU percent (Windows only)", hidden=True),
    integer("cpu-period", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
    integer("cpu-quota", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    integer("cpu-rt-period", "", "Limit CPU real-time period in microseconds"),
    integer("cpu-rt-runtime", "", "Limit CPU real-time runtime in microseconds"),
    integer("cpu-shares", "c", "CPU shares (relative weight)"),
    Flag("cpus", "", "Number of CPUs", "decimal", 0, lambda text, _: values.parse_cpus(text)),
    string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
    string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
    strings("device", "", "Add a host device to the container"),
    strings("device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list", syntax("devices.cgroup_rule")),
    _items("device-read-bps", "Limit read rate (bytes per second) from a device", "devices.bytes_per_second",
           show="[]"),
    _items("device-read-iops", "Limit read rate (IO per second) from a device", "devices.operations_per_second",
           show="[]"),
    _items("device-write-bps", "Limit write rate (bytes per second) to a device", "devices.bytes_per_second",
           show="[]"),
    _items("device-write-iops", "Limit write rate (IO per second) to a device", "devices.operations_per_second",
           show="[]"),
    content_trust("Skip image verification"),
    strings("dns", "", "Set custom DNS servers", syntax("networks.ip_address")),
    strings("dns-opt", "", "Set DNS options", hidden=True, store="dns-option"),
    strings("dns-option", "", "Set DNS options"),
    strings("dns-search", "", "Set custom DNS search domains", values.parse_domain),
    string("domainname", "", "Container NIS domain name"),
    string("entrypoint", "", "Overwrite the default ENTRYPOINT of the image"),
    strings("env", "e", "Set environment variables", syntax("process.environment")),
    strings("env-file", "", "Read in a file of environment variables"),
    strings("expose", "", "Expose a port or a range of ports"),
    _items("gpus", "GPU devices to add to the container ('all' to pass all GPUs)", "devices.parse_gpus", "gpu-request"),
    strings("gidmap", "", "Map group IDs into a user namespace (CONTAINER:HOST:SIZE)"),
    strings("group-add", "", "Add additional groups to join"),
    string("health-cmd", "", "Command to run to check health"),
    duration("health-interval", "", "Time between running the check (ms|s|m|h) (default 0s)"),
    integer("health-retries", "", "Consecutive failures needed to report unhealthy"),
    duration("health-start-interval", "",
             "Time between running the check during the start period (ms|s|m|h) (default 0s)"),
    duration("health-start-period", "",
             "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) "
             "(default 0s)"),
    duration("health-timeout", "", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    switch("help", "", "Print usage"),
    string("hostname", "h", "Container host name"),
    switch("init", "", "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", "i", "Keep STDIN open even if not attached"),
    size("io-maxbandwidth", "", "Maximum IO bandwidth limit for the system drive (Windows only)", hidden=True),
    unsigned("io-maxiops", "", "Maximum IOps limit for the system drive (Windows only)", hidden=True),
    string("ip", "", "IPv4 address (e.g., 172.30.100.104)"),
    string("ip6", "", "IPv6 address (e.g., 2001:db8::33)"),
    string("ipc", "", "IPC mode to use"),
    string("isolation", "", "Container isolation technology"),
    size("kernel-memory", "", "Kernel memory limit"),
    strings("label", "l", "Set meta data on a container", syntax("process.label")),
    strings("label-file", "", "Read in a line delimited file of labels"),
    strings("link", "", "Add link to another container", syntax("networks.link")),
    strings("link-local-ip", "", "Container IPv4/IPv6 link-local addresses"),
    string("log-driver", "", "Logging driver for the container"),
    strings("log-opt", "", "Log driver options"),
    string("mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    size("memory", "m", "Memory limit"),
    size("memory-reservation", "", "Memory soft limit"),
    swap("Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    integer("memory-swappiness", "", "Tune container memory swappiness (0 to 100)", default=-1),
    _items("mount", "Attach a filesystem mount to the container", "mounts.parse_mount", "mount"),
    string("name", "", "Assign a name to the container"),
    _items("net", "Connect a container to a network", "networks.parse_network", hidden=True, store="network"),
    strings("net-alias", "", "Add network-scoped alias for the container", hidden=True, store="network-alias"),
    _items("network", "Connect a container to a network", "networks.parse_network", "network"),
    strings("network-alias", "", "Add network-scoped alias for the container"),
    switch("no-healthcheck", "", "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", "", "Disable OOM Killer"),
    integer("oom-score-adj", "", "Tune host's OOM preferences (-1000 to 1000)"),
    string("pid", "", "PID namespace to use"),
    integer("pids-limit", "", "Tune container pids limit (set -1 for unlimited)"),
    string("platform", "", "Set platform if server is multi-platform capable",
           os.environ.get("DOCKER_DEFAULT_PLATFORM", "")),
    switch("privileged", "", "Give extended privileges to this container"),
    strings("publish", "p", "Publish a container's port(s) to the host"),
    switch("publish-all", "P", "Publish all exposed ports to random ports"),
    switch("quiet", "q", "Suppress the pull output"),
    switch("read-only", "", "Mount the container's root filesystem as read only"),
    string("restart", "", "Restart policy to apply when a container exits", default="no"),
    switch("rm", "", "Automatically remove the container and its associated anonymous volumes when it exits"),
    string("runtime", "", "Runtime to use for this container"),
    strings("security-opt", "", "Security Options"),
    size("shm-size", "", "Size of /dev/shm"),
    string("stop-signal", "", "Signal to stop the container"),
    integer("stop-timeout", "", "Timeout (in seconds) to stop a container"),
    strings("storage-opt", "", "Storage driver options for the container"),
    pairs("sysctl", "", "Sysctl options", syntax("process.sysctl")),
    strings("tmpfs", "", "Mount a tmpfs directory"),
    switch("tty", "t", "Allocate a pseudo-TTY"),
    ULIMIT,
    switch("use-api-socket", "", "Bind mount Docker API socket and required auth"),
    strings("uidmap", "", "Map user IDs into a user namespace (CONTAINER:HOST:SIZE)"),
    string("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
    string("userns", "", "User namespace to use"),
    string("uts", "", "UTS namespace to use"),
    strings("volume", "v", "Bind mount a volume"),
    string("volume-driver", "", "Optional volume driver for the container"),
    strings("volumes-from", "", "Mount volumes from the specified container(s)"),
    string("workdir", "w", "Working directory inside the container"),
]  # fmt: skip


def some(names: str) -> list[Flag]:
    """The flags that other commands have, too, in the same words."""
    return [flag for flag in COMMON if flag.name in names.split()]


# `update`: a container's limits and its restart policy.

# What stays as it is in the container, whatever is given here.
_NULLS = """
    BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps Devices
    DeviceCgroupRules DeviceRequests MemorySwappiness OomKillDisable Ulimits
"""
_ZEROS = "CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth"


@command(
    *some("blkio-weight cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems memory memory-reservation "
          "pids-limit"),
    integer("cpu-rt-period", "", "Limit the CPU real-time period in microseconds"),
    integer("cpu-rt-runtime", "", "Limit the CPU real-time runtime in microseconds"),
    size("kernel-memory", "", "Kernel memory limit (deprecated)", hidden=True),
    swap("Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    string("restart", "", "Restart policy to apply when a container exits"),
)  # fmt: skip
def run_update(session: Session, options: Options) -> None:
    if not options.count:
        raise CommandError("you must provide one or more flags when using this command")
    body = _body(options)
    warnings: list[str] = []

    def update(name: str) -> None:
        answer = session.client.containers.update(name, body)
        warnings.extend((answer or {}).get("Warnings") or ())

    try:
        for_each(options.arguments, update)
    finally:
        if warnings:
            print("\n".join(warnings))


def _body(options: Options) -> dict[str, Any]:
    """Every field of the API's update; what is empty stays as it is in the container."""
    try:
        policy = restart_policy(options["restart"])
    except ValueError as error:
        raise CommandError(str(error)) from None
    return {
        **dict.fromkeys(_NULLS.split()),
        **dict.fromkeys(_ZEROS.split(), 0),
        **taken(options, RESOURCES),
        "CgroupParent": "",
        "PidsLimit": options["pids-limit"] or None,
        "RestartPolicy": policy,
        **({"KernelMemory": options["kernel-memory"]} if options["kernel-memory"] else {}),
    }
