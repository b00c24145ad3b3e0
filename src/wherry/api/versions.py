"""API versions: which are spoken, and what older clients send and expect otherwise than API 1.54 has it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from wherry.common.errors import InvalidParameter
from wherry.model.container import ContainerConfig, HealthConfig, HostConfig
from wherry.model.network import NetworkingConfig


class Version(NamedTuple):
    """``Version(1, 54) > Version(1, 9)``."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


CURRENT = Version(1, 54)
OLDEST = Version(1, 24)

# Of a container's configuration, what has no meaning in an image: gone from its inspection since API 1.50
_NOT_IN_IMAGES = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "MacAddress", "NetworkDisabled",
    "OpenStdin", "StdinOnce", "StopTimeout", "Tty",
)  # fmt: skip

# Gone with API 1.52: of a container's networks, what the default one alone had
_OF_DEFAULT_NETWORK = (
    "Bridge", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "HairpinMode", "IPAddress",
    "IPPrefixLen", "IPv6Gateway", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "MacAddress",
    "SecondaryIPAddresses", "SecondaryIPv6Addresses",
)  # fmt: skip

# Of an image, what since API 1.52 is there only if it says something
_MAY_BE_EMPTY = ("Author", "Comment", "DockerVersion", "Parent")
_MAY_BE_EMPTY_IN_CONFIG = ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir")


def parse_version(text: str, oldest: Version = OLDEST) -> Version:
    """The version of a path ("1.44"). Raises InvalidParameter when it is not spoken here."""
    numbers = [int(part or 0) for part in text.split(".")] + [0]
    version = Version(numbers[0], numbers[1])
    if version < oldest:
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version",
        )
    if version > CURRENT:
        raise InvalidParameter(f"client version {text} is too new. Maximum supported API version is {CURRENT}")
    return version


def adapt_create(
    version: Version, config: ContainerConfig, host: HostConfig, networking: NetworkingConfig
) -> list[str]:
    """Changes what a client asks for to what it means by it today; warnings. Raises InvalidParameter."""
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    if "default" in networking.endpoints_config:  # the name of what is called "bridge" here and otherwise elsewhere
        networking.endpoints_config["bridge"] = networking.endpoints_config.pop("default")
    mounts = host.mounts or []
    if version < (1, 40):
        host.ipc_mode = host.ipc_mode or "shareable"  # the default of then
        for mount in mounts:
            if mount.bind_options:
                mount.bind_options.non_recursive = False
    if version < (1, 42):
        host.console_size = (0, 0)
        for mount in mounts:
            if mount.bind_options:
                mount.bind_options.create_mountpoint = False
            mount.volume_options = mount.volume_options if mount.type == "volume" else None
            mount.tmpfs_options = mount.tmpfs_options if mount.type == "tmpfs" else None
    else:
        for mount in mounts:
            for kind, options in (
                ("volume", mount.volume_options),
                ("bind", mount.bind_options),
                ("tmpfs", mount.tmpfs_options),
            ):
                if options is not None and mount.type != kind:
                    raise InvalidParameter(
                        f'{kind.capitalize()}Options must not be specified on mount type "{mount.type}"'
                    )
    if version < (1, 43):
        host.annotations = {}
    if version < (1, 44):
        if isinstance(config.healthcheck, HealthConfig):
            config.healthcheck.start_interval = 0
        if len(networking.endpoints_config) > 1:
            names = ", ".join(networking.endpoints_config)
            raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {names}")
    if version < (1, 52):
        return []
    if config.mac_address:
        raise InvalidParameter(
            "container-wide MAC address no longer supported; use endpoint-specific MAC address instead"
        )
    config.mac_address = msgspec.UNSET
    unbound = ", ".join(port for port, bindings in host.port_bindings.items() if not bindings)
    return [f"{_UNBOUND}: {unbound}. Such bindings will be discarded in a future version."] if unbound else []


_UNBOUND = "Following container port(s) have an empty list of port-bindings"


def adapt_container(version: Version, found: dict[str, Any]) -> dict[str, Any]:
    """``inspect`` of a container for a client of ``version``."""
    if version < (1, 45):
        names = [found["Id"][:12], found["Config"].get("Hostname", "")]
        for network, endpoint in found["NetworkSettings"]["Networks"].items():
            if endpoint["EndpointID"] and network not in ("bridge", "host", "none", "default"):
                endpoint["Aliases"] = list(dict.fromkeys([*(endpoint.get("Aliases") or []), *names]))
    if version < (1, 48):
        found.pop("ImageManifestDescriptor", None)
    if version >= (1, 52):
        for name in _OF_DEFAULT_NETWORK:
            found["NetworkSettings"].pop(name, None)
        if not found["Config"].get("OnBuild"):
            found["Config"].pop("OnBuild", None)
    return found


