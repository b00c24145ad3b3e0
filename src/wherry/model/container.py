"""A container as the engine keeps it: what was asked for, what it became, and how it is."""

import enum
from typing import Any

import msgspec

from wherry.model.network import Attachment, EndpointSettings

# What a container runs: the part of its configuration that travels with an image.


class HealthConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    """A health check. Durations in nanoseconds; 0 takes the default."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, rename="pascal"):
    """The API's ContainerConfig, which is also the "config" of an image. Sets are dicts with empty values, as in Go."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | msgspec.UnsetType = msgspec.UNSET
    args_escaped: bool | msgspec.UnsetType = msgspec.UNSET
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool | msgspec.UnsetType = msgspec.UNSET
    mac_address: str | msgspec.UnsetType = msgspec.UNSET
    on_build: list[str] | None = None
    labels: dict[str, str] = {}
    stop_signal: str | msgspec.UnsetType = msgspec.UNSET
    stop_timeout: int | msgspec.UnsetType = msgspec.UNSET
    shell: list[str] | msgspec.UnsetType = msgspec.UNSET


# How a container is run on this host: the part of its configuration that does not travel.


class LogConfig(msgspec.Struct, rename="pascal"):
    type: str = ""
    config: dict[str, str] = {}


class RestartPolicy(msgspec.Struct, rename="pascal"):
    """``name`` is "", "no", "always", "unless-stopped" or "on-failure"; the count is for the last."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(msgspec.Struct):
    host_ip: str = msgspec.field(default="", name="HostIp")
    host_port: str = msgspec.field(default="", name="HostPort")


class DeviceMapping(msgspec.Struct, rename="pascal"):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct):
    driver: str = msgspec.field(default="", name="Driver")
    count: int = msgspec.field(default=0, name="Count")
    device_ids: list[str] | None = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] = msgspec.field(default_factory=list, name="Capabilities")
    options: dict[str, str] = msgspec.field(default_factory=dict, name="Options")


class Ulimit(msgspec.Struct, rename="pascal"):
    name: str
    hard: int = 0
    soft: int = 0


class WeightDevice(msgspec.Struct, rename="pascal"):
    path: str
    weight: int = 0


class ThrottleDevice(msgspec.Struct, rename="pascal"):
    path: str
    rate: int = 0


class BindOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    id_map: str = msgspec.field(default="", name="IDMap")


class VolumeDriverConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: VolumeDriverConfig | None = None
    subpath: str = ""


class ImageOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Size in bytes, 0 for none; mode as the number of an octal one; options as ``[["uid", "1"], ["noexec"]]``."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] = []


class MountRequest(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One ``--mount``. ``type`` is bind, volume, tmpfs or image; anything else is refused by name."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(msgspec.Struct, rename="pascal"):
    """Limits that ``update`` can change later. 0 and None mean no limit. Bytes, microseconds, billionths of a CPU."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_iops: list[ThrottleDevice] = msgspec.field(default_factory=list, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] = msgspec.field(default_factory=list, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] = []
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] = []
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = msgspec.field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = msgspec.field(default=0, name="IOMaximumBandwidth")


class IDMappings(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Podman's --uidmap and --gidmap, each "CONTAINER:HOST:SIZE"."""

    uid_map: list[str] | None = None
    gid_map: list[str] | None = None


class HostConfig(Resources, rename="pascal"):
    binds: list[str] | None = None
    container_id_file: str = msgspec.field(default="", name="ContainerIDFile")
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = {}
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[MountRequest] | msgspec.UnsetType = msgspec.UNSET
    console_size: tuple[int, int] = (0, 0)
    annotations: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    tmpfs: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    userns_mode: str = ""
    id_mappings: IDMappings | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="IDMappings")
    shm_size: int = 0
    sysctls: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | msgspec.UnsetType = msgspec.UNSET


# How a container's health check went.


class HealthStatus(enum.StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class HealthResult(msgspec.Struct):
    """One probe. Times are nanoseconds since the epoch; ``output`` is the beginning of what it printed."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(msgspec.Struct):
    """``log`` holds the last probes, the latest last."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: list[HealthResult] = []


# Volumes, and the points in a container's tree where something is mounted.


class Volume(msgspec.Struct):
    """A volume; ``driver`` is "local" or the name of a plug-in. ``created`` in nanoseconds since the epoch.

    Anonymous ones go with their container. ``labels`` and ``options`` are as they were asked for: None is not {}.
    """

    name: str
    created: int
    driver: str = "local"
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    anonymous: bool = False


class MountPoint(msgspec.Struct):
    """One thing mounted in a container, as it was settled when the container was made.

    ``source`` is a path of the host, but for an image, where it is the image's id; ``chain_id`` is its layers', which
    stay when the image is removed. ``propagation`` is of binds only.
    ``copy`` says that an empty volume is filled from the image; ``anonymous`` that the volume has no name, and was
    made for this container, or for one whose volumes it has. ``request`` is the ``--mount`` it came from, if it did.
    ``idmap`` is whose ids its files have (see ``engine.container.idmaps``), and ``uids`` and ``gids`` what came of it:
    the first id on the disk, who that is outside of the container, and how many there are.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    copy: bool = False
    anonymous: bool = False
    request: MountRequest | None = None
    chain_id: str = ""
    idmap: str = ""
    uids: list[tuple[int, int, int]] = []
    gids: list[tuple[int, int, int]] = []


class Status(enum.StrEnum):
    """The words of ``docker ps`` and of its ``status`` filter."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class State(msgspec.Struct):
    """How a container is. Times are nanoseconds since the epoch, 0 for never; ``pid`` is the host's view of PID 1."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int = 0
    finished_at: int = 0
    health: Health | None = None

    @property
    def running(self) -> bool:
        return self.status in (Status.RUNNING, Status.PAUSED)


class Defaults(msgspec.Struct, omit_defaults=True):
    """What the engine's settings added to a container when it was last started. ``seccomp`` is as in them."""

    ulimits: list[Ulimit] = []
    no_new_privileges: bool = False
    seccomp: str = "builtin"


class Container(msgspec.Struct):
    """One row of the state. ``created`` in nanoseconds since the epoch; ``image_id`` and ``chain_id`` are digests.

    ``networks`` and ``attachments`` have the networks' names for keys; ``ports`` are the published ones while it runs,
    by the container's ("80/tcp"). ``user_stopped`` remembers that a person stopped it, which the restart policy
    "unless-stopped" respects. ``log`` is the driver in use, which the host configuration may call by another name.
    ``uids`` and ``gids`` are those of its user namespace: the first inside, the first outside, how many.
    """

    id: str
    name: str
    created: int
    image: str
    image_id: str
    chain_id: str
    path: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = {}
    attachments: dict[str, Attachment] = {}
    ports: dict[str, list[PortBinding]] = {}
    mounts: list[MountPoint] = []
    state: State = msgspec.field(default_factory=State)
    restart_count: int = 0
    user_stopped: bool = False
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    log_path: str = ""
    architecture: str = ""  # the image's, by Go's name
    defaults: Defaults = msgspec.field(default_factory=Defaults)
    uids: list[tuple[int, int, int]] = []
    gids: list[tuple[int, int, int]] = []


# One more process in a running container, as the API asks for it.


class ExecConfig(msgspec.Struct, rename="pascal"):
    """``env`` adds to the container's; ``console_size`` is rows and columns."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = False
    env: list[str] | None = None
    cmd: list[str] = []
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    console_size: tuple[int, int] | None = None
