"""API versions: which are spoken, and what older clients send and expect otherwise than API 1.51 has it."""

from typing import Any, NamedTuple

from wherry.common.errors import InvalidParameter
from wherry.model.container import ContainerConfig, HealthConfig, HostConfig
from wherry.model.network import NetworkingConfig


class Version(NamedTuple):
    """``Version(1, 51) > Version(1, 9)``."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


CURRENT = Version(1, 51)
OLDEST = Version(1, 24)

# Of a container's configuration, what has no meaning in an image: gone from its inspection since API 1.50
_NOT_IN_IMAGES = (
    "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "MacAddress", "NetworkDisabled",
    "OpenStdin", "StdinOnce", "StopTimeout", "Tty",
)  # fmt: skip


class VersionRefused(InvalidParameter):
    """``plain``: clients of before 1.24 do not read JSON errors."""

    def __init__(self, message: str, plain: bool = False) -> None:
        super().__init__(message)
        self.plain = plain


def parse_version(text: str, oldest: Version = OLDEST) -> Version:
    """The version of a path ("1.44"). Raises VersionRefused when it is not spoken here."""
    numbers = [int(part or 0) for part in text.split(".")] + [0]
    version = Version(numbers[0], numbers[1])
    if version < oldest:
        raise VersionRefused(
            f"client version {text} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version",
            plain=True,
        )
    if version > CURRENT:
        raise VersionRefused(f"client version {text} is too new. Maximum supported API version is {CURRENT}")
    return version


def adapt_create(version: Version, config: ContainerConfig, host: HostConfig, networking: NetworkingConfig) -> None:
    """Changes what a client asks for to what it means by it today. Raises InvalidParameter."""
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


def adapt_container(version: Version, found: dict[str, Any]) -> dict[str, Any]:
    """``inspect`` of a container for a client of ``version``."""
    if version < (1, 45):
        names = [found["Id"][:12], found["Config"].get("Hostname", "")]
        for network, endpoint in found["NetworkSettings"]["Networks"].items():
            if endpoint["EndpointID"] and network not in ("bridge", "host", "none", "default"):
                endpoint["Aliases"] = list(dict.fromkeys([*(endpoint.get("Aliases") or []), *names]))
    if version < (1, 48):
        found.pop("ImageManifestDescriptor", None)
    return found


def adapt_container_list(version: Version, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for container in found:
        if version < (1, 46):
            container.get("HostConfig", {}).pop("Annotations", None)
        if version < (1, 48):
            container.pop("ImageManifestDescriptor", None)
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
    return found


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
    return found
