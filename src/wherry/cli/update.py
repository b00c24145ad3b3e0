"""`wherry update`."""

from __future__ import annotations

from wherry.cli import values
from wherry.cli.command import Command, CommandError, at_least
from wherry.cli.flags import Flag, integer, size, string, unsigned
from wherry.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_update(session: Session, options: Options) -> None:
    from wherry.client.client import container_path

    if not options.count:
        raise CommandError("you must provide one or more flags when using this command")
    body = _body(options)
    warnings: list[str] = []
    errors: list[str] = []
    for name in options.arguments:
        try:
            answer = session.client.post(container_path(name, "update"), body)
        except ClientError as error:
            errors.append(str(error))
            continue
        print(name, flush=True)
        warnings += (answer or {}).get("Warnings") or ()
    if warnings:
        print("\n".join(warnings))
    if errors:
        raise CommandError("\n".join(errors))


def _body(options: Options) -> dict[str, Any]:
    """Every field of the API's update; what is empty stays as it is in the container."""
    from wherry.cli.syntax.process import restart_policy

    try:
        policy = restart_policy(options["restart"]) if options["restart"] else {"Name": "", "MaximumRetryCount": 0}
    except ValueError as error:
        raise CommandError(str(error)) from None
    body: dict[str, Any] = {
        "CpuShares": options["cpu-shares"],
        "Memory": options["memory"],
        "NanoCpus": options["cpus"],
        "CgroupParent": "",
        "BlkioWeight": options["blkio-weight"],
        "BlkioWeightDevice": None,
        "BlkioDeviceReadBps": None,
        "BlkioDeviceWriteBps": None,
        "BlkioDeviceReadIOps": None,
        "BlkioDeviceWriteIOps": None,
        "CpuPeriod": options["cpu-period"],
        "CpuQuota": options["cpu-quota"],
        "CpuRealtimePeriod": options["cpu-rt-period"],
        "CpuRealtimeRuntime": options["cpu-rt-runtime"],
        "CpusetCpus": options["cpuset-cpus"],
        "CpusetMems": options["cpuset-mems"],
        "Devices": None,
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": options["memory-reservation"],
        "MemorySwap": options["memory-swap"],
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "PidsLimit": options["pids-limit"] or None,
        "Ulimits": None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "RestartPolicy": policy,
    }
    return body | ({"KernelMemory": options["kernel-memory"]} if options["kernel-memory"] else {})


UPDATE = Command(
    "update [OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    run_update,
    flags=[
        unsigned(
            "blkio-weight", "", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)", bits=16
        ),
        integer("cpu-period", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
        integer("cpu-quota", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        integer("cpu-rt-period", "", "Limit the CPU real-time period in microseconds"),
        integer("cpu-rt-runtime", "", "Limit the CPU real-time runtime in microseconds"),
        integer("cpu-shares", "c", "CPU shares (relative weight)"),
        Flag("cpus", "", "Number of CPUs", "decimal", 0, lambda text, _: values.parse_cpus(text)),
        string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
        string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
        size("kernel-memory", "", "Kernel memory limit (deprecated)", hidden=True),
        size("memory", "m", "Memory limit"),
        size("memory-reservation", "", "Memory soft limit"),
        Flag(
            "memory-swap",
            "",
            "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
            "bytes",
            0,
            lambda text, _: values.parse_swap(text),
        ),
        integer("pids-limit", "", "Tune container pids limit (set -1 for unlimited)"),
        string("restart", "", "Restart policy to apply when a container exits"),
    ],
    arguments=at_least(1),
    aliases="wherry container update, wherry update",
)
