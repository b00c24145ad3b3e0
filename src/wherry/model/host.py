"""How a container is run on this host: the part of its configuration that does not travel."""

import msgspec


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
    shm_size: int = 0
    sysctls: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | msgspec.UnsetType = msgspec.UNSET
