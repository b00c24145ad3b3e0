"""``inspect``: everything about a container, in the shape and order of the API."""

from typing import Any

import msgspec

from wherry.engine import clock, mount_points
from wherry.model.container import Container, Status
from wherry.model.health import Health
from wherry.model.network import EndpointSettings
from wherry.storage.store import Store


def inspect(
    record: Container, store: Store, *, directory: str, exec_ids: list[str], linked: list[str] | None, size: bool
) -> dict[str, Any]:
    """The API's ContainerInspectResponse. ``linked`` are its links to others."""
    image = store.images.platform(record.image_id)
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": clock.rfc3339(record.created),
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
        "HostConfig": msgspec.to_builtins(record.host_config) | {"Links": linked},
        "GraphDriver": {"Name": "overlay2", "Data": store.snapshots.describe(record.id)},
        "Mounts": [mount_points.describe(point) for point in record.mounts],
        "Config": msgspec.to_builtins(record.config),
        "NetworkSettings": _network_settings(record),
    }
    if size:
        found["SizeRw"] = store.snapshots.size(record.id)
        found["SizeRootFs"] = found["SizeRw"] + store.images.chain_size(record.chain_id)
    return found


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
        "StartedAt": clock.rfc3339(state.started_at),
        "FinishedAt": clock.rfc3339(state.finished_at),
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
                "Start": clock.rfc3339(result.start),
                "End": clock.rfc3339(result.end),
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
    """Of one that runs: what is published where, and null for what is only exposed."""
    if not record.state.running:
        return {}
    published: dict[str, Any] = msgspec.to_builtins(record.ports)
    return dict.fromkeys(record.config.exposed_ports or {}) | published
