"""``inspect``: everything about a container, in the shape and order of the API."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import Conflict, InvalidParameter, NotFound, NotSupported
from wherry.common.values import parse_int, parse_unsigned
from wherry.engine.container import logs, mounts, stats
from wherry.engine.container.exec import Execs
from wherry.engine.container.logs import read_logs
from wherry.engine.container.service import Containers
from wherry.engine.container.stats import top
from wherry.engine.container.store import ContainerEntry, ContainerStore
from wherry.engine.container.user_namespaces import maps_of, shown
from wherry.engine.context import Context, Service
from wherry.engine.events import boolean, check_known, label_matches, name_filter
from wherry.engine.network import links
from wherry.engine.network.ports import parse_port
from wherry.model.container import Container, Health, HealthStatus, Status
from wherry.model.network import EndpointSettings
from wherry.runtime.logging.reader import LogQuery
from wherry.storage.store import Store
from wherry.storage.worker.jobs import Root, Running


def inspect(
    record: Container, store: Store, *, directory: str, exec_ids: list[str], linked: list[str] | None, size: bool
) -> dict[str, Any]:
    """The API's ContainerInspectResponse. ``linked`` are its links to others."""
    image = store.images.platform(record.image_id)
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": times.rfc3339(record.created),
        "Path": record.path,
        "Args": record.args,
        "State": _state(record),
        "Image": record.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": record.log_path if record.log.type == "json-file" else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": image,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": exec_ids or None,
        "HostConfig": msgspec.to_builtins(record.host_config) | {"Links": linked} | _id_mappings(record),
        "GraphDriver": {"Name": "overlay2", "Data": store.snapshots.describe(record.id)},
        "Mounts": [mounts.describe(point) for point in record.mounts],
        "Config": msgspec.to_builtins(record.config),
        "NetworkSettings": _network_settings(record),
    }
    if size:
        found["SizeRw"] = store.snapshots.size(record.id)
        found["SizeRootFs"] = found["SizeRw"] + store.images.chain_size(record.chain_id)
    return found


def _id_mappings(record: Container) -> dict[str, Any]:
    maps = maps_of(record)
    return {"IDMappings": shown(maps)} if maps.uids else {}


def _state(record: Container) -> dict[str, Any]:
    state = record.state
    found: dict[str, Any] = {
        "Status": state.status.value,
        "Running": state.running or state.status is Status.RESTARTING,
        "Paused": state.status is Status.PAUSED,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": times.rfc3339(state.started_at),
        "FinishedAt": times.rfc3339(state.finished_at),
    }
    if state.health is not None:
        found["Health"] = _health(state.health)
    return found


