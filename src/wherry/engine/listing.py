"""``ps``: the containers in short, filtered and ordered as Docker does."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from wherry.engine import clock, links, mount_points
from wherry.engine.filters import boolean, label_matches, pattern
from wherry.engine.port_bindings import parse_port
from wherry.engine.roster import Live, Roster
from wherry.model.container import Container, Status
from wherry.model.errors import InvalidParameter, NotFound
from wherry.model.health import HealthStatus
from wherry.storage.store import Store

Filters = Mapping[str, list[str]]
_KNOWN = {
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
}  # fmt: skip


def list_containers(
    roster: Roster, store: Store, *, show_all: bool, limit: int | None, size: bool, filters: Filters
) -> list[dict[str, Any]]:
    """The newest first. Only those that run unless ``show_all``, ``limit`` or a filter on the state says otherwise."""
    unknown = set(filters) - _KNOWN
    if unknown:
        raise InvalidParameter(f"invalid filter '{min(unknown)}'")
    passes = _compile(roster, store, filters)
    show_all = show_all or bool(limit) or any(name in filters for name in ("status", "exited", "before", "since"))
    found = [
        live
        for live in sorted(roster, key=lambda live: live.record.created, reverse=True)
        if (show_all or live.record.state.running or live.record.state.status is Status.RESTARTING) and passes(live)
    ]
    if limit and limit > 0:
        found = found[:limit]
    linked = links.names(roster)
    return [summary(live.record, store, linked.get(live.record.id, ()), size=size) for live in found]


def status_text(record: Container) -> str:
    """The STATUS column."""
    state = record.state
    now = clock.now()
    match state.status:
        case Status.RUNNING:
            up = f"Up {clock.human_duration(now - state.started_at)}"
            if state.health is None:
                return up
            starting = state.health.status is HealthStatus.STARTING
            return f"{up} ({'health: ' if starting else ''}{state.health.status})"
        case Status.PAUSED:
            return f"Up {clock.human_duration(now - state.started_at)} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {clock.human_duration(now - state.finished_at)} ago"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {clock.human_duration(now - state.finished_at)} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
    return "Created"


def summary(record: Container, store: Store, linked: Sequence[str] = (), *, size: bool) -> dict[str, Any]:
    """One container in the API's ContainerSummary. ``linked`` are the names that others have for it."""
    found: dict[str, Any] = {
        "Id": record.id,
        "Names": [f"/{record.name}", *linked],
        "Image": _image_name(record, store),
        "ImageID": record.image_id,
        "Command": " ".join([record.path, *(f"'{word}'" if " " in word else word for word in record.args)]),
        "Created": record.created // 1_000_000_000,
        "Ports": _published(record),
        "Labels": record.config.labels,
        "State": record.state.status.value,
        "Status": status_text(record),
        "HostConfig": {"NetworkMode": record.host_config.network_mode},
        "NetworkSettings": {"Networks": msgspec.to_builtins(record.networks)},
        "Mounts": [mount_points.describe(point) for point in record.mounts],
    }
    if size:
        found["SizeRw"] = store.snapshots.size(record.id)
        found["SizeRootFs"] = found["SizeRw"] + store.images.chain_size(record.chain_id)
    return found


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


def _image_name(record: Container, store: Store) -> str:
    """The name the user gave, or the image's id once that name means another image."""
    try:
        return record.image if store.images.get(record.image).id == record.image_id else record.image_id
    except NotFound:
        return record.image_id


def _compile(roster: Roster, store: Store, filters: Filters) -> Callable[[Live], bool]:
    """All filters must be met; of a filter's values one, but for labels, of which all."""
    tests: list[Callable[[Container], bool]] = []
    for name, values in filters.items():
        if values:
            tests.append(_test(roster, store, name, values))
    return lambda live: all(test(live.record) for test in tests)


def _test(roster: Roster, store: Store, name: str, values: list[str]) -> Callable[[Container], bool]:
    match name:
        case "id":
            return lambda record: any(record.id.startswith(value) for value in values)
        case "name":
            patterns = [pattern(value) for value in values]
            return lambda record: any(p.search(record.name) or p.search(f"/{record.name}") for p in patterns)
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
            moments = [roster.get(value).record.created for value in values]
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
            wanted = set().union(*map(_ports, values))
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
    return lambda record: "default" in values  # isolation, which only Windows has


def _descendants(store: Store, name: str) -> Iterable[str]:
    """The image and those made from it; nothing for one that is not there, as in Docker."""
    try:
        return store.images.descendants(name)
    except NotFound:
        return ()


def _exit_code(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidParameter(f"invalid filter 'exited={value}': an exit code is a number") from None


def _ports(value: str) -> set[str]:
    """Every "80/tcp" that "80", "80-82/tcp" or "53/udp" stands for."""
    numbers, _, protocol = value.partition("/")
    first, _, last = numbers.partition("-")
    if not first.isdigit() or (last and not last.isdigit()):
        raise InvalidParameter(f"invalid port: {value}")
    return {f"{port}/{protocol or 'tcp'}" for port in range(int(first), min(int(last or first), 65535) + 1)}
