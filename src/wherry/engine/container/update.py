"""``update``: new limits and another restart policy for a container, running or not."""

import asyncio
import errno
import os

import msgspec

from wherry.common.errors import Conflict, EngineError
from wherry.engine.container import spec
from wherry.engine.container.config import check_resources, check_restart_policy
from wherry.engine.container.service import Containers
from wherry.engine.container.store import ContainerEntry
from wherry.engine.context import Context, Service
from wherry.linux.cgroups import CgroupError
from wherry.model.container import HostConfig, Resources, RestartPolicy, Status

# What may change, in the words of Resources. A value that is empty leaves what is, as in Docker.
_UPDATED = (
    "blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "memory",
    "memory_swap", "memory_reservation", "cpu_realtime_period", "cpu_realtime_runtime", "pids_limit",
)  # fmt: skip


class Update(Resources, rename="pascal"):
    """The body of the request."""

    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)


class Updates(Service):
    def __init__(self, context: Context, containers: Containers) -> None:
        super().__init__(context)
        self._containers = containers

    async def update(self, name: str, asked: Update) -> list[str]:
        """Changes what is not empty in ``asked``, in the kernel first, then for good; warnings for the user.

        Raises InvalidParameter for what no container may have, Conflict for what does not go with what it has.
        """
        entry = self._entries.get(name)
        async with entry.lock:
            record = entry.record
            if record.state.status in (Status.REMOVING, Status.DEAD):
                raise _refused(entry, 'container is marked for removal and cannot be "update"')
            check_resources(_bare(asked))
            if asked.restart_policy.name:
                check_restart_policy(asked.restart_policy)
            host = msgspec.structs.replace(record.host_config)
            _check_conflicts(entry, host, asked)
            for field in _UPDATED:
                if getattr(asked, field):
                    setattr(host, field, getattr(asked, field))
            if asked.restart_policy.name:
                host.restart_policy = asked.restart_policy
            check_resources(host)
            if entry.monitor is not None:
                await self._limit(entry, host)
            record.host_config = host
            self._entries.save(entry)
        self._events.container(record, "update")
        return []

    async def _limit(self, entry: ContainerEntry, host: HostConfig) -> None:
        resources = msgspec.structs.replace(spec.write_resources(host), devices=())
        try:
            await asyncio.to_thread(self._containers.cgroup(entry).update, resources)
        except CgroupError as error:
            if _is_of_the_end(error):
                return  # the limits are for its next run
            raise EngineError(f"Cannot update container {entry.record.id}: {error}") from None


def _is_of_the_end(error: CgroupError) -> bool:
    """Whether the cgroup has been taken away, at least in the hierarchy that the error is about."""
    return error.errno in (errno.ENOENT, errno.ENODEV) and not os.path.isdir(os.path.dirname(error.path))


def _bare(asked: Resources) -> HostConfig:
    """The request alone, to be looked at as if a container were made with it; what belongs together may be in parts."""
    host = HostConfig()
    for field in _UPDATED:
        setattr(host, field, getattr(asked, field))
    if not host.memory:
        host.memory_swap = 0
    return host


def _check_conflicts(entry: ContainerEntry, host: HostConfig, asked: Update) -> None:
    """Docker's rules and words."""
    for wanted, wanted_name, known, known_name in (
        (asked.nano_cpus, "Nano CPUs", host.cpu_period, "CPU Period"),
        (asked.nano_cpus, "Nano CPUs", host.cpu_quota, "CPU Quota"),
        (asked.cpu_period, "CPU Period", host.nano_cpus, "NanoCPUs"),
        (asked.cpu_quota, "CPU Quota", host.nano_cpus, "NanoCPUs"),
    ):
        if wanted > 0 and known > 0:
            text = f"Conflicting options: {wanted_name} cannot be updated as {known_name} has already been set"
            raise _refused(entry, text)
    if asked.memory > host.memory_swap >= 0 and not asked.memory_swap:
        raise _refused(
            entry,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    if host.auto_remove and asked.restart_policy.name not in ("", "no"):
        raise _refused(entry, "Restart policy cannot be updated because AutoRemove is enabled for the container")


def _refused(entry: ContainerEntry, reason: str) -> Conflict:
    return Conflict(f"Cannot update container {entry.record.id}: {reason}")