def adapt_container_list(version: Version, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for container in found:
        if version < (1, 46):
            container.get("HostConfig", {}).pop("Annotations", None)
        if version < (1, 48):
            container.pop("ImageManifestDescriptor", None)
        if version < (1, 52):
            container.pop("Health", None)
    return found


def adapt_image(version: Version, found: dict[str, Any]) -> dict[str, Any]:
    """``inspect`` of an image for a client of ``version``."""
    if version < (1, 44):
        found["VirtualSize"] = found["Size"]
    if version < (1, 45):
        found.setdefault("Container", "")
        found.setdefault("ContainerConfig", {})
    if version < (1, 48):
        found.pop("Descriptor", None)
    if version >= (1, 50) and found.get("Config"):
        for name in _NOT_IN_IMAGES:
            found["Config"].pop(name, None)
    if version >= (1, 52):
        _drop_empty(found, _MAY_BE_EMPTY)
        _drop_empty(found.get("Config") or {}, _MAY_BE_EMPTY_IN_CONFIG)
    if version < (1, 53):
        found.pop("Identity", None)
    return found


def _drop_empty(found: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not found.get(name):
            found.pop(name, None)


def adapt_image_list(version: Version, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for image in found:
        if version < (1, 43) and not image["RepoTags"] and not image["RepoDigests"]:
            image["RepoTags"] = ["<none>:<none>"]
            image["RepoDigests"] = ["<none>@<none>"]
        if version < (1, 44):
            image["VirtualSize"] = image["Size"]
        if version < (1, 48):
            image.pop("Descriptor", None)
        if version < (1, 51):
            image["Containers"] = -1
    return found


def adapt_info(version: Version, found: dict[str, Any]) -> dict[str, Any]:
    if version < (1, 44):
        for runtime in found.get("Runtimes", {}).values():
            runtime.pop("status", None)
    if version < (1, 46):
        found.pop("Containerd", None)
    if version < (1, 49):
        found.pop("FirewallBackend", None)
        for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            if commit := found.get(name):
                commit["Expected"] = commit["ID"]
    if version < (1, 50):
        found.pop("DiscoveredDevices", None)
    if version < (1, 53):
        found.pop("NRI", None)
    return found


def adapt_network(version: Version, found: dict[str, Any]) -> dict[str, Any]:
    """``inspect`` of a network for a client of ``version``."""
    if version < (1, 52):
        found.pop("Status", None)
    return found


def adapt_network_list(version: Version, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for network in found if version >= (1, 52) else ():
        del network["Containers"]
    return found


def adapt_event(version: Version, event: dict[str, Any]) -> dict[str, Any]:
    """One of the stream: the fields of API 1.21 are told up to API 1.51."""
    if version < (1, 52):
        return event
    return {name: value for name, value in event.items() if name not in ("status", "id", "from")}


def adapt_disk_usage(version: Version, found: dict[str, Any], *, verbose: bool) -> dict[str, Any]:
    """``system df``: since API 1.52 sums, with ``verbose`` also what they are of; before, that alone.

    As Docker does, newer clients that do not ask for the one or the other get both.
    """
    if version < (1, 52):
        if version < (1, 42):
            found["BuilderSize"] = sum(record["Size"] for record in found.get("BuildCache", ()))
        return found
    sums = {usage: _sum(found[items], of, verbose=verbose) for items, (usage, of) in _USAGE.items() if items in found}
    if "ImageUsage" in sums:
        sums["ImageUsage"]["TotalSize"] = found["LayersSize"]
    return sums if verbose else found | sums


class _Share(NamedTuple):
    """What one thing takes, whether it is in use, and how much of it would be free without it."""

    size: int
    active: bool
    reclaimable: int


def _of_image(image: dict[str, Any]) -> _Share:
    return _Share(image["Size"], image["Containers"] > 0, max(0, image["Size"] - image["SharedSize"]))


def _of_container(container: dict[str, Any]) -> _Share:
    active = container["State"] in ("running", "paused", "restarting")
    return _Share(container["SizeRw"], active, container["SizeRw"])


def _of_volume(volume: dict[str, Any]) -> _Share:
    usage = volume["UsageData"]
    return _Share(usage["Size"], usage["RefCount"] > 0, usage["Size"])


def _of_record(record: dict[str, Any]) -> _Share:
    return _Share(record["Size"], record["InUse"], 0 if record["Shared"] else record["Size"])


_USAGE: dict[str, tuple[str, Callable[[dict[str, Any]], _Share]]] = {
    "Images": ("ImageUsage", _of_image),
    "Containers": ("ContainerUsage", _of_container),
    "Volumes": ("VolumeUsage", _of_volume),
    "BuildCache": ("BuildCacheUsage", _of_record),
}


def _sum(items: list[dict[str, Any]], share: Callable[[dict[str, Any]], _Share], *, verbose: bool) -> dict[str, Any]:
    shares = [share(item) for item in items]
    found: dict[str, Any] = {
        "ActiveCount": sum(each.active for each in shares),
        "TotalCount": len(items),
        "Reclaimable": sum(each.reclaimable for each in shares if not each.active),
        "TotalSize": sum(each.size for each in shares),
    }
    return found | {"Items": items} if verbose else found
