"""``update``: new limits and another restart policy for a container, running or not."""

import asyncio
import errno

import msgspec

from wherry.engine import specification
from wherry.engine.configuration import check_resources, check_restart_policy
from wherry.engine.containers import Containers
from wherry.engine.events import Events
from wherry.engine.roster import Live, Roster
from wherry.linux.cgroups import CgroupError
from wherry.model.container import Status
from wherry.model.errors import Conflict, EngineError
from wherry.model.host import HostConfig, Resources, RestartPolicy

# What may change, in the words of Resources. A value that is empty leaves what is, as in Docker.
_UPDATED = (
    "blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "memory",
    "memory_swap", "memory_reservation", "cpu_realtime_period", "cpu_realtime_runtime", "pids_limit",
)  # fmt: skip


class Update(Resources, rename="pascal"):
    """The body of the request."""

    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)


class Updates:
    def __init__(self, roster: Roster, containers: Containers, events: Events) -> None:
        self._roster = roster
        self._containers = containers
        self._events = events

    async def update(self, name: str, asked: Update) -> list[str]:
        """Changes what is not empty in ``asked``, in the kernel first, then for good; warnings for the user.

        Raises InvalidParameter for what no container may have, Conflict for what does not go with what it has.
        """
        live = self._roster.get(name)
        async with live.lock:
            record = live.record
            if record.state.status in (Status.REMOVING, Status.DEAD):
                raise _refused(live, 'container is marked for removal and cannot be "update"')
            check_resources(_bare(asked))
            if asked.restart_policy.name:
                check_restart_policy(asked.restart_policy)
            host = msgspec.structs.replace(record.host_config)
            _check_conflicts(live, host, asked)
            for field in _UPDATED:
                if getattr(asked, field):
                    setattr(host, field, getattr(asked, field))
            if asked.restart_policy.name:
                host.restart_policy = asked.restart_policy
            check_resources(host)
            if live.monitor is not None:
                await self._limit(live, host)
            record.host_config = host
            self._roster.save(live)
        self._events.container(record, "update")
        return []

    async def _limit(self, live: Live, host: HostConfig) -> None:
        resources = msgspec.structs.replace(specification.write_resources(host), devices=())
        try:
            await asyncio.to_thread(self._containers.cgroup(live).update, resources)
        except CgroupError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV) and not self._containers.cgroup(live).exists():
                return  # it has just ended: the limits are for its next run
            raise EngineError(f"Cannot update container {live.record.id}: {error}") from None


def _bare(asked: Resources) -> HostConfig:
    """The request alone, to be looked at as if a container were made with it; what belongs together may be in parts."""
    host = HostConfig()
    for field in _UPDATED:
        setattr(host, field, getattr(asked, field))
    if not host.memory:
        host.memory_swap = 0
    return host


def _check_conflicts(live: Live, host: HostConfig, asked: Update) -> None:
    """Docker's rules and words."""
    for wanted, wanted_name, known, known_name in (
        (asked.nano_cpus, "Nano CPUs", host.cpu_period, "CPU Period"),
        (asked.nano_cpus, "Nano CPUs", host.cpu_quota, "CPU Quota"),
        (asked.cpu_period, "CPU Period", host.nano_cpus, "NanoCPUs"),
        (asked.cpu_quota, "CPU Quota", host.nano_cpus, "NanoCPUs"),
    ):
        if wanted > 0 and known > 0:
            text = f"Conflicting options: {wanted_name} cannot be updated as {known_name} has already been set"
            raise _refused(live, text)
    if asked.memory > host.memory_swap >= 0 and not asked.memory_swap:
        raise _refused(
            live,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    if host.auto_remove and asked.restart_policy.name not in ("", "no"):
        raise _refused(live, "Restart policy cannot be updated because AutoRemove is enabled for the container")


def _refused(live: Live, reason: str) -> Conflict:
    return Conflict(f"Cannot update container {live.record.id}: {reason}")
