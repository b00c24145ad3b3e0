"""`update`: a container's limits and its restart policy."""

from __future__ import annotations

from wherry.cli.command import CommandError, Session, command, for_each
from wherry.cli.container_config import RESOURCES, restart_policy, taken
from wherry.cli.container_flags import some
from wherry.cli.flags import Options, integer, size, string, swap
from wherry.client.client import container_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
        answer = session.client.post(container_path(name, "update"), body)
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
