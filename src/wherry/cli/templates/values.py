"""The API's JSON as a template sees it: what is a struct, what a map, and what stands for what is not there.

A plain dict is a struct, whose fields are known; a `Map` may have any keys. Docker's client knows of each field what
type it has; of what matters to a template, this knows as much from the fields' names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = Any


class Map(dict):  # type: ignore[type-arg]  # of whatever JSON holds
    """Names and values, like labels: one that is not there is no mistake."""


class NullMap(Map):
    """A null where a map belongs."""


class NullList(list):  # type: ignore[type-arg]
    """A null where a list belongs: empty, but null in JSON."""


class Duration(int):
    """Nanoseconds."""

    def __str__(self) -> str:
        """1h2m3.5s, 250ms, 0s: as Go's Duration.String."""
        sign, rest = "-" if self < 0 else "", abs(int(self))
        if rest < 10**9:
            size, unit = next(((s, u) for s, u in ((10**6, "ms"), (10**3, "µs"), (1, "ns")) if rest >= s), (1, "s"))
            return f"{sign}{rest / size:g}{unit}"
        minutes, rest = divmod(rest, 60 * 10**9)
        hours, minutes = divmod(minutes, 60)
        before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        whole, part = divmod(rest, 10**9)
        return f"{sign}{before}{f'{whole}.{part:09d}'.rstrip('0').rstrip('.')}s"


class Time(str):
    """A moment as the JSON has it (RFC 3339)."""

    __slots__ = ()

    def __str__(self) -> str:
        """As Go's Time.String: 2006-01-02 15:04:05.999999999 -0700 MST."""
        date, _, clock = self[:].partition("T")
        clock, zone = (clock[:-1], "+0000 UTC") if clock.endswith("Z") else (clock[:-6], clock[-6:].replace(":", ""))
        if "." in clock:
            clock = clock.rstrip("0").rstrip(".")
        # An offset that is not UTC has no name but itself.
        return f"{date} {clock} {zone if ' ' in zone else f'{zone} {zone}'}"


# What a field is when JSON has null for it, or leaves it out. With a dot: the field of the one before it.
_KINDS: dict[str, type] = {
    name: kind
    for kind, names in (
        (NullMap, "Annotations Attributes Containers Data Details DriverOpts ExposedPorts IndexConfigs Labels "
                  "LogConfig.Config Networks Options PortBindings Ports Runtimes StorageOpt Sysctls Tmpfs Volumes"),
        (NullList, "Aliases Args BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps "
                   "BlkioWeightDevice Binds CDISpecDirs CapAdd CapDrop ClientErrors Cmd Components "
                   "DNSNames DefaultAddressPools DeviceCgroupRules DeviceIDs DeviceRequests Devices Dns DnsOptions "
                   "DnsSearch DriverStatus Entrypoint Env ExecIDs ExtraHosts GroupAdd IPAM.Config Layers Links "
                   "LinkLocalIPs Log MaskedPaths Mounts OnBuild Peers Plugins ReadonlyPaths RepoDigests RepoTags "
                   "SecondaryIPAddresses SecondaryIPv6Addresses SecurityOpt SecurityOptions ServerErrors Shell Test "
                   "Ulimits VolumesFrom Warnings"),
        (str, "Author BuildTime Comment Container DockerVersion GlobalIPv6Address IPv6Gateway "
              "MacAddress Name OsVersion Parent ProductLicense StopSignal Variant"),
        (bool, "ArgsEscaped Experimental NetworkDisabled ReadOnly"),
        (int, "KernelMemory KernelMemoryTCP Retries"),
        (Duration, "Interval StartInterval StartPeriod Timeout"),
        (Time, "End LastTagTime Start"),
    )
    for name in names.split()
}  # fmt: skip
_NOTHING = frozenset(
    ("BindOptions", "ClientInfo", "Descriptor", "Health", "Healthcheck", "IPAMConfig", "ImageManifestDescriptor",
     "Init", "MemorySwappiness", "OomKillDisable", "PidsLimit", "SizeRootFs", "SizeRw", "StopTimeout", "TmpfsOptions",
     "UsageData", "VolumeOptions")
)  # fmt: skip


class _Absent:
    """No value at all: a key that a map does not have. Not the same as a null that is there."""

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


def shaped(value: Value, name: str = "") -> Value:
    """Parsed JSON, with what the names of its fields tell of them."""
    if isinstance(value, dict):
        last = name.rpartition(".")[2]
        made = {key: shaped(item, f"{last}.{key}") for key, item in value.items()}
        return Map(made) if _kind(name) is NullMap else made
    if isinstance(value, list):
        return [shaped(item, name) for item in value]
    kind = _kind(name)
    if value is None:
        return kind() if kind else None
    return kind(value) if kind in (Duration, Time) else value


def _kind(name: str) -> type | None:
    return _KINDS.get(name) or _KINDS.get(name.rpartition(".")[2])


def find(struct: dict[str, Value], name: str) -> Value:
    """A field by the name that JSON or Go has for it (Id, ID). Raises KeyError when there is none."""
    if name in struct:
        return struct[name]
    if name[:1].isupper():
        for key in struct:
            if key.lower() == name.lower():
                return struct[key]
    if name in _NOTHING:
        return None
    if name == "Name" and "Destination" not in struct:
        raise KeyError(name)  # only of mounts it is left out
    return _KINDS[name]()


def type_name(value: Value) -> str:
    """The name of a value's Go type."""
    for python, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (list, "[]interface {}"),
                         (dict, "map[string]interface {}")):  # fmt: skip
        if isinstance(value, python):
            return name
    return "interface {}"


def truth(value: Value) -> bool:
    """Go templates' idea of true: neither empty, nor zero, nor nil. A struct is always true."""
    return bool(value) or (type(value) is dict)
