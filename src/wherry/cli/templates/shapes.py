"""The structs that Docker's client reads the API's JSON into, so that `-f '{{.State}}'` prints what Docker prints.

A struct is written as its fields in Go's order, `Name type`, `Name(json key) type`, a `?` behind the type for a field
that JSON leaves out when empty, and `~struct` for the fields of an embedded one. The facts are those of Docker's client
28 (API 1.50). A field that is not here is found all the same: a template that does not fit the struct is run again over
the plain JSON, which is also what Docker does.
"""

from __future__ import annotations

from wherry.cli.templates.values import (
    ANY,
    STRING,
    Duration,
    Map,
    MapType,
    Named,
    Pointer,
    Slice,
    Struct,
    StructField,
    Time,
    Type,
    zero,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.templates.values import Value

STRUCTS = {
    "container.InspectResponse": """
        ~*container.ContainerJSONBase; Mounts []container.MountPoint; Config *container.Config;
        NetworkSettings *container.NetworkSettings; ImageManifestDescriptor *v1.Descriptor?""",
    "container.ContainerJSONBase": """
        ID(Id) string; Created string; Path string; Args []string; State *container.State; Image string;
        ResolvConfPath string; HostnamePath string; HostsPath string; LogPath string; Name string; RestartCount int;
        Driver string; Platform string; MountLabel string; ProcessLabel string; AppArmorProfile string;
        ExecIDs []string; HostConfig *container.HostConfig; GraphDriver storage.DriverData; SizeRw *int64?;
        SizeRootFs *int64?""",
    "container.State": """
        Status string; Running bool; Paused bool; Restarting bool; OOMKilled bool; Dead bool; Pid int; ExitCode int;
        Error string; StartedAt string; FinishedAt string; Health *container.Health?""",
    "container.Health": "Status string; FailingStreak int; Log []*container.HealthcheckResult",
    "container.HealthcheckResult": "Start time.Time; End time.Time; ExitCode int; Output string",
    "container.MountPoint": """
        Type mount.Type?; Name string?; Source string; Destination string; Driver string?; Mode string; RW bool;
        Propagation mount.Propagation""",
    "container.Config": """
        Hostname string; Domainname string; User string; AttachStdin bool; AttachStdout bool; AttachStderr bool;
        ExposedPorts map[nat.Port]struct {}?; Tty bool; OpenStdin bool; StdinOnce bool; Env []string;
        Cmd []string; Healthcheck *v1.HealthcheckConfig?; ArgsEscaped bool?; Image string;
        Volumes map[string]struct {}; WorkingDir string; Entrypoint []string; NetworkDisabled bool?;
        MacAddress string?; OnBuild []string; Labels map[string]string; StopSignal string?; StopTimeout *int?;
        Shell []string?""",
    "v1.HealthcheckConfig": """
        Test []string?; Interval time.Duration?; Timeout time.Duration?; StartPeriod time.Duration?;
        StartInterval time.Duration?; Retries int?""",
    "container.NetworkSettings": """
        ~container.NetworkSettingsBase; ~container.DefaultNetworkSettings;
        Networks map[string]*network.EndpointSettings""",
    "container.NetworkSettingsBase": """
        Bridge string; SandboxID string; SandboxKey string; Ports map[nat.Port][]nat.PortBinding; HairpinMode bool;
        LinkLocalIPv6Address string; LinkLocalIPv6PrefixLen int; SecondaryIPAddresses []network.Address;
        SecondaryIPv6Addresses []network.Address""",
    "container.DefaultNetworkSettings": """
        EndpointID string; Gateway string; GlobalIPv6Address string; GlobalIPv6PrefixLen int; IPAddress string;
        IPPrefixLen int; IPv6Gateway string; MacAddress string""",
    "nat.PortBinding": "HostIP(HostIp) string; HostPort string",
    "network.Address": "Addr string; PrefixLen int",
    "network.EndpointSettings": """
        IPAMConfig *network.EndpointIPAMConfig; Links []string; Aliases []string; MacAddress string;
        DriverOpts map[string]string; GwPriority int; NetworkID string; EndpointID string; Gateway string;
        IPAddress string; IPPrefixLen int; IPv6Gateway string; GlobalIPv6Address string; GlobalIPv6PrefixLen int;
        DNSNames []string""",
    "network.EndpointIPAMConfig": "IPv4Address string?; IPv6Address string?; LinkLocalIPs []string?",
    "container.HostConfig": """
        Binds []string; ContainerIDFile string; LogConfig container.LogConfig; NetworkMode container.NetworkMode;
        PortBindings map[nat.Port][]nat.PortBinding; RestartPolicy container.RestartPolicy; AutoRemove bool;
        VolumeDriver string; VolumesFrom []string; ConsoleSize [2]uint; Annotations map[string]string?; CapAdd []string;
        CapDrop []string; CgroupnsMode container.CgroupnsMode; DNS(Dns) []string; DNSOptions(DnsOptions) []string;
        DNSSearch(DnsSearch) []string; ExtraHosts []string; GroupAdd []string; IpcMode container.IpcMode;
        Cgroup container.CgroupSpec; Links []string; OomScoreAdj int; PidMode container.PidMode; Privileged bool;
        PublishAllPorts bool; ReadonlyRootfs bool; SecurityOpt []string; StorageOpt map[string]string?;
        Tmpfs map[string]string?; UTSMode container.UTSMode; UsernsMode container.UsernsMode; ShmSize int64;
        Sysctls map[string]string?; Runtime string?; Isolation container.Isolation; ~container.Resources;
        Mounts []mount.Mount?; MaskedPaths []string; ReadonlyPaths []string; Init *bool?""",
    "container.LogConfig": "Type string; Config map[string]string",
    "container.RestartPolicy": "Name container.RestartPolicyMode; MaximumRetryCount int",
    "container.Resources": """
        CPUShares(CpuShares) int64; Memory int64; NanoCPUs(NanoCpus) int64; CgroupParent string; BlkioWeight uint16;
        BlkioWeightDevice []*blkiodev.WeightDevice; BlkioDeviceReadBps []*blkiodev.ThrottleDevice;
        BlkioDeviceWriteBps []*blkiodev.ThrottleDevice; BlkioDeviceReadIOps []*blkiodev.ThrottleDevice;
        BlkioDeviceWriteIOps []*blkiodev.ThrottleDevice; CPUPeriod(CpuPeriod) int64; CPUQuota(CpuQuota) int64;
        CPURealtimePeriod(CpuRealtimePeriod) int64; CPURealtimeRuntime(CpuRealtimeRuntime) int64; CpusetCpus string;
        CpusetMems string; Devices []container.DeviceMapping; DeviceCgroupRules []string;
        DeviceRequests []container.DeviceRequest; KernelMemory int64?; KernelMemoryTCP int64?; MemoryReservation int64;
        MemorySwap int64; MemorySwappiness *int64; OomKillDisable *bool; PidsLimit *int64; Ulimits []*units.Ulimit;
        CPUCount(CpuCount) int64; CPUPercent(CpuPercent) int64; IOMaximumIOps uint64; IOMaximumBandwidth uint64""",
    "blkiodev.WeightDevice": "Path string; Weight uint16",
    "blkiodev.ThrottleDevice": "Path string; Rate uint64",
    "container.DeviceMapping": "PathOnHost string; PathInContainer string; CgroupPermissions string",
    "container.DeviceRequest": """
        Driver string; Count int; DeviceIDs []string; Capabilities [][]string; Options map[string]string""",
    "units.Ulimit": "Name string; Hard int64; Soft int64",
    "mount.Mount": """
        Type mount.Type?; Source string?; Target string?; ReadOnly bool?; Consistency mount.Consistency?;
        BindOptions *mount.BindOptions?; VolumeOptions *mount.VolumeOptions?; ImageOptions *mount.ImageOptions?;
        TmpfsOptions *mount.TmpfsOptions?; ClusterOptions *struct {}?""",
    "mount.BindOptions": """
        Propagation mount.Propagation?; NonRecursive bool?; CreateMountpoint bool?; ReadOnlyNonRecursive bool?;
        ReadOnlyForceRecursive bool?""",
    "mount.VolumeOptions": """
        NoCopy bool?; Labels map[string]string?; Subpath string?; DriverConfig *mount.Driver?""",
    "mount.ImageOptions": "Subpath string?",
    "mount.Driver": "Name string?; Options map[string]string?",
    "mount.TmpfsOptions": "SizeBytes int64?; Mode uint32?; Options [][]string?",
    "storage.DriverData": "Data map[string]string; Name string",
    "v1.Descriptor": """
        MediaType(mediaType) string; Digest(digest) digest.Digest; Size(size) int64; URLs(urls) []string?;
        Annotations(annotations) map[string]string?; Data(data) string?; Platform(platform) *v1.Platform?;
        ArtifactType(artifactType) string?""",
    "v1.Platform": """
        Architecture(architecture) string; OS(os) string; OSVersion(os.version) string?;
        OSFeatures(os.features) []string?; Variant(variant) string?""",
    "image.InspectResponse": """
        ID(Id) string; RepoTags []string; RepoDigests []string; Parent string; Comment string; Created string?;
        Container string?; ContainerConfig *container.Config?; DockerVersion string; Author string;
        Config *v1.DockerOCIImageConfig; Architecture string; Variant string?; Os string; OsVersion string?;
        Size int64; VirtualSize int64?; GraphDriver storage.DriverData; RootFS image.RootFS; Metadata image.Metadata;
        Descriptor *v1.Descriptor?; Manifests []interface {}?""",
    "image.RootFS": "Type string?; Layers []string?",
    "image.Metadata": "LastTagTime time.Time?",
    "v1.DockerOCIImageConfig": "~v1.ImageConfig; ~v1.DockerOCIImageConfigExt",
    "v1.ImageConfig": """
        User string?; ExposedPorts map[string]struct {}?; Env []string?; Entrypoint []string?; Cmd []string?;
        Volumes map[string]struct {}?; WorkingDir string?; Labels map[string]string?; StopSignal string?;
        ArgsEscaped bool?""",
    "v1.DockerOCIImageConfigExt": "Healthcheck *v1.HealthcheckConfig?; OnBuild []string?; Shell []string?",
    "network.Inspect": """
        Name string; ID(Id) string; Created time.Time; Scope string; Driver string; EnableIPv4 bool; EnableIPv6 bool;
        IPAM network.IPAM; Internal bool; Attachable bool; Ingress bool; ConfigFrom network.ConfigReference;
        ConfigOnly bool; Containers map[string]network.EndpointResource; Options map[string]string;
        Labels map[string]string; Peers []network.PeerInfo?; Services map[string]interface {}?""",
    "network.IPAM": "Driver string; Options map[string]string; Config []network.IPAMConfig",
    "network.IPAMConfig": """
        Subnet string?; IPRange string?; Gateway string?; AuxAddress(AuxiliaryAddresses) map[string]string?""",
    "network.ConfigReference": "Network string",
    "network.EndpointResource": """
        Name string; EndpointID string; MacAddress string; IPv4Address string; IPv6Address string""",
    "network.PeerInfo": "Name string; IP string",
    "volume.Volume": """
        ClusterVolume interface {}?; CreatedAt string?; Driver string; Labels map[string]string; Mountpoint string;
        Name string; Options map[string]string; Scope string; Status map[string]interface {}?;
        UsageData *volume.UsageData?""",
    "volume.UsageData": "RefCount int64; Size int64",
    "events.Message": """
        Status(status) string?; ID(id) string?; From(from) string?; Type events.Type; Action events.Action;
        Actor events.Actor; Scope(scope) string?; Time(time) int64?; TimeNano(timeNano) int64?""",
    "events.Actor": "ID string; Attributes map[string]string",
    "types.Version": """
        Platform types.VersionPlatform; Components []types.ComponentVersion?; Version string;
        APIVersion(ApiVersion) string; MinAPIVersion string?; GitCommit string; GoVersion string; Os string;
        Arch string; KernelVersion string?; Experimental bool?; BuildTime string?""",
    "types.VersionPlatform": "Name string",
    "types.ComponentVersion": "Name string; Version string; Details map[string]string?",
    "system.platformInfo": "Name string?",
    "system.clientVersion": """
        Platform *system.platformInfo?; Version string?; APIVersion(ApiVersion) string?; DefaultAPIVersion string?;
        GitCommit string?; GoVersion string?; Os string?; Arch string?; BuildTime string?; Context string""",
    "system.versionInfo": "Client system.clientVersion; Server *types.Version",
    "system.dockerInfo": """
        ~*system.Info; ServerErrors []string?; ClientInfo *system.clientInfo?; ClientErrors []string?""",
    "system.sparseInfo": "ClientInfo *system.clientInfo?; ClientErrors []string?",
    "system.clientInfo": "Debug bool; ~system.clientVersion; Plugins []interface {}; Warnings []string",
    "system.Info": """
        ID string; Containers int; ContainersRunning int; ContainersPaused int; ContainersStopped int; Images int;
        Driver string; DriverStatus [][2]string; SystemStatus [][2]string?; Plugins system.PluginsInfo;
        MemoryLimit bool; SwapLimit bool; KernelMemory bool?; KernelMemoryTCP bool?; CPUCfsPeriod(CpuCfsPeriod) bool;
        CPUCfsQuota(CpuCfsQuota) bool; CPUShares bool; CPUSet bool; PidsLimit bool; IPv4Forwarding bool; Debug bool;
        NFd int; OomKillDisable bool; NGoroutines int; SystemTime string; LoggingDriver string; CgroupDriver string;
        CgroupVersion string?; NEventsListener int; KernelVersion string; OperatingSystem string; OSVersion string;
        OSType string; Architecture string; IndexServerAddress string; RegistryConfig *registry.ServiceConfig; NCPU int;
        MemTotal int64; GenericResources []interface {}; DockerRootDir string; HTTPProxy(HttpProxy) string;
        HTTPSProxy(HttpsProxy) string; NoProxy string; Name string; Labels []string; ExperimentalBuild bool;
        ServerVersion string; Runtimes map[string]system.RuntimeWithStatus; DefaultRuntime string; Swarm swarm.Info;
        LiveRestoreEnabled bool; Isolation container.Isolation; InitBinary string; ContainerdCommit system.Commit;
        RuncCommit system.Commit; InitCommit system.Commit; SecurityOptions []string; ProductLicense string?;
        DefaultAddressPools []system.NetworkAddressPool?; FirewallBackend *system.FirewallInfo?; CDISpecDirs []string;
        DiscoveredDevices []system.DeviceInfo?; Containerd *system.ContainerdInfo?; Warnings []string""",
    "system.PluginsInfo": "Volume []string; Network []string; Authorization []string; Log []string",
    "registry.ServiceConfig": """
        AllowNondistributableArtifactsCIDRs []string?; AllowNondistributableArtifactsHostnames []string?;
        InsecureRegistryCIDRs []string; IndexConfigs map[string]*registry.IndexInfo; Mirrors []string""",
    "registry.IndexInfo": "Name string; Mirrors []string; Secure bool; Official bool",
    "system.RuntimeWithStatus": "~system.Runtime; Status(status) map[string]string?",
    "system.Runtime": """
        Path(path) string?; Args(runtimeArgs) []string?; Type(runtimeType) string?;
        Options(options) map[string]interface {}?""",
    "swarm.Info": """
        NodeID string; NodeAddr string; LocalNodeState swarm.LocalNodeState; ControlAvailable bool; Error string;
        RemoteManagers []interface {}; Nodes int?; Managers int?; Cluster interface {}?; Warnings []string?""",
    "system.Commit": "ID string; Expected string?",
    "system.NetworkAddressPool": "Base string; Size int",
    "system.FirewallInfo": "Driver string; Info [][2]string?",
    "system.DeviceInfo": "Source string; ID string",
    "system.ContainerdInfo": "Address string?; Namespaces system.ContainerdNamespaces",
    "system.ContainerdNamespaces": "Containers string; Plugins string",
    "struct {}": "",
}

# Types that are strings with a name of their own: to a function that takes a string they are something else.
NAMED_STRINGS = frozenset(
    (
        "nat.Port",
        "mount.Type",
        "mount.Propagation",
        "mount.Consistency",
        "container.NetworkMode",
        "container.CgroupnsMode",
        "container.IpcMode",
        "container.CgroupSpec",
        "container.PidMode",
        "container.UTSMode",
        "container.UsernsMode",
        "container.Isolation",
        "container.RestartPolicyMode",
        "digest.Digest",
        "events.Type",
        "events.Action",
        "swarm.LocalNodeState",
    )
)

# Structs whose pointers print in a way of their own.
STRINGERS: dict[str, Callable[[Struct], str]] = {
    "units.Ulimit": lambda u: f"{u.values['Name']}={u.values['Soft']}:{u.values['Hard']}",
    "blkiodev.WeightDevice": lambda d: f"{d.values['Path']}:{d.values['Weight']}",
    "blkiodev.ThrottleDevice": lambda d: f"{d.values['Path']}:{d.values['Rate']}",
}

# Structs that Docker's client writes as JSON by way of a map: their keys are sorted.
WRITTEN_SORTED = frozenset(("registry.ServiceConfig", "registry.IndexInfo"))

_types: dict[str, Type] = {
    "string": STRING,
    "interface {}": ANY,
    "bool": Type("bool", "bool"),
    "time.Time": Type("time.Time", "time"),
    **{name: Type(name, "int") for name in ("int", "int64", "uint", "uint16", "uint32", "uint64", "time.Duration")},
}


class ShapeError(ValueError):
    """JSON that does not have the shape that it should."""


def type_of(name: str) -> Type:
    """A type by its Go name."""
    known = _types.get(name)
    if known is not None:
        return known
    if name.startswith("*"):
        made = Type(name, "pointer", type_of(name[1:]))
    elif name.startswith("map["):
        key, _, element = name[4:].partition("]")
        made = MapType(type_of(key), type_of(element))
    elif name.startswith("["):
        made = Type(name, "slice", type_of(name.partition("]")[2]))
    elif name in NAMED_STRINGS:
        made = Type(name, "string")
    else:
        made = Type(name, "struct", fields=tuple(_fields(STRUCTS[name])))
        made.stringer = STRINGERS.get(name)
        made.written_sorted = name in WRITTEN_SORTED
    _types[name] = made
    return made


def _fields(text: str) -> list[StructField]:
    fields: list[StructField] = []
    for item in text.split(";"):
        name, _, type = item.strip().partition(" ")
        if name.startswith("~"):
            inner = name[1:].rpartition(".")[2]
            fields.append(StructField(inner, "", type_of(name[1:]), False, embedded=True))
        elif name:
            name, _, json = name.partition("(")
            fields.append(StructField(name, json[:-1] or name, type_of(type.removesuffix("?")), type.endswith("?")))
    return fields


def typed(value: Any, name: str) -> Value:
    """Parsed JSON as a value of the Go type of that name. Raises ShapeError where it does not fit."""
    return _typed(value, type_of(name))


# What JSON holds for a kind of type.
JSON_TYPES = {"string": str, "bool": bool, "int": int, "time": str, "slice": list, "map": dict, "struct": dict}


def _typed(value: Any, type: Type) -> Value:
    if value is None:
        return zero(type)
    if type.kind == "pointer" and type.element is not None:
        return Pointer(type, _typed(value, type.element))
    expected = JSON_TYPES.get(type.kind)
    if expected is not None and (not isinstance(value, expected) or (isinstance(value, bool) and expected is int)):
        raise ShapeError(f"{type.name} expected")
    match type.kind:
        case "string":
            return value if type is STRING else Named(value, type.name)
        case "int":
            return Duration(value) if type.name == "time.Duration" else value
        case "time":
            return Time(value)
        case "slice" if type.element is not None:
            return Slice(type, [_typed(item, type.element) for item in value])
        case "map" if isinstance(type, MapType) and type.element is not None:
            key, element = type.key, type.element
            return Map(type, {_typed(k, key): _typed(v, element) for k, v in value.items()})
        case "struct":
            return Struct(
                type, {f.name: _typed(value if f.embedded else value.get(f.json), f.type) for f in type.fields}
            )
    return value