def _health(health: Health) -> dict[str, Any]:
    return {
        "Status": health.status.value,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": times.rfc3339(result.start),
                "End": times.rfc3339(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def _network_settings(record: Container) -> dict[str, Any]:
    own = record.networks.get("bridge", EndpointSettings())
    return {
        "Bridge": "",
        "SandboxID": record.id if record.state.running else "",
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if record.state.running else "",
        "Ports": _ports(record),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": own.endpoint_id,
        "Gateway": own.gateway,
        "GlobalIPv6Address": own.global_ipv6_address,
        "GlobalIPv6PrefixLen": own.global_ipv6_prefix_len,
        "IPAddress": own.ip_address,
        "IPPrefixLen": own.ip_prefix_len,
        "IPv6Gateway": own.ipv6_gateway,
        "MacAddress": own.mac_address,
        "Networks": msgspec.to_builtins(record.networks),
    }


def _ports(record: Container) -> dict[str, Any]:
    """The ports of a container that runs: what is published where, and null for what is only exposed."""
    if not record.state.running:
        return {}
    published: dict[str, Any] = msgspec.to_builtins(record.ports)
    return dict.fromkeys(record.config.exposed_ports or {}) | published


# ``ps``: the containers in short, filtered and ordered as Docker does.

Filters = Mapping[str, list[str]]
_KNOWN = {
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
}  # fmt: skip


def list_containers(
    entries: ContainerStore, store: Store, *, show_all: bool, limit: int | None, filters: Filters
) -> list[dict[str, Any]]:
    """The API's ContainerSummary of each, the newest first.

    Only those that run unless ``show_all``, ``limit`` or a filter on the state says otherwise.
    """
    check_known(filters, _KNOWN)
    passes = _compile(entries, store, filters)
    show_all = show_all or (limit or 0) > 0 or "status" in filters
    found = [
        entry
        for entry in entries
        if (show_all or entry.record.state.running or entry.record.state.status is Status.RESTARTING) and passes(entry)
    ]
    found.sort(key=lambda entry: entry.record.created, reverse=True)
    if limit and limit > 0:
        found = found[:limit]
    linked = links.names(entries)
    image_id = functools.cache(store.images.find_id)
    return [_summary(entry.record, image_id, linked.get(entry.record.id, ())) for entry in found]


async def add_sizes(found: Iterable[dict[str, Any]], entries: ContainerStore, store: Store) -> None:
    """What the containers of a list have written, and that with their images. It is counted beside the event loop."""
    sizes = await asyncio.to_thread(store.snapshots.sizes, [each["Id"] for each in found])
    chain_size = functools.cache(store.images.chain_size)
    below = {entry.record.id: chain_size(entry.record.chain_id) for entry in entries}
    for each in found:
        each["SizeRw"] = sizes.get(each["Id"], 0)
        each["SizeRootFs"] = each["SizeRw"] + below.get(each["Id"], 0)


def status_text(record: Container) -> str:
    """The STATUS column."""
    state = record.state
    now = times.now()
    match state.status:
        case Status.RUNNING:
            up = f"Up {times.human_duration((now - state.started_at) / 1e9)}"
            if state.health is None:
                return up
            starting = state.health.status is HealthStatus.STARTING
            return f"{up} ({'health: ' if starting else ''}{state.health.status})"
        case Status.PAUSED:
            return f"Up {times.human_duration((now - state.started_at) / 1e9)} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {times.human_duration((now - state.finished_at) / 1e9)} ago"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {times.human_duration((now - state.finished_at) / 1e9)} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
    return "Created"


def _summary(record: Container, image_id: Callable[[str], str | None], linked: Sequence[str]) -> dict[str, Any]:
    """``image_id`` finds an image by a name; ``linked`` are the names that others have for the container."""
    return {
        "Id": record.id,
        "Names": [f"/{record.name}", *linked],
        # The name that the user gave, or the image's id once that name means another image.
        "Image": record.image if image_id(record.image) == record.image_id else record.image_id,
        "ImageID": record.image_id,
        "Command": " ".join([record.path, *(f"'{word}'" if " " in word else word for word in record.args)]),
        "Created": record.created // 1_000_000_000,
        "Ports": _published(record),
        "Labels": record.config.labels,
        "State": record.state.status.value,
        "Status": status_text(record),
        "Health": {
            "Status": record.state.health.status.value if record.state.health else "none",
            "FailingStreak": record.state.health.failing_streak if record.state.health else 0,
        },
        "HostConfig": {"NetworkMode": record.host_config.network_mode},
        "NetworkSettings": {"Networks": msgspec.to_builtins(record.networks)},
        "Mounts": [mounts.describe(point) for point in record.mounts],
    }


def _published(record: Container) -> list[dict[str, Any]]:
    """The PORTS column: what is published, and what is only exposed."""
    if not record.state.running:
        return []
    found: list[dict[str, Any]] = []
    for port in {**(record.config.exposed_ports or {}), **record.ports}:
        number, protocol = parse_port(port)
        inner = {"PrivatePort": number, "Type": protocol}
        for binding in record.ports.get(port, ()):
            found.append({"IP": binding.host_ip, **inner, "PublicPort": int(binding.host_port)})
        if not record.ports.get(port):
            found.append(inner)
    return found


def _compile(entries: ContainerStore, store: Store, filters: Filters) -> Callable[[ContainerEntry], bool]:
    """All filters must be met; of a filter's values one, but for labels, of which all."""
    tests: list[Callable[[Container], bool]] = []
    for name, values in filters.items():
        if values:
            tests.append(_test(entries, store, name, values))
    return lambda entry: all(test(entry.record) for test in tests)


def _test(entries: ContainerStore, store: Store, name: str, values: list[str]) -> Callable[[Container], bool]:
    match name:
        case "id":
            return lambda record: any(value and record.id.startswith(value) for value in values)
        case "name":
            found = [name_filter(value) for value in values]
            return lambda record: any(finds(record.name) or finds(f"/{record.name}") for finds in found)
        case "label":
            return lambda record: all(label_matches(record.config.labels, value) for value in values)
        case "status":
            for value in values:
                if value not in list(Status):
                    raise InvalidParameter(f"invalid filter 'status={value}'")
            return lambda record: record.state.status in values
        case "exited":
            codes = [_exit_code(value) for value in values]
            ended = (Status.EXITED, Status.DEAD)
            return lambda record: record.state.status in ended and record.state.exit_code in codes
        case "before" | "since":
            moments = [entries.get(value).record.created for value in values]
            if name == "before":
                return lambda record: record.created < min(moments)
            return lambda record: record.created > max(moments)
        case "ancestor":
            images = {image for value in values for image in _descendants(store, value)}
            return lambda record: record.image_id in images
        case "network":
            return lambda record: any(
                value in (network, settings.network_id)
                for value in values
                for network, settings in record.networks.items()
            )
        case "publish" | "expose":
            wanted = set().union(*(_listing_ports(name, value) for value in values))
            side = "PublicPort" if name == "publish" else "PrivatePort"
            return lambda record: any(f"{port.get(side)}/{port['Type']}" in wanted for port in _published(record))
        case "volume":
            return lambda record: any(
                value in (point.name, point.destination) for value in values for point in record.mounts
            )
        case "health":
            for value in values:
                if value != "none" and value not in list(HealthStatus):
                    raise InvalidParameter(f"unrecognized filter value for health: {value}")
            return lambda record: (record.state.health.status if record.state.health else "none") in values
        case "is-task":
            return lambda record: not boolean(name, values)
    return lambda record: True  # isolation: only Windows has more than one


def _descendants(store: Store, name: str) -> Iterable[str]:
    """The image and those made from it; nothing for one that is not there, as in Docker."""
    try:
        return store.images.descendants(name)
    except NotFound:
        return ()


def _exit_code(value: str) -> int:
    try:
        return parse_int(value, function="Atoi")
    except ValueError as error:
        raise InvalidParameter(f"invalid filter 'exited={value}': {error}") from None


def _listing_ports(name: str, value: str) -> set[str]:
    """Every "80/tcp" that "80", "80-82/tcp" or "53/udp" stands for; ``name`` is the filter's."""
    numbers, _, protocol = value.partition("/")
    first, dash, last = numbers.partition("-")
    try:
        if not value:
            raise ValueError("Empty string specified for ports.")
        start = parse_unsigned(first, 16)
        end = parse_unsigned(last, 16) if dash else start
        if end < start:
            raise ValueError(f"Invalid range specified for the Port: {numbers}")
    except ValueError as error:
        raise InvalidParameter(f"error while looking up for {name} {value}: {error}") from None
    return {f"{port}/{protocol or 'tcp'}" for port in range(start, end + 1)}


# Looking at containers: lists, details, logs, changes, processes, files. Nothing here changes one.


class Views(Service):
    def __init__(self, context: Context, containers: Containers, execs: Execs) -> None:
        super().__init__(context)
        self._containers = containers
        self._execs = execs

    async def list_all(self, *, show_all: bool, limit: int | None, filters: Filters) -> list[dict[str, Any]]:
        await self._containers.ended(self._entries)
        return list_containers(self._entries, self._store, show_all=show_all, limit=limit, filters=filters)

    async def add_sizes(self, found: Iterable[dict[str, Any]]) -> None:
        await add_sizes(found, self._entries, self._store)

    async def inspect(self, name: str, *, size: bool = False) -> dict[str, Any]:
        await self._containers.started(self._entries.get(name))
        await self._containers.ended([self._entries.get(name)])
        entry = self._entries.get(name)  # it may be gone by now
        return inspect(
            entry.record,
            self._store,
            directory=self._containers.files_directory(entry.record),
            exec_ids=self._execs.ids(entry),
            linked=links.shown(entry.record, self._entries),
            size=size,
        )

    async def top(self, name: str, ps_args: str) -> dict[str, Any]:
        entry = self._containers.running(name)
        pids = self._containers.processes(entry)
        found = await top(pids, ps_args)
        self._events.container(entry.record, "top")
        return found

    def changes(self, name: str) -> list[dict[str, Any]] | None:
        """What differs from the image: kind 0 changed, 1 added, 2 deleted. None when nothing does, as in Docker."""
        entry = self._entries.get(name)
        found = self._store.snapshots.changes(entry.record.id)
        return [{"Path": path, "Kind": kind} for kind, path in found] or None

    def logs(self, name: str, wanted: LogQuery, *, follow: bool = False) -> AsyncIterator[bytes]:
        """What the container printed, framed unless it has a terminal; with ``follow`` up to its end.

        Raises NotSupported when the container keeps no log.
        """
        entry = self._entries.get(name)
        if not logs.is_readable(entry.record.log):
            raise NotSupported("configured logging driver does not support reading")
        return read_logs(entry, wanted, follow=follow)

    def stats(self, name: str, *, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        """Samples of what the container uses: see ``stats``. Raises NotFound."""
        return stats.stats(self._containers, self._entries.get(name).record.id, stream=stream, one_shot=one_shot)

    async def export(self, name: str) -> AsyncIterator[bytes]:
        """The container's whole root as a tar."""
        entry = self._entries.get(name)
        self._events.container(entry.record, "export")
        async for chunk in self._store.files.export(self.root(entry)):
            yield chunk

    def root(self, entry: ContainerEntry) -> Root:
        """Where a container's files are: in its mount namespace while it runs, else in its snapshot's mounts."""
        if entry.monitor is not None:
            return Running(entry.monitor.pid)
        if entry.lock.locked():
            raise Conflict(f"container {entry.record.id} is being started or removed")
        return self._store.snapshots.mounts(entry.record.id)
